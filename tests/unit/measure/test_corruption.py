"""Corruptions: which fit, what they do, and that both models meet the same ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.errors import ModelError, NotCertified
from pytest_edgeai.measure import corruption_images as pictures
from pytest_edgeai.measure import corruption_signals as signals
from pytest_edgeai.measure import corruption_text as texts
from pytest_edgeai.measure.corruption import (
    CorruptionPlan,
    ImageSettings,
    fitting_names,
    generator,
    plan_corruptions,
)
from pytest_edgeai.tasks import CORRUPTIONS, TASKS

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((6, 3, 32, 32)).astype(np.float32)
WHERE = "edgeai.toml [models.m] data"


def plan(
    arrays: dict[str, NDArray[Any]],
    task: str = "image-classification",
    asked: tuple[str, ...] | None = None,
    settings: ImageSettings | None = None,
    directory: Path | None = None,
) -> CorruptionPlan:
    return plan_corruptions(
        arrays, task, asked, settings or ImageSettings(), directory or Path(), WHERE
    )


def corrupt(
    array: NDArray[Any],
    name: str,
    severity: int = 3,
    task: str = "image-classification",
    settings: ImageSettings | None = None,
) -> NDArray[Any]:
    [corruption] = plan({"x": array}, task, (name,), settings).corruptions
    return corruption.apply({"x": array}, np.arange(len(array)), severity)["x"]


# -- which fit


def test_every_task_that_a_corruption_names_exists() -> None:
    assert {task for tasks in CORRUPTIONS.values() for task in tasks} <= set(TASKS)
    assert set(CORRUPTIONS) == {
        *pictures.EFFECTS,
        *texts.EFFECTS,
        "audio_noise",
        "gain",
        "feature_noise",
    }


def test_labels_with_a_place_in_the_image_forbid_a_shift() -> None:
    assert "shift" in fitting_names("image-classification", None)
    assert "shift" not in fitting_names("object-detection", None)
    assert fitting_names("reinforcement-learning", None) == ()
    assert fitting_names("tabular-regression", ("typos", "own:noise")) == ("own:noise",)


def test_what_does_not_fit_is_left_out_or_refused_where_it_was_asked_for() -> None:
    many = {"x": np.zeros((4, 7, 16, 16), np.float32)}
    settings = ImageSettings(channel_axis=1)
    found = plan(many, settings=settings)
    assert [each.name for each in found.corruptions] == [
        "gaussian_noise",
        "gaussian_blur",
        "brightness",
        "shift",
    ]
    assert any("jpeg left out: JPEG has 1 or 3 channels, the images 7" in n for n in found.notes)
    with pytest.raises(ModelError, match='"jpeg" does not fit: JPEG has 1 or 3 channels'):
        plan(many, asked=("jpeg",), settings=settings)
    with pytest.raises(ModelError, match="no input of the model holds images"):
        plan({"x": np.zeros((4, 7), np.float32)}, asked=("gaussian_noise",))


def test_jpeg_without_pillow_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    found = plan({"x": IMAGES})
    assert "jpeg" not in [each.name for each in found.corruptions]
    assert 'run: pip install "pytest-edgeai[images]"' in found.missing["jpeg"]
    with pytest.raises(NotCertified):
        pictures.load_pillow()


# -- images


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (IMAGES, "layout NCHW (inferred), range 0 to 1 (inferred)"),
        (np.moveaxis(IMAGES, 1, -1), "layout NHWC (inferred), range 0 to 1 (inferred)"),
        (IMAGES[:, 0], "layout gray (inferred), range 0 to 1 (inferred)"),
        ((IMAGES * 255).astype(np.uint8), "layout NCHW (inferred), range 0 to 255 (of its type)"),
        (IMAGES * 255, "layout NCHW (inferred), range 0 to 255 (inferred)"),
        (IMAGES * 2 - 1, "layout NCHW (inferred), range -1 to 1 (inferred)"),
        ((IMAGES * 255).astype(np.int64), "range 0 to 255 (inferred)"),
        (IMAGES * 4 - 2, "range each channel's own, -2"),
    ],
)
def test_layout_and_range_are_inferred_and_stated(array: NDArray[Any], words: str) -> None:
    assert words in pictures.image_format(array, None, None, None, WHERE).text


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((4, 7, 16, 16), (None, None, None), "robustness_channel_axis"),
        ((4, 3, 16, 3), (None, None, None), "robustness_channel_axis"),
        ((4, 3, 16, 16), (4, None, None), "channel axis 4 of an array of shape"),
        ((4, 3, 16, 16), (None, 0.0, None), "a range from 0.0 to None"),
        ((4, 3, 16, 16), (None, 1.0, 0.0), "a range from 1.0 to 0.0"),
        ((4, 3, 2, 16), (None, None, None), "no images of 4 pixels"),
    ],
)
def test_images_that_cannot_be_read_are_one_line(
    shape: tuple[int, ...], settings: tuple[Any, ...], words: str
) -> None:
    axis, low, high = settings
    with pytest.raises(ModelError) as raised:
        pictures.image_format(np.zeros(shape, np.float32), axis, low, high, WHERE)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["gaussian_noise", "gaussian_blur", "brightness", "shift"])
def test_layout_type_and_parts_change_nothing(name: str) -> None:
    whole = corrupt(IMAGES, name)
    assert whole.dtype == np.float32
    assert whole.shape == IMAGES.shape
    assert not np.array_equal(whole, IMAGES)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert np.array_equal(whole, corrupt(IMAGES, name)), "it is always the same"
    last = np.moveaxis(corrupt(np.moveaxis(IMAGES, 1, -1), name), -1, 1)
    assert np.allclose(whole, last, atol=1e-6)
    [corruption] = plan({"x": IMAGES}, asked=(name,)).corruptions
    part = corruption.apply({"x": IMAGES[4:]}, np.array([4, 5]), 3)["x"]
    assert np.array_equal(part, whole[4:]), "a part is corrupted as it is in the whole"
    signed = corrupt(IMAGES * 2 - 1, name)
    assert np.allclose((signed + 1) / 2, whole, atol=1e-5)
    integers = (IMAGES * 255).round().astype(np.uint8)
    assert corrupt(integers, name).dtype == np.uint8
    assert np.allclose(corrupt(integers, name) / 255, whole, atol=0.02)


def test_noise_has_the_stated_deviation() -> None:
    gray = np.full((8, 1, 64, 64), 0.5, np.float32)
    ranged = ImageSettings(low=0.0, high=1.0)
    for severity in range(1, 6):
        noisy = corrupt(gray, "gaussian_noise", severity, settings=ranged)
        expected = pictures.NOISE[0][severity - 1]
        assert noisy.std() == pytest.approx(expected, rel=0.05)
    large = np.full((2, 1, 100, 100), 0.5, np.float32)
    noisy = corrupt(large, "gaussian_noise", 2, settings=ranged)
    assert noisy.std() == pytest.approx(pictures.NOISE[1][1], rel=0.05)


def test_blur_keeps_the_mean_and_lowers_the_contrast_the_more_the_stronger_it_is() -> None:
    spreads = [corrupt(IMAGES, "gaussian_blur", severity).std() for severity in range(1, 6)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] < IMAGES.std()
    assert corrupt(IMAGES, "gaussian_blur").mean() == pytest.approx(IMAGES.mean(), abs=0.01)


def test_brightness_keeps_hue_and_saturation() -> None:
    import colorsys

    dark = np.array([0.4, 0.2, 0.1], np.float32).reshape(1, 3, 1, 1)
    images = np.tile(dark, (1, 1, 8, 8))
    lit = corrupt(images, "brightness", 3, settings=ImageSettings(low=0.0, high=1.0))[0, :, 0, 0]
    hue, saturation, value = colorsys.rgb_to_hsv(*lit.tolist())
    assert (hue, saturation) == pytest.approx(colorsys.rgb_to_hsv(0.4, 0.2, 0.1)[:2], abs=1e-5)
    assert value == pytest.approx(0.4 + pictures.BRIGHTNESS[0][2])
    black = corrupt(np.zeros((1, 3, 8, 8), np.float32), "brightness", 3)
    assert np.allclose(black, pictures.BRIGHTNESS[0][2])


def test_a_shift_moves_the_image_and_repeats_its_edge() -> None:
    images = np.zeros((20, 1, 32, 32), np.float32)
    images[:, 0, 16, 16] = 1
    moved = corrupt(images, "shift", 5)
    places = {tuple(np.argwhere(image[0])[0].tolist()) for image in moved}
    assert places == {(13, 13), (13, 19), (19, 13), (19, 19)}
    assert (moved.sum(axis=(1, 2, 3)) == 1).all()


def test_jpeg_is_close_to_the_image_and_worse_with_every_severity() -> None:
    pytest.importorskip("PIL", reason='run: pip install "pytest-edgeai[images]"')
    smooth = np.linspace(0, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)
    for array in (smooth, smooth[:, :1], smooth[:, 0]):
        apart = [np.abs(corrupt(array, "jpeg", s) - array).mean() for s in (1, 5)]
        assert 0 < apart[0] < apart[1] < 0.1


def test_videos_and_opacity() -> None:
    video = RANDOM.random((2, 5, 3, 16, 16)).astype(np.float32)
    noisy = corrupt(video, "gaussian_noise", task="video-classification")
    assert noisy.shape == video.shape
    assert not np.array_equal(noisy[0, 0] - video[0, 0], noisy[0, 1] - video[0, 1])
    clear = RANDOM.random((2, 4, 16, 16)).astype(np.float32) / 2
    lit = corrupt(clear, "brightness", settings=ImageSettings(low=0.0, high=1.0))
    assert np.allclose(lit[:, 3], clear[:, 3])
    assert (lit[:, :3] > clear[:, :3]).all()


# -- sound and tables


def test_audio_noise_has_the_stated_ratio_and_leaves_the_padding() -> None:
    time = np.arange(16_000) / 16_000
    wave = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    padded = np.concatenate([wave, np.zeros(4_000, np.float32)])[np.newaxis]
    for severity, decibels in enumerate(signals.SIGNAL_TO_NOISE_DB, 1):
        noisy = corrupt(padded, "audio_noise", severity, "audio-classification")
        noise = (noisy - padded)[0, :16_000]
        assert 20 * np.log10(wave.std() / noise.std()) == pytest.approx(decibels, abs=0.3)
        assert not noisy[0, 16_000:].any()


def test_gain_goes_both_ways_and_clips_at_full_scale() -> None:
    waves = np.full((40, 100), 0.4, np.float32)
    levels = {round(float(x), 3) for x in corrupt(waves, "gain", 5, "audio-classification")[:, 0]}
    assert levels == {1.0, round(0.4 * 10 ** (-18 / 20), 3)}
    integers = np.full((40, 100), 30_000, np.int16)
    louder = corrupt(integers, "gain", 5, "audio-classification")
    assert louder.dtype == np.int16
    assert louder.max() == 32_767
    spectrogram = {"x": np.ones((3, 40, 90), np.float32)}
    found = plan(spectrogram, "audio-classification")
    assert [each.name for each in found.corruptions] == ["audio_noise"]
    assert "gain left out: no input of the model holds a waveform" in found.notes


def test_feature_noise_follows_each_features_spread_and_leaves_codes() -> None:
    table = np.stack(
        [RANDOM.normal(scale=5, size=2000), RANDOM.integers(0, 3, 2000), np.full(2000, 7.5)], axis=1
    ).astype(np.float32)
    noisy = corrupt(table, "feature_noise", 3, "tabular-classification")
    assert (noisy - table)[:, 0].std() == pytest.approx(0.2 * table[:, 0].std(), rel=0.1)
    assert np.array_equal(noisy[:, 1:], table[:, 1:])
    counts = RANDOM.integers(0, 1000, (500, 2))
    noisy = corrupt(counts, "feature_noise", 5, "tabular-classification")
    assert noisy.dtype == np.int64
    assert noisy.min() >= counts.min()
    assert noisy.max() <= counts.max()
    with pytest.raises(ModelError, match="every feature is constant or a code"):
        corrupt(table[:, 1:], "feature_noise", 3, "tabular-classification")


# -- text


def test_typos_are_about_as_many_as_stated() -> None:
    text = "the quick brown fox jumps over the lazy dog, 1234 times. " * 200
    typed = texts.typos(text, 0.05, generator("typos", 0))
    assert typed == texts.typos(text, 0.05, generator("typos", 0))
    words = list(zip(text.split(), typed.split(), strict=False))
    assert 0 < sum(a != b for a, b in words) < len(words)
    assert abs(len(typed) - len(text)) < 0.03 * len(text)
    assert "1234" in typed
    assert texts.typos("", 1.0, generator("typos", 0)) == ""
    assert texts.typos(text, 0.0, generator("typos", 0)) == text


def test_case_changes_words_and_nothing_else() -> None:
    text = "One NASA rocket\n" * 100
    changed = texts.case(text, 0.5, generator("case", 0))
    assert changed.lower() == text.lower()
    words = changed.split()
    assert 0.3 < sum(word in ("ONE", "nasa", "ROCKET") for word in words) / len(words) < 0.7


def test_arrays_of_text_are_corrupted_and_token_ids_cannot_be() -> None:
    names = np.array([["a sentence of words"], ["and another one"]] * 20)
    changed = corrupt(names, "case", 5, "text-classification")
    assert changed.shape == names.shape
    assert set(changed.reshape(-1)) == {"A SENTENCE OF WORDS", "AND ANOTHER ONE"}
    ids = {"input_ids": np.ones((3, 8), np.int64)}
    assert plan(ids, "text-classification").corruptions == ()
    with pytest.raises(ModelError, match="token ids, and no text that could be corrupted"):
        plan(ids, "text-classification", ("typos",))


# -- corruptions of the user's own

OWN = """
import numpy as np

