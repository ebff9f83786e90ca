"""The options that a descriptor names are those that its framework takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.records import Recipe

CASES = [
    (framework, scheme)
    for framework in FRAMEWORKS.values()
    for scheme in framework.schemes
    if scheme != "convert"
]


@pytest.mark.parametrize(
    ("framework", "scheme"),
    CASES,
    ids=[f"{framework.name}-{scheme}" for framework, scheme in CASES],
)
def test_named_options_are_taken(
    framework: Any,
    scheme: str,
    framework_worker: Callable[..., Any],
    convolution: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = convolution()
    with pytest.raises(ModelError, match='unknown option "nonsense"') as refused:
        framework_worker(framework).request(
            "optimize",
            time_limit_s=120,
            source=str(model.path),
            recipe=Recipe(framework.name, scheme, {"nonsense": 1}),
            architecture="language-model" if scheme.endswith("-weights") else "convolutional",
            inputs=[],
            calibration=None,
            output=str(tmp_path / "output"),
        )
    assert sorted(refused.value.allowed.split(", ")) == sorted(framework.options[scheme])
