"""The space of a search: every recipe and way to run it that is worth a trial, as plain data.

The space is a tree: framework, scheme, and the dimensions that this scheme has. A value that is the
framework's default leaves no trace in the recipe, so that the default recipe keeps its name and its
artifact.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.plan.compatibility import CONVERT, scheme_fits
from pytest_edgeai.plan.recipes import NEEDS_CALIBRATION, default_recipes
from pytest_edgeai.records import JSON, ModelFacts, Recipe, RuntimeOptions
from pytest_edgeai.specification import Search
from pytest_edgeai.tasks import GENERATION_TASKS

THREADS, BATCH = "threads", "batch"
HINT = "hint:"
"""Begins the name of a dimension that is a hint of the runtime."""
CALIBRATION_CALLS = "calibration_calls"
FEWEST_CALIBRATION_CALLS = 8
MOST_CALIBRATION_CALLS = 300
"""What every framework takes where nobody says otherwise (``optimize.frameworks.support``)."""
SEARCHES = frozenset({"int8-search"})
"""Schemes that search on their own."""
_FLAG = (True, False)
_OFF = (False, True)
_STATIC: Mapping[str, tuple[JSON, ...]] = {
    "per_channel": _FLAG,
    "symmetric_activations": _OFF,
    "calibrate_method": ("minmax", "entropy", "percentile"),
    "activation_type": ("uint8", "int8"),
}
_BLOCKS = (32, 16, 64, 128)
VALUES: Mapping[tuple[str, str], Mapping[str, tuple[JSON, ...]]] = {
    ("onnxruntime", "int8-static"): _STATIC,
    ("onnxruntime", "int4-weights"): {
        "block_size": _BLOCKS,
        "symmetric": _FLAG,
        "accuracy_level": (4, 0),
    },
    ("onnxruntime", "int8-weights"): {"block_size": _BLOCKS, "accuracy_level": (4, 0)},
    ("onnxruntime", "int8-dynamic"): {"per_channel": _FLAG, "weight_type": ("int8", "uint8")},
    ("olive", "int8-static"): _STATIC,
    ("olive", "int8-dynamic"): {"per_channel": _FLAG, "weight_type": ("int8", "uint8")},
    ("olive", "int4-genai"): {
        "block_size": _BLOCKS,
        "algorithm": ("default", "rtn", "k_quant_mixed"),
    },
    ("olive", "int8-genai"): {"block_size": _BLOCKS},
    ("openvino", "int8-static"): {
        "preset": ("performance", "mixed"),
        "fast_bias_correction": _FLAG,
    },
    ("openvino", "int8-weights"): {"mode": ("int8_asym", "int8_sym")},
    ("openvino", "int4-weights"): {
        "mode": ("int4_asym", "int4_sym"),
        "group_size": (64, 32, 128),
        "ratio": (1.0, 0.8, 0.6),
        "all_layers": _OFF,
    },
    ("llamacpp", "q4_k_m"): {"pure": _OFF},
    ("llamacpp", "q2_k"): {"pure": _OFF},
}
"""What each scheme of a framework can be varied in, the default first; what is not named here has
its default alone."""
TRANSFORMER_DEFAULTS: Mapping[tuple[str, str, str], JSON] = {
    ("openvino", "int8-static", "preset"): "mixed",
}
"""Defaults that transformers have in place of the first value (``openvino_optimize``)."""
REDUCED_RANGE: Mapping[tuple[str, str], tuple[JSON, ...]] = {
    (framework, scheme): _OFF
    for framework in ("onnxruntime", "olive")
    for scheme in ("int8-static", "int8-dynamic")
}
"""Weights of 7 bits, for processors whose 8-bit products saturate (AVX2 and AVX-512 without VNNI,
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html)."""
PRUNE_RATIO = "prune_ratio"
PRUNE_RATIOS: tuple[JSON, ...] = (0.0, 0.1)
"""Shares of the channels that structured pruning removes. Nothing is trained again after it, so
that more seldom keeps the accuracy."""
HINTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "onnxruntime": {"graph_optimization_level": ("all", "extended")},
    "olive": {"graph_optimization_level": ("all", "extended")},
}
"""Hints of the runtime, the default first."""
TRANSFORMERS = ("transformer", "mixture-of-experts")
_GENERATION_SCHEMES = frozenset({"int8-weights", "int4-weights"})


@dataclass(frozen=True)
class Point:
    """One recipe and one way to run it.

    Attributes:
        recipe: what it is made by.
        threads: threads of one operator, of both models while they are compared.
        hints: hints of the candidate's runtime.
        batch: samples per call of both models; ``None``: as the model's table says.
    """

    recipe: Recipe
    threads: int
    hints: Mapping[str, str] = field(default_factory=dict)
    batch: int | None = None

    @property
    def key(self) -> str:
        """What tells points apart: a hex digest over the recipe and the way to run it."""
        return digest(
            {
                "framework": self.recipe.framework,
                "scheme": self.recipe.scheme,
                "options": dict(self.recipe.options),
                "threads": self.threads,
                "hints": dict(self.hints),
                "batch": self.batch,
            }
        )

    def runtime(self, device: str) -> RuntimeOptions:
        """Return how the candidate runs."""
        return RuntimeOptions(self.threads, device, dict(self.hints))


@dataclass(frozen=True)
class Branch:
    """One scheme of one framework.

    Attributes:
        framework: name of the framework.
        scheme: name of the scheme.
        dimensions: dimension name to its values, the one to begin with first.
        fixed: options that every recipe of the branch has.
        defaults: dimension name to what the framework does unless it is told.
    """

    framework: str
    scheme: str
    dimensions: Mapping[str, tuple[JSON, ...]]
    fixed: Mapping[str, JSON] = field(default_factory=dict)
    defaults: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of its points."""
        return math.prod(len(values) for values in self.dimensions.values())

    def name(self, dimension: str) -> str:
        """Return the name of a dimension that is its own among all branches."""
        return f"{self.framework}.{self.scheme}.{dimension}"


