"""Is what a search recommends at least as fast as what tools take by default?

    python -m benchmarks.search_defaults --trials 16

For three models: a search over ONNX Runtime and OpenVINO, then one session that gates what it
recommends beside the default static quantization of ONNX Runtime, the default of NNCF in OpenVINO
and what Olive's own search picks, all against the same baseline in the same run. Target: no default
whose accuracy is not surely lower is faster by more than what two processes can tell apart (3%,
`judge.speed.RESOLUTION_RATIO`), unless its interval reaches the recommended one's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import finish, print_context, print_table, scratch
from benchmarks.searches import GATES, MODELS, files_of, gate, run_pytest, write_project
from pytest_edgeai.judge.speed import RESOLUTION_RATIO

FRAMEWORKS = ("onnxruntime", "openvino")
DEFAULTS = {
    "ONNX Runtime's default": ("onnxruntime", "int8-static"),
    "NNCF's default": ("openvino", "int8-static"),
    "Olive's own search": ("olive", "int8-search"),
}
THRESHOLD = 1.0
"""Threshold of the comparison; clear cases are decided after some 45 rounds."""
SEARCH = """
[search]
time_box_s = {time_box_s}
objective = "speedup"
weights = {{ speedup = 1.0 }}

[search.hints.onnxruntime]
"""


def recommend(model: str, folder: Path, trials: int, time_box_s: float) -> dict[str, Any]:
    """Search, and return the recipe that comes out best."""
    files = files_of(model, folder / "files")
    write_project(files, folder / model, GATES + SEARCH.format(time_box_s=time_box_s))
    words = (f"--edge-search={trials}", "-k", "precision_proof")
    found = run_pytest(folder / model, *words, frameworks=FRAMEWORKS)
    best = found["searches"]["cross"]["finalists"][0]
    recipe: dict[str, Any] = next(
        each["recipe"] for each in found["candidates"] if each["id"] == best
    )
    return recipe


def compare(model: str, folder: Path, recipe: dict[str, Any], olive_python: str) -> dict[str, Any]:
    """Gate the recommended recipe beside the defaults; return id to candidate."""
    files = files_of(model, folder / "files")
    tables = [{**recipe, "label": "found"}]
    tables += [
        {"framework": framework, "scheme": scheme, "options": {}, "label": "default"}
        for framework, scheme in DEFAULTS.values()
    ]
    recipes = "".join(
        f"\n[[models.{model}.recipes]]\n"
        f'framework = "{each["framework"]}"\n'
        f'scheme = "{each["scheme"]}"\n'
        f'label = "{each["label"]}"\n'
        + "".join(f"options.{name} = {json.dumps(v)}\n" for name, v in each["options"].items())
        for each in tables
    )
    place = folder / f"{model}-compared"
    interpreter = f'\n[frameworks.olive]\npython = "{olive_python}"\n'
    write_project(files, place, recipes + GATES + interpreter)
    frameworks = dict.fromkeys(each["framework"] for each in tables)
    words = ("-k", "speedup or accuracy_retained", f"--edge-threshold=speedup={THRESHOLD}")
    found = run_pytest(place, *words, "--edge-budget=15", frameworks=tuple(frameworks))
    return {each["id"]: each for each in found["candidates"]}


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--time-box", type=float, default=600.0, help="seconds of one search")
    parser.add_argument("--olive-python", default=sys.executable, help="a Python with olive-ai")
    arguments = parser.parse_args()
    print_context("onnxruntime", "openvino", "nncf", "optuna")
    rows: list[list[str]] = []
    missed: list[str] = []
    with scratch() as folder:
        for model in arguments.models.split(","):
            recipe = recommend(model, folder, arguments.trials, arguments.time_box)
            candidates = compare(model, folder, recipe, arguments.olive_python)
            names = {"found": f"{recipe['framework']}-{recipe['scheme']}-found"}
            names |= {name: f"{'-'.join(pair)}-default" for name, pair in DEFAULTS.items()}
            ours = gate(candidates[names["found"]], "speedup")
            best = gate(candidates[names["found"]], "accuracy_retained")
            for title, name in names.items():
                speed = gate(candidates[name], "speedup")
                accuracy = gate(candidates[name], "accuracy_retained")
                rows.append([model, title, name, text(speed), text(accuracy, percent=True)])
                if title == "found" or speed["observed"] is None:
                    continue
                worse = accuracy["interval"][1] < best["interval"][0]
                faster = speed["observed"] > (1 + RESOLUTION_RATIO) * ours["observed"]
                apart = speed["interval"][0] > ours["interval"][1]
                if not worse and faster and apart:
                    missed.append(f"{model}: {title} is faster ({text(speed)} to {text(ours)})")
    print()
    print_table(("model", "what", "recipe", "speedup", "accuracy retained"), rows)
    return finish(missed, "nothing of at least equal accuracy is faster than what was found")


def text(found: dict[str, Any], *, percent: bool = False) -> str:
    """Return a figure with its interval."""
    if found["observed"] is None:
        return str(found["outcome"])
    low, high = found["interval"]
    form = "{:.1%} ({:.1%} to {:.1%})" if percent else "{:.2f} ({:.2f} to {:.2f})"
    return form.format(found["observed"], low, high)


if __name__ == "__main__":
    sys.exit(main())
