"""The pytest plugin: one hook, and nothing that costs time while pytest starts."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_edgeai.descriptors import FrameworkDescriptor


def pytest_edgeai_frameworks() -> Sequence[FrameworkDescriptor]:
    """Describe MNN; its own code is imported in its worker process alone."""
    from pytest_edgeai.descriptors import FrameworkDescriptor

    return [
        FrameworkDescriptor(
            name="mnn",
            implementation="pytest_edgeai_mnn.framework:Mnn",
            install='pip install "MNN>=3.6"',
            distributions=("MNN",),
            formats=("onnx",),
            schemes={
                "convert": "float32",
                "int8-weights": "int8",
                "int4-weights": "int4",
                "float16-weights": "float16",
            },
            options={
                "int8-weights": ("asymmetric",),
                "int4-weights": ("asymmetric",),
                "float16-weights": (),
            },
        )
    ]
