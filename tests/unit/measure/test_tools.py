"""Tools in processes of their own: found, ended in time, without network and identity."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.measure import tools
from pytest_edgeai.measure.tools import find_tool, run_tool


def run(code: str, home: Path, *, limit_s: float = 30.0, online: bool = False) -> tools.Said:
    return run_tool((sys.executable, "-c", code), home, time_limit_s=limit_s, online=online)


def test_what_it_says_is_returned(tmp_path: Path) -> None:
    said = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)", tmp_path)
    assert (said.code, said.output.strip(), said.errors.strip()) == (3, "out", "err")


def test_it_sees_its_own_home_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    said = run("import os; print(sorted(os.environ), os.path.expanduser('~'))", tmp_path)
    assert "SECRET_TOKEN" not in said.output
    assert "NO_ANALYTICS" in said.output
    assert str(tmp_path) in said.output


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('pid', 'w').write(str(child.pid)); time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(NotCertified, match="did not end within 3 s") as caught:
        run(code, tmp_path, limit_s=3.0)
    assert "--edge-time-limit" in caught.value.advice
    assert time.monotonic() - started < 30
    if sys.platform == "linux":
        pid = int((tmp_path / "pid").read_text())
        deadline = time.monotonic() + 10
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_has_no_network(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
        "import os; print(os.environ['https_proxy'])\n"
        "try:\n    socket.create_connection(s.getsockname(), 2); print('connected')\n"
        "except OSError as e:\n    print('none')"
    )
    said = run(code, tmp_path)
    assert "127.0.0.1:9" in said.output
    # A fresh network namespace has not even its loopback device up.
    assert said.isolated == ("none" in said.output)


def test_one_that_is_not_there_or_does_not_start(tmp_path: Path) -> None:
    assert find_tool("no-such-tool", "no-such-tool-at-all") is None
    (tmp_path / "broken").write_text("no program", "utf-8")
    with pytest.raises(NotCertified, match="cannot be started"):
        run_tool((str(tmp_path / "broken"),), tmp_path, time_limit_s=5.0, online=True)


@pytest.mark.skipif(os.name != "posix", reason="writes a script for a shell")
def test_one_on_the_search_path_is_asked_for_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "some-tool"
    script.write_text("#!/bin/sh\necho some-tool, version 1.2.3\n", "utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = find_tool("some-tool", "some-tool")
    assert found is not None
    assert (found.command, found.version) == ((str(script),), "1.2.3")
