from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from advice_cases import CASES, LOSSY, MODEL, SITUATION, Case, sensitivity, verdict, verdicts
from models import linear_classifier

from pytest_edgeai.judge.advice import RULES, advise
from pytest_edgeai.judge.advice_lines import key, recipe_lines, value
from pytest_edgeai.judge.advice_situation import Situation
from pytest_edgeai.manifest import read_manifest
from pytest_edgeai.measure.metrics import METRICS
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.records import Outcome, Recipe, to_json
from pytest_edgeai.shipped import GATES
from pytest_edgeai.specification import Catalogue, Manifest

NAMES = [rule.name for rule in RULES]
RULE_OF = {rule.name: rule for rule in RULES}
EACH = pytest.mark.parametrize(
    "case", CASES, ids=[f"{index}-{case.rule}" for index, case in enumerate(CASES)]
)
CATALOGUE = Catalogue(FRAMEWORKS, TARGETS, METRICS, GATES)
ReadPasted = Callable[[tuple[str, ...]], Manifest]


@pytest.fixture(scope="module")
def read_pasted(tmp_path_factory: pytest.TempPathFactory) -> ReadPasted:
    """Return a manifest into which somebody pasted lines, as the product reads it."""
    folder = tmp_path_factory.mktemp("project")
    project = linear_classifier(folder, n=200)
    Path(project.data).rename(folder / "data.npz")
    Path(project.calibration).rename(folder / "calibration.npz")

    def read(lines: tuple[str, ...]) -> Manifest:
        tables = {
            f"[models.{MODEL}]": [
                f'path = "{project.model.name}"',
                'task = "text-generation"'
                if any(line.startswith("context_length") for line in lines)
                else 'task = "tabular-classification"',
                'data = "data.npz"',
                'calibration = "calibration.npz"',
            ],
            "[settings]": ["threads = 1"],
        }
        if "text-generation" in tables[f"[models.{MODEL}]"][1]:
            (folder / "data.txt").write_text("some text", encoding="utf-8")
            tables[f"[models.{MODEL}]"][2:] = ['data = "data.txt"']
        table = ""
        for line in lines:
            if line.startswith("["):
                table = line
                tables.setdefault(table, [])
            else:
                name = line.partition(" = ")[0]
                tables[table] = [
                    *(old for old in tables[table] if old.partition(" = ")[0] != name),
                    line,
                ]
        text = "\n".join(line for head, inside in tables.items() for line in (head, *inside))
        manifest = folder / "edgeai.toml"
        manifest.write_text(text, encoding="utf-8")
        return read_manifest(manifest, CATALOGUE)

    return read


def of(rule: str, situation: Situation) -> bool:
    return RULE_OF[rule].decide(situation) is not None


def test_every_rule_has_a_planted_case_and_one_that_must_not_trigger_it() -> None:
    assert {case.rule for case in CASES} == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@EACH
def test_the_planted_case_triggers_its_rule_and_the_other_does_not(case: Case) -> None:
    advice = RULE_OF[case.rule].decide(case.triggers)
    assert advice is not None
    assert advice.rule == case.rule
    assert not of(case.rule, case.silent)


@EACH
def test_advice_is_backed_by_figures_and_says_what_to_do(case: Case) -> None:
    advice = RULE_OF[case.rule].decide(case.triggers)
    assert advice is not None
    assert advice.evidence
    to_json(advice)
    assert 0 < advice.weight <= 1
    for words in (advice.symptom, advice.cause, advice.remedy):
        assert words
        assert not words.endswith(".")
        assert not re.search(r"\bNone\b|nan|unbounded", words), words
    assert set(advice.gates) <= set(GATES)
    assert set(advice.gates) & set(case.triggers.verdicts)


@EACH
def test_the_manifest_lines_are_read_by_the_manifest_reader(
    case: Case, read_pasted: ReadPasted
) -> None:
    advice = RULE_OF[case.rule].decide(case.triggers)
    assert advice is not None
    read = read_pasted(advice.manifest_lines)
    assert not read.problems
    if advice.fix is not None and advice.fix.recipe is not None:
        (made,) = read.models[0].recipes or ()
        wanted = advice.fix.recipe
        assert (made.id, made.options) == (wanted.id, wanted.options)
    elif advice.fix is not None:
        assert read.settings.items() >= advice.fix.settings.items()


@EACH
def test_the_fix_changes_what_the_rule_is_about(case: Case) -> None:
    advice = RULE_OF[case.rule].decide(case.triggers)
    assert advice is not None
    if not case.turns:
        assert advice.fix is None
        return
    assert advice.fix is not None
    recipe = advice.fix.recipe
    if recipe is None:
        assert case.turns in advice.fix.settings
        return
    assert case.turns in (recipe.scheme, *recipe.options, *case.triggers.recipe.options)
    assert (recipe.scheme, recipe.options) != (
        case.triggers.recipe.scheme,
        case.triggers.recipe.options,
    ) or recipe.framework != case.triggers.recipe.framework
    # What it makes is told apart from what the manifest makes.
    assert recipe.id != case.triggers.recipe.id


@EACH
def test_no_rule_speaks_of_a_candidate_that_passes_everything(case: Case) -> None:
    passing = {
        gate: replace(each, outcome="pass", details={})
        for gate, each in case.triggers.verdicts.items()
    }
    assert not of(case.rule, replace(case.triggers, verdicts=passing))


