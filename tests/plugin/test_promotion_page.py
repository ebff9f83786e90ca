"""Every command of docs/promotion.md is run, in its order, as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from edge_runs import Place
from promotions import NOW, private_pem, signed_bundle

from pytest_edgeai.promote.verification import verify_bundle

PAGE = Path(__file__).parents[2] / "docs" / "promotion.md"
PROGRAMS = {
    "pytest": [sys.executable, "-m", "pytest"],
    "pytest-edgeai": [sys.executable, "-m", "pytest_edgeai"],
}


def commands() -> list[list[str]]:
    """Return the words of each command of the page, less those that install."""
    text = PAGE.read_text(encoding="utf-8").replace("digits", "linear")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if not line.startswith("pip ")]


def test_the_commands_of_the_page_do_what_it_says(place: Place) -> None:
    private_pem()
    place.write()
    said: dict[str, str] = {}

    def run(words: list[str]) -> None:
        options = [f"--edge-cache-dir={place.cache}"] if words[0] == "pytest" else []
        done = subprocess.run(
            [*PROGRAMS[words[0]], *words[1:], *options],
            cwd=place.path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        said[" ".join(words[:3])] = done.stdout

    page = commands()
    for words in page:
        if "rollback" in words:
            # The page goes back after a second promotion, which is done as the first one was.
            for earlier in page:
                if earlier[0] == "pytest" or "promote" in earlier:
                    run(earlier)
        run(words)
    assert said["pytest-edgeai verify promoted/linear/cross/onnxruntime-int8-static"].startswith(
        "verified: promoted/linear/cross/onnxruntime-int8-static/"
    )
    assert "speedup" not in said["pytest-edgeai registry list"]
    assert "linear  cross" in said["pytest-edgeai registry list"]
    path = place.path / said["pytest-edgeai registry show"].strip()
    assert (path / "certificate.json").is_file()
    assert "is current instead of" in said["pytest-edgeai registry rollback"]
    assert len({" ".join(words[:3]) for words in page}) == len(said)


def test_the_digest_is_what_the_command_of_the_page_prints(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum of coreutils")
    bundle = signed_bundle(tmp_path)
    (command,) = re.findall(r"`(find .*sha256sum)`", PAGE.read_text(encoding="utf-8"))
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=bundle, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == verify_bundle(bundle, None, now=NOW).digest