@dataclass(frozen=True)
class SearchSpace:
    """All of it.

    Attributes:
        branches: the schemes, those of the preferred framework first.
        threads: threads where no dimension says otherwise.
    """

    branches: tuple[Branch, ...]
    threads: int

    @property
    def size(self) -> int:
        """Number of points."""
        return sum(branch.size for branch in self.branches)

    @property
    def frameworks(self) -> tuple[str, ...]:
        """Names of the frameworks, in order."""
        return tuple(dict.fromkeys(branch.framework for branch in self.branches))

    def schemes(self, framework: str) -> tuple[str, ...]:
        """Return the schemes of a framework, in order."""
        return tuple(each.scheme for each in self.branches if each.framework == framework)

    def branch(self, framework: str, scheme: str) -> Branch:
        """Return a branch."""
        wanted = (framework, scheme)
        return next(each for each in self.branches if (each.framework, each.scheme) == wanted)

    def point(self, branch: Branch, choice: Mapping[str, JSON]) -> Point:
        """Return the point of a branch that has ``choice``, dimension name to value."""
        options = dict(branch.fixed)
        hints: dict[str, str] = {}
        threads, batch = self.threads, None
        for name in branch.dimensions:
            value = choice[name]
            if name == THREADS:
                threads = int(value)
            elif name == BATCH:
                batch = int(value)
            elif name in branch.defaults and same(value, branch.defaults[name]):
                continue
            elif name.startswith(HINT):
                hints[name.removeprefix(HINT)] = str(value)
            else:
                options[name] = value
        recipe = Recipe(branch.framework, branch.scheme, options, reason="found by the search")
        return Point(recipe, threads, hints, batch)

    def points(self) -> Iterator[tuple[Branch, Mapping[str, JSON]]]:
        """Yield every point as its branch and choice; the default of each branch comes first."""
        for branch in self.branches:
            for values in itertools.product(*branch.dimensions.values()):
                yield branch, dict(zip(branch.dimensions, values, strict=True))

    def to_json(self) -> dict[str, JSON]:
        """Return scheme by scheme what is varied, as plain JSON."""
        return {
            f"{branch.framework} {branch.scheme}": {
                name: list(values) for name, values in branch.dimensions.items()
            }
            for branch in self.branches
        }


@dataclass(frozen=True)
class SpaceFacts:
    """What a space depends on beside the model's file.

    Attributes:
        task: Hugging Face task name.
        calibration_calls: calls that the calibration data gives; ``None`` where there is none.
        saturates: whether this host's 8-bit products saturate.
        threads: threads where the search is not told otherwise.
    """

    task: str
    calibration_calls: int | None
    saturates: bool
    threads: int


