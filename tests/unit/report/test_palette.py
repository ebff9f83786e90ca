"""Contrasts as WCAG 2.2 defines them: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

from __future__ import annotations

import dataclasses

import pytest

from pytest_edgeai.report.palette import (
    DARK,
    LIGHT,
    MARK_ROLES,
    TEXT_ROLES,
    Palette,
    style_sheet,
    variable,
)

PALETTES = (pytest.param(LIGHT, id="light"), pytest.param(DARK, id="dark"))


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("role", TEXT_ROLES)
def test_text_can_be_read(palette: Palette, role: str) -> None:
    for behind in (palette.page, palette.panel):
        assert contrast(palette.roles()[role], behind) >= 4.5


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("role", [*MARK_ROLES, "ink"])
def test_marks_can_be_seen_on_the_shaded_part_too(palette: Palette, role: str) -> None:
    for behind in (palette.page, palette.panel, palette.shade):
        assert contrast(palette.roles()[role], behind) >= 3


def test_every_role_has_its_color_in_both() -> None:
    sheet = style_sheet()
    light, dark = sheet.split("@media (prefers-color-scheme:dark)")
    for field in dataclasses.fields(Palette):
        assert f"--{field.name}:{LIGHT.roles()[field.name]};" in light
        assert f"--{field.name}:{DARK.roles()[field.name]};" in dark
        assert variable(field.name) == f"var(--{field.name})"
