"""What the tests with real processes share."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import FrameworkMissing
from pytest_edgeai.records import Recipe, RuntimeOptions, TensorSpec
from pytest_edgeai.worker.host import Worker, WorkerSpec

FAULTY = FrameworkDescriptor(
    name="faulty",
    implementation="faulty_frameworks:Faulty",
    install="pip install faulty",
    distributions=("numpy",),
    formats=("onnx",),
    schemes={"convert": "float32"},
)

MakeSpec: TypeAlias = Callable[..., WorkerSpec]


@pytest.fixture
def make_spec(monkeypatch: pytest.MonkeyPatch) -> MakeSpec:
    """Return a function that describes a worker of one class of ``faulty_frameworks``."""
    monkeypatch.syspath_prepend(Path(__file__).parent)

    def make(
        name: str = "Faulty",
        *,
        interpreter: Path | None = None,
        distributions: tuple[str, ...] = ("numpy",),
        **environment: str,
    ) -> WorkerSpec:
        descriptor = replace(
            FAULTY, implementation=f"faulty_frameworks:{name}", distributions=distributions
        )
        return WorkerSpec(descriptor, interpreter or Path(sys.executable), environment)

    return make


@pytest.fixture
def worker(make_spec: MakeSpec) -> Iterator[Worker]:
    """A worker of the faulty framework."""
    with Worker.start(make_spec(), time_limit_s=30) as started:
        yield started


@pytest.fixture
def is_running() -> Callable[[int], bool]:
    """Return whether a process exists and is no zombie."""

    def check(pid: int) -> bool:
        import psutil

        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    return check


@pytest.fixture
def wait_until_gone(is_running: Callable[[int], bool]) -> Callable[[int], bool]:
    """Return whether a process ended within some seconds."""

    def wait(pid: int) -> bool:
        deadline = time.monotonic() + 20
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        return not is_running(pid)

    return wait


Session: TypeAlias = Callable[..., Worker]


@pytest.fixture
def framework_worker() -> Iterator[Session]:
    """Return a function that starts a worker of a real framework, or skips where it is missing."""
    with contextlib.ExitStack() as stack:

        def start(descriptor: FrameworkDescriptor, **environment: str) -> Worker:
            spec = WorkerSpec(descriptor, Path(sys.executable), environment)
            try:
                worker = Worker.start(spec, time_limit_s=120)
            except FrameworkMissing as missing:
                pytest.skip(str(missing))
            return stack.enter_context(worker)

        yield start


@dataclass(frozen=True)
class ModelFiles:
    """A model, its input samples and what NumPy says its output is."""

    path: Path
    arrays: dict[str, Path]
    inputs: list[TensorSpec]
    expected: NDArray[np.float32]


MakeModel: TypeAlias = Callable[..., ModelFiles]
SAMPLES = 42


@pytest.fixture
def convolution(tmp_path: Path) -> MakeModel:
    """Return a function that writes convolution, ReLU and a dense layer, on 8x8 images."""
    onnx = pytest.importorskip("onnx", reason='run: pip install "pytest-edgeai[onnx]"')
    from onnx import helper, numpy_helper

    def make(
        batch: int | str = "N",
        opset: int = 17,
        *,
        external: bool = False,
        dtype: str = "float32",
        bias_shape: tuple[int, ...] = (10,),
    ) -> ModelFiles:
        rng = np.random.default_rng(5)
        images = rng.normal(size=(SAMPLES, 3, 8, 8)).astype(dtype)
        kernels = rng.normal(size=(8, 3, 3, 3)).astype(dtype)
        dense = (rng.normal(size=(8 * 6 * 6, 10)) / 10).astype(dtype)
        bias = rng.normal(size=bias_shape).astype(dtype)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["image", "kernels"], ["filtered"], name="conv"),
                helper.make_node("Relu", ["filtered"], ["positive"], name="relu"),
                helper.make_node("Flatten", ["positive"], ["flat"], name="flatten"),
                helper.make_node("Gemm", ["flat", "dense", "bias"], ["scores"], name="gemm"),
                helper.make_node("Identity", ["scores"], ["copy"], name="identity"),
            ],
            "convolution",
            [helper.make_tensor_value_info("image", element, [batch, 3, 8, 8])],
            [
                helper.make_tensor_value_info("scores", element, [batch, 10]),
                helper.make_tensor_value_info("copy", element, [batch, 10]),
            ],
            [
                numpy_helper.from_array(kernels, "kernels"),
                numpy_helper.from_array(dense, "dense"),
                numpy_helper.from_array(bias, "bias"),
            ],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        path = tmp_path / "model.onnx"
        if external:
            onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=64)
        else:
            onnx.save(model, path)
        np.save(tmp_path / "image.npy", images)
        windows = np.lib.stride_tricks.sliding_window_view(images.astype("f8"), (3, 3), (2, 3))
        filtered = np.einsum("nchwij,ocij->nohw", windows, kernels.astype("f8"))
        flat = np.maximum(filtered, 0).reshape(SAMPLES, -1)
        expected = flat @ dense.astype("f8") + bias
        spec = TensorSpec("image", dtype, (None if batch == "N" else int(batch), 3, 8, 8))
        return ModelFiles(
            path, {"image": tmp_path / "image.npy"}, [spec], expected.astype(np.float32)
        )

    return make


@dataclass
class Driver:
    """Requests to one worker of a real framework."""

    worker: Worker
    folder: Path

    def load(self, path: Path | str, **runtime: Any) -> Any:
        """Load a model as ``m``."""
        return self.worker.request(
            "load", time_limit_s=60, handle="m", path=path, runtime=RuntimeOptions(**runtime)
        )

    def evaluate(self, model: ModelFiles, batch: int | None = 4) -> dict[str, NDArray[Any]]:
        """Return the outputs of ``m`` for all samples."""
        done = self.worker.request(
            "evaluate",
            time_limit_s=60,
            handle="m",
            arrays=model.arrays,
            samples=SAMPLES,
            batch=batch,
            output=self.folder / "outputs",
        )
        return {name: np.load(path) for name, path in done["outputs"].items()}

    def optimize(
        self,
        model: ModelFiles,
        scheme: str,
        *,
        architecture: str = "convolutional",
        batch: int | None = 4,
        calibrated: bool = True,
        **options: Any,
    ) -> Any:
        """Make an artifact; returns the result and the progress."""
        name = self.worker.spec.framework.name
        calibration = {"arrays": model.arrays, "batch": batch} if calibrated else None
        self.progress: list[tuple[str, float]] = []
        return self.worker.request(
            "optimize",
            time_limit_s=120,
            on_progress=lambda what, fraction: self.progress.append((what, fraction)),
            source=model.path,
            recipe=Recipe(name, scheme, options),
            architecture=architecture,
            inputs=model.inputs,
            calibration=calibration,
            output=self.folder / f"made-{scheme}",
        )

    def execution(self) -> Any:
        """Return what ``m`` executes."""
        return self.worker.request("execution", time_limit_s=60, handle="m")


@pytest.fixture
def drive(framework_worker: Session, tmp_path: Path) -> Callable[..., Driver]:
    """Return a function that starts a framework's worker, with short names for its requests."""

    def start(descriptor: FrameworkDescriptor, **environment: str) -> Driver:
        return Driver(framework_worker(descriptor, **environment), tmp_path)

    return start
