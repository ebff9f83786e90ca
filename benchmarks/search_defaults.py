"""Is what a search recommends at least as fast as what tools take by default?

    python -m benchmarks.search_defaults --trials 16

For three models: a search over ONNX Runtime and OpenVINO, then one session that makes what it
found beside the default static quantization of ONNX Runtime, the default of NNCF in OpenVINO and
what Olive's own search picks; all of them are then timed in turns with each other and the same
baseline. Target: no default whose accuracy is not surely lower is faster by more than what two
processes can tell apart (3%, `judge.speed.RESOLUTION_RATIO`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import finish, print_context, print_table, scratch
from benchmarks.searches import GATES, MODELS, files_of, gate, run_pytest, speeds, write_project
from pytest_edgeai.judge.speed import RESOLUTION_RATIO

FRAMEWORKS = ("onnxruntime", "openvino")
DEFAULTS = {
    "ONNX Runtime's default": ("onnxruntime", "int8-static"),
    "NNCF's default": ("openvino", "int8-static"),
    "Olive's own search": ("olive", "int8-search"),
}
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
    found = run_pytest(place, "-k", "accuracy_retained", frameworks=tuple(frameworks))
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
            made = [candidates[name] for name in names.values()]
            pythons = {"olive": Path(arguments.olive_python)}
            artifacts = [
                (
                    each["framework"],
                    pythons.get(each["framework"], Path(sys.executable)),
                    Path(each["artifact"]["path"]),
                )
                for each in made
            ]
            files = files_of(model, folder / "files")
            measured = speeds(files, artifacts, folder / f"{model}-samples")
            accuracies = [gate(each, "accuracy_retained") for each in made]
            least = accuracies[0]["interval"][0]
            for title, name, speed, accuracy in zip(
                names, names.values(), measured, accuracies, strict=True
            ):
                rows.append([model, title, name, f"{speed:.2f}", text(accuracy)])
                worse = accuracy["interval"][1] < least
                if speed > (1 + RESOLUTION_RATIO) * measured[0] and not worse:
                    missed.append(f"{model}: {title} is faster ({speed:.2f})")
    print()
    print_table(("model", "what", "recipe", "speedup", "accuracy retained"), rows)
    return finish(missed, "nothing of at least equal accuracy is faster than what was found")


def text(found: dict[str, Any]) -> str:
    """Return a share with its interval."""
    low, high = found["interval"]
    return f"{found['observed']:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    sys.exit(main())