def search_space(
    facts: ModelFacts,
    frameworks: Sequence[FrameworkDescriptor],
    about: SpaceFacts,
    search: Search,
) -> SearchSpace:
    """Return the space for one model; it has no branch where nothing can be tried.

    Args:
        facts: what the model's file says.
        frameworks: those that the plan allows here, the preferred one first.
        about: see there.
        search: the manifest's table, whose ``space`` and ``hints`` take the place of the values
            here.
    """
    branches = []
    for framework in frameworks:
        usual = HINTS.get(framework.name, {})
        hints = search.hints.get(framework.name, usual)
        for scheme in _schemes(facts, framework, about, search):
            plain = _options(facts, framework, scheme, about)
            defaults = {name: values[0] for name, values in plain.items()}
            defaults |= {f"{HINT}{name}": values[0] for name, values in usual.items()}
            dimensions = {name: values for name, values in plain.items() if len(values) > 1}
            dimensions |= {
                name: search.space[name]
                for name in framework.options.get(scheme, ())
                if name in search.space
            }
            dimensions |= {f"{HINT}{name}": tuple(values) for name, values in hints.items()}
            dimensions |= {
                name: search.space[name] for name in (THREADS, BATCH) if name in search.space
            }
            fixed = _fixed(facts, framework.name, scheme)
            kept = {name: values for name, values in dimensions.items() if name not in fixed}
            branches.append(Branch(framework.name, scheme, kept, fixed, defaults))
    return SearchSpace(tuple(branches), about.threads)


def default_choices(
    space: SearchSpace, facts: ModelFacts, *, calibrated: bool
) -> list[tuple[Branch, Mapping[str, JSON]]]:
    """Return where a search begins: the default of each scheme, what a plan would take first."""
    preferred = [
        (recipe.framework, recipe.scheme)
        for framework in space.frameworks
        for recipe in default_recipes(framework, facts.architecture, calibrated=calibrated)
    ]
    order = {name: place for place, name in reversed(list(enumerate(preferred)))}
    branches = sorted(
        space.branches,
        key=lambda each: order.get((each.framework, each.scheme), len(order)),
    )
    return [
        (branch, {name: values[0] for name, values in branch.dimensions.items()})
        for branch in branches
    ]


def label(point: Point, *, threads: int) -> str:
    """Return what tells a point's recipe from others of its scheme; empty for the default.

    It depends on the options and the runtime alone, so that a point keeps its name from session to
    session, and it has neither brackets nor colons.

    Args:
        point: the point.
        threads: the session's threads.
    """
    plain = point.threads == threads and point.batch is None
    if plain and not point.recipe.options and not point.hints:
        return ""
    return f"s{point.key[:8]}"


def digest(value: JSON) -> str:
    """Return the hex SHA-256 over a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def same(one: JSON, other: JSON) -> bool:
    """Return whether two plain values are the same, ``True`` and 1 not being so."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _schemes(
    facts: ModelFacts, framework: FrameworkDescriptor, about: SpaceFacts, search: Search
) -> Iterator[str]:
    wanted = search.space.get("scheme")
    for scheme, fit in scheme_fits(facts, framework, about.task).items():
        if scheme == CONVERT or scheme in SEARCHES or not fit.possible:
            continue
        if scheme in NEEDS_CALIBRATION and about.calibration_calls is None:
            continue
        if framework.name == "openvino":
            if about.task in GENERATION_TASKS and scheme not in _GENERATION_SCHEMES:
                continue
            if about.task not in GENERATION_TASKS and scheme == "int4-weights":
                continue
        if wanted is None or scheme in wanted:
            yield scheme


def _options(
    facts: ModelFacts, framework: FrameworkDescriptor, scheme: str, about: SpaceFacts
) -> dict[str, tuple[JSON, ...]]:
    """Return what a scheme is varied in, the framework's default first in each."""
    key = (framework.name, scheme)
    values = dict(VALUES.get(key, {}))
    if about.saturates and key in REDUCED_RANGE:
        values["reduce_range"] = REDUCED_RANGE[key]
    if about.calibration_calls is not None and scheme in NEEDS_CALIBRATION:
        values[CALIBRATION_CALLS] = _calls(about.calibration_calls)
    values[PRUNE_RATIO] = PRUNE_RATIOS
    if facts.architecture in TRANSFORMERS:
        for name, tried in values.items():
            first = TRANSFORMER_DEFAULTS.get((*key, name))
            if first in tried:
                values[name] = (first, *(value for value in tried if value != first))
    known = framework.options.get(scheme, ())
    return {name: tried for name, tried in values.items() if name in known}


def _calls(available: int) -> tuple[JSON, ...]:
    """Return calibration sizes: all that is taken anyway, and a quarter of it."""
    most = min(available, MOST_CALIBRATION_CALLS)
    fewer = most // 4
    return (most, fewer) if fewer >= FEWEST_CALIBRATION_CALLS else (most,)


def _fixed(facts: ModelFacts, framework: str, scheme: str) -> Mapping[str, JSON]:
    """Return the options that the plan's own recipe of a scheme has, as of transformers."""
    for recipe in default_recipes(framework, facts.architecture, calibrated=True):
        if recipe.scheme == scheme:
            return dict(recipe.options)
    return {}
