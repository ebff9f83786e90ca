"""The protocol that every framework implements, inside its own worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from pytest_edgeai.profile_records import OperatorTime
from pytest_edgeai.records import Architecture, Recipe, RuntimeOptions, TensorSpec

Feeds: TypeAlias = Mapping[str, NDArray[Any]]
Progress: TypeAlias = Callable[[str, float], None]
"""Called with what is being done and the fraction done (0 to 1)."""


class Calibration(Protocol):
    """Calibration samples, one call's feeds at a time."""

    def __len__(self) -> int:
        """Return the number of feeds."""
        ...

    def __iter__(self) -> Iterator[Feeds]:
        """Yield feeds whose arrays have the shapes and dtypes that the model takes."""
        ...


@dataclass(frozen=True)
class OptimizeRequest:
    """Everything that making one artifact depends on.

    Attributes:
        source: the baseline model's file.
        recipe: what to do; ``recipe.scheme == "convert"`` asks for full precision.
        architecture: class of the model, for options that depend on it.
        inputs: the baseline's inputs.
        calibration: ``None`` where the scheme needs none or the manifest names none.
        output: an empty directory that receives the artifact and nothing else.
    """

    source: Path
    recipe: Recipe
    architecture: Architecture
    inputs: tuple[TensorSpec, ...]
    calibration: Calibration | None
    output: Path


@dataclass(frozen=True)
class OptimizeResult:
    """What was made.

    Attributes:
        path: the file to load; inside ``OptimizeRequest.output``.
        log: what the framework reported, one line each.
    """

    path: Path
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExecutionFacts:
    """What the runtime says it executes after compiling a model.

    Attributes:
        executed_precisions: precision name to number of operators; empty where it cannot tell.
        executed_devices: devices in the runtime's own words.
        weight_elements: dtype name to number of weight elements stored in the artifact, counted by
            the framework; empty for the formats that :mod:`pytest_edgeai.assess` reads by itself.
        quantized_operators: type to number of operators that compute on quantized weights or data,
            as the artifact declares them; likewise.
    """

    executed_precisions: Mapping[str, int]
    executed_devices: tuple[str, ...]
    weight_elements: Mapping[str, int] = field(default_factory=dict)
    quantized_operators: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorProfile:
    """What a runtime's own profiler says of some calls of a model.

    Attributes:
        source: the profiler, in words of the runtime's documentation.
        operators: what each operator took over all calls; empty where the profiler has counters
            alone. What runs inside of another operator (a loop's body) is not counted twice.
        operator_ns: for each call, the time in all operators.
        wall_ns: for each call, its wall time with the profiler on.
        counters: further counters per call, in the runtime's words with their unit.
        note: what a reader has to know of the figures.
    """

    source: str
    operators: tuple[OperatorTime, ...]
    operator_ns: tuple[int, ...]
    wall_ns: tuple[int, ...]
    counters: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class LoadedModel(Protocol):
    """A model that is ready to run."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Inputs as the runtime sees them."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """Outputs as the runtime sees them, in the model's order."""
        ...

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Run once; the returned arrays belong to the caller and the feeds stay untouched."""
        ...

    def bind(self, feeds: Feeds) -> Callable[[], object]:
        """Return the runtime's fastest ordinary way to run the same feeds again and again."""
        ...

    def execution(self) -> ExecutionFacts:
        """Ask the runtime what it really executes."""
        ...

    def close(self) -> None:
        """Release the model."""
        ...


class Framework(Protocol):
    """One framework; its constructor imports it, takes no argument and is called once."""

    def load(self, path: Path, runtime: RuntimeOptions) -> LoadedModel:
        """Load a model that this framework can run.

        Raises:
            ModelError: the file is not a model that this runtime accepts.
        """
        ...

    def load_null_model(self, runtime: RuntimeOptions) -> LoadedModel:
        """Load the smallest model there is: what it takes is the runtime's own memory."""
        ...

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """Make one artifact.

        Raises:
            ModelError: the framework cannot take this model or recipe; says why.
        """
        ...


class ProfilingFramework(Protocol):
    """What a framework offers beside :class:`Framework` whose runtime has a profiler; optional.

    A framework without it is said to have no profiler.
    """

    def profile(
        self, path: Path, runtime: RuntimeOptions, feeds: Feeds, calls: int
    ) -> OperatorProfile:
        """Load a model with the profiler on, run it ``calls`` times, and release it.

        It is a load of its own: what is measured elsewhere never runs with a profiler. Files of the
        profiler are gone afterwards. At least two further calls warm it up and are not counted.

        Raises:
            ModelError: the file is not a model that this runtime accepts.
        """
        ...