def halved(arrays, severity, seed):
    return {name: array / (severity + 1) for name, array in arrays.items()}

def other_name(arrays, severity, seed):
    return {"y": arrays["x"]}

def other_dtype(arrays, severity, seed):
    return {"x": arrays["x"].astype(np.float64)}

def raises(arrays, severity, seed):
    raise KeyError("no such thing")

value = 3
"""


def test_ones_own_corruption_is_called_and_checked(tmp_path: Path) -> None:
    (tmp_path / "own_corruptions.py").write_text(OWN, "utf-8")

    def of(name: str) -> CorruptionPlan:
        return plan({"x": IMAGES}, asked=(f"own_corruptions:{name}",), directory=tmp_path)

    [halved] = of("halved").corruptions
    assert np.allclose(halved.apply({"x": IMAGES}, np.arange(6), 1)["x"], IMAGES / 2)
    assert halved.describe(2) == '"own_corruptions:halved" at severity 2'
    for name, words in (
        ("other_name", "returned other arrays"),
        ("other_dtype", "changed the shape or dtype"),
        ("raises", "raised KeyError"),
    ):
        [corruption] = of(name).corruptions
        with pytest.raises(ModelError, match=words):
            corruption.apply({"x": IMAGES}, np.arange(6), 1)
    for name, words in (("value", "is not callable"), ("nothing", "cannot be imported")):
        with pytest.raises(ModelError, match=words):
            of(name)
