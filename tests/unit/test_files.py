from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_edgeai.errors import UserError
from pytest_edgeai.files import append_text, write_atomically, write_markdown

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and devices")


def test_parents_are_created_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "report.json"
    write_atomically(path, "one\r\n≥\udc80")
    write_atomically(path, "two\r\n≥\udc80")
    assert path.read_bytes() == "two\r\n≥\\udc80".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_is_refused(tmp_path: Path) -> None:
    for write in (write_atomically, append_text):
        with pytest.raises(UserError, match="is a directory; allowed: the path of a file"):
            write(tmp_path, "text")


def test_a_file_as_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (write_atomically, append_text):
        with pytest.raises(UserError, match="cannot be written"):
            write(tmp_path / "file" / "report.json", "text")


@posix
def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(real)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


@posix
def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "loop"
    link.symlink_to(link)
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(link / "report.json", "text")


@posix
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        write_atomically(pipe, "text")
        assert reader.communicate(timeout=30)[0] == "text"
    assert pipe.is_fifo()


@posix
def test_what_may_not_be_written_is_refused_and_kept(tmp_path: Path) -> None:
    kept = tmp_path / "report.json"
    kept.write_text("old")
    script = f"""
        import os, pathlib, sys
        if os.geteuid() == 0:
            os.setgid(65534); os.setuid(65534)
        from pytest_edgeai.errors import UserError
        from pytest_edgeai.files import append_text, write_atomically
        for write in (write_atomically, append_text):
            for path in ({str(kept)!r}, {str(tmp_path / "new.json")!r}):
                try:
                    write(pathlib.Path(path), "text")
                except UserError as error:
                    print(error)
        """
    kept.chmod(0o444)
    tmp_path.chmod(0o555)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", "import pytest_edgeai.files\n" + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    tmp_path.chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("cannot be written: Permission denied" in line for line in lines)
    assert all("Choose a path that you may write to" in line for line in lines)
    assert kept.read_text() == "old"
    assert list(tmp_path.iterdir()) == [kept]


@posix
def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    kept = tmp_path / "report.json"
    kept.write_text("old")
    # A file size limit makes write() fail half-way, as a full disk does.
    script = f"""
        import pathlib, resource, signal
        from pytest_edgeai.errors import UserError
        from pytest_edgeai.files import write_atomically
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_atomically(pathlib.Path({str(kept)!r}), "x" * 100_000)
        except UserError as error:
            print(error)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "cannot be written: File too large" in done.stdout
    assert kept.read_text() == "old"
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_is_said_with_advice() -> None:
    for write in (write_atomically, append_text):
        with pytest.raises(UserError, match=r"No space left on device. Free some space"):
            write(Path("/dev/full"), "text")


@posix
def test_a_killed_writer_leaves_the_old_or_the_new_text(tmp_path: Path) -> None:
    old, new = "o" * 5000, "n" * 5000
    script = """
        import os, pathlib, signal, sys
        from pytest_edgeai.files import write_atomically
        seen = 0
        def hook(event, arguments):
            global seen
            if event in ("open", "os.rename", "os.mkdir"):
                seen += 1
                if seen == int(sys.argv[1]):
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        write_atomically(pathlib.Path(sys.argv[2]), "n" * 5000)
        """
    found = set()
    for step in range(1, 20):
        path = tmp_path / str(step) / "report.json"
        path.parent.mkdir()
        path.write_text(old)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(step), str(path)],
            check=False,
            timeout=60,
        )
        found.add(path.read_text())
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert step > 2
    assert found == {old, new}


def test_the_summary_of_github_is_appended_to(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    report = tmp_path / "report.md"
    write_markdown("text\n", report, {"GITHUB_STEP_SUMMARY": str(summary)})
    write_markdown("more\n", None, {"GITHUB_STEP_SUMMARY": str(summary)})
    write_markdown("quiet\n", None, {})
    assert report.read_text() == "text\n"
    assert summary.read_text() == "before\ntext\nmore\n"
    shutil.rmtree(tmp_path)