@pytest.mark.parametrize("rule", NAMES)
def test_a_rule_without_its_measurement_is_silent(rule: str) -> None:
    """Verdicts alone, each failed, inconclusive or an error, and nothing else measured."""
    outcomes: tuple[Outcome, ...] = ("fail", "inconclusive", "error")
    for outcome in outcomes:
        bare = replace(
            SITUATION,
            verdicts={name: verdict(name, outcome, None) for name in GATES},
            precision=None,
            claimed_precision="",
            calibration=None,
            multiplies_int8=None,
            sanity=None,
            artifact_bytes=None,
            evaluation_samples=None,
        )
        expected = rule == "not-profiled" and outcome == "fail"
        assert of(rule, bare) == expected


def test_the_weightiest_advice_comes_first_and_like_remedies_are_told_once() -> None:
    situation = replace(
        SITUATION,
        verdicts=LOSSY,
        recipe=Recipe("onnxruntime", "int8-static", {"per_channel": False}),
        sensitivity=sensitivity(9.0, *[0.01] * 7),
        calibration=replace(SITUATION.calibration, outlier_ratio=30.0),  # type: ignore[type-var]
    )
    advice = advise(situation)
    assert [each.rule for each in advice] == [
        "per-channel-missing",
        "calibration-outliers",
        "sensitive-layers",
    ]
    weights = [each.weight for each in advice]
    assert weights == sorted(weights, reverse=True)


def test_remedies_build_on_each_other_and_keep_their_names_apart() -> None:
    first = advise(
        replace(
            SITUATION,
            verdicts=LOSSY,
            recipe=Recipe("onnxruntime", "int8-static", {"per_channel": False}),
        )
    )[0]
    assert first.fix is not None
    recipe = first.fix.recipe
    assert recipe is not None
    second = advise(
        replace(
            SITUATION,
            verdicts=LOSSY,
            recipe=recipe,
            taken=("onnxruntime-int8-static-per-channel-percentile",),
            calibration=replace(SITUATION.calibration, outlier_ratio=30.0),  # type: ignore[type-var]
        )
    )[0]
    assert second.fix is not None
    assert second.fix.recipe == Recipe(
        "onnxruntime",
        "int8-static",
        {"per_channel": True, "calibrate_method": "percentile", "percentile": 99.9},
        "per-channel-percentile-2",
    )


def test_a_remedy_that_cannot_be_made_here_is_no_fix() -> None:
    case = next(case for case in CASES if case.rule == "dynamic-on-convolutions")
    without = {"onnxruntime": {"int8-dynamic": ("op_types",)}}
    advice = RULE_OF[case.rule].decide(replace(case.triggers, usable=without))
    assert advice is not None
    assert advice.fix is not None
    assert advice.fix.recipe == Recipe(
        "onnxruntime", "int8-dynamic", {"op_types": ["MatMul", "Gemm"]}, "no-conv"
    )
    nothing = RULE_OF[case.rule].decide(replace(case.triggers, usable={}))
    assert nothing is not None
    assert nothing.fix is None
    assert nothing.manifest_lines == ()


def test_the_context_that_fits_is_the_one_with_which_the_cut_holds() -> None:
    case = next(case for case in CASES if case.rule == "context-too-long")
    for held, keys, threshold in ((50, 40, 0.5), (45, 30, 0.4), (58, 50, 0.6)):
        situation = replace(
            case.triggers,
            verdicts=verdicts(replace(verdict("memory_cut", "fail", 0.1), threshold=threshold)),
            memory=replace(
                case.triggers.memory,  # type: ignore[type-var]
                baseline_bytes=(60 << 20,) * 3,
                candidate_bytes=(held << 20,) * 3,
                baseline_kv_cache_bytes=20 << 20,
                candidate_kv_cache_bytes=keys << 20,
            ),
        )
        advice = RULE_OF[case.rule].decide(situation)
        assert advice is not None
        tokens = int(advice.manifest_lines[1].split(" = ")[1])
        assert 0 < tokens < 4096

        def cut(context: int, held: int = held, keys: int = keys) -> float:
            share = context / 4096
            return 1 - (held - keys + keys * share) / (60 - 20 + 20 * share)

        assert cut(tokens) >= threshold
        assert cut(tokens + 64) < threshold


def test_lines_are_toml_whatever_a_model_is_called() -> None:
    names = ("net", "a.b", 'say "x"', "é\x7f\n", "")
    for name in names:
        recipe = Recipe("f", "s", {"list": ["a", 'b"'], "flag": True, "ratio": 1e-07, name: 1})
        read = tomllib.loads("\n".join(recipe_lines(name, recipe, "old")))
        (table,) = read["models"][name]["recipes"]
        assert table["options"] == dict(recipe.options)
        assert tomllib.loads(f"{key(name)} = {value(name)}") == {name: name}
    with pytest.raises(TypeError, match="NoneType"):
        value(None)


def test_the_rules_are_documented() -> None:
    """The table of the docs is made of the rules: a rule that is not in it is not documented."""
    page = Path(__file__).parents[3] / "docs" / "advice.md"
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.*?) \| (.*?) \|$", page.read_text("utf-8"), re.M)
    expected = [(rule.name, rule.summary, rule.needs or "verdicts alone") for rule in RULES]
    assert rows == expected


def test_figures_of_numpy_have_a_json_form() -> None:
    assert to_json({"x": np.float64(1.5)}) == {"x": 1.5}
