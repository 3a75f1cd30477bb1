"""Running a build: progress, log, explanations, interruption."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from edge.bootstrap import build

SAID = {
    "memory": "c++: fatal error: Killed signal terminated program cc1plus",
    "disk": "fatal error: error writing to /tmp/x.s: No space left on device",
    "compiler": "CMake Error: No CMAKE_CXX_COMPILER could be found.",
    "headers": "x.c:1:10: fatal error: Python.h: No such file or directory",
    "network": "NewConnectionError: [Errno -3] Temporary failure in name resolution",
    "unknown": "error: something else",
}
APT = (
    "W: Failed to fetch http://deb.debian.org/x  Temporary failure resolving 'deb.debian.org'",
    "E: Failed to fetch http://deb.debian.org/x  Could not connect to deb.debian.org:80",
    "E: Failed to fetch http://deb.debian.org/x  Unable to connect to deb.debian.org:http:",
)


@pytest.mark.parametrize(
    ("word", "line"),
    [*SAID.items(), *(("network", line) for line in APT)],
)
def test_explains_a_failure(
    word: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "build.log"
    code = f"print('[1/9] cc'); print({line!r}); print('[2/9] more'); raise SystemExit(3)"
    with pytest.raises(build.BuildError) as caught:
        build.run([sys.executable, "-c", code], log=log, title="Building llama.cpp")
    assert caught.value.facts["cause"] == word
    assert str(log) in str(caught.value)
    assert line in capsys.readouterr().err
    assert line in log.read_text(encoding="utf-8")


def test_programs_say_in_english_why_they_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcc on a full disk, in French: « Aucun espace disponible »."""
    for name in ("LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.setenv(name, "fr_FR.UTF-8")
    heard: list[str] = []
    shown = 'echo "$LC_ALL $LANGUAGE"'
    build.run(["sh", "-c", shown], log=tmp_path / "log", heard=heard.append)
    assert heard == ["C.UTF-8 C"]
    build.run(["sh", "-c", shown], log=tmp_path / "log", env={"LC_ALL": "C"}, heard=heard.append)
    assert heard[1:] == ["C C"]


def test_shows_progress_and_keeps_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "for n in range(1, 5): print(f'[{n}/4] compiling')"
    build.run([sys.executable, "-c", code], log=tmp_path / "log", title="Building llama.cpp")
    err = capsys.readouterr().err
    assert err.startswith("Building llama.cpp\n")
    assert re.search(r"llama.cpp   25 %  0:0\d\n", err)
    assert "50 %" not in err, "without a terminal, a line now and then"
    assert (tmp_path / "log").read_text("utf-8").count("compiling") == 4 + 1


def test_on_a_terminal_progress_stays_on_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge.bootstrap.build import run\n"
        "steps = 'for n in range(1, 5): print(f\"[{n}/4] compiling\")'\n"
        "run([sys.executable, '-c', steps], log=Path(sys.argv[1]), title='Building llama.cpp')"
    )
    ours, theirs = os.openpty()
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert shown.count("\n") == 1
    assert [int(n) for n in re.findall(r"(\d+) %", shown)] == [25, 50, 75, 100]


def test_on_a_terminal_what_says_nothing_moves(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge.bootstrap.build import run\n"
        "run(['sleep', '3.5'], log=Path(sys.argv[1]), title='Installing')"
    )
    ours, theirs = os.openpty()
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "Installing  0:02" in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_being_stopped_stops_the_compilers(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """`pip` starts `cmake`, `ninja` and compilers: none may go on alone."""
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from edge.bootstrap import __main__, build, environment
        def prepare(project, extras):
            command = ["sh", "-c", '{sys.executable} -c "$0"; true', {inner!r}]
            build.run(command, log=Path({str(tmp_path / "log")!r}), title="Building llama.cpp")
        environment.prepare = prepare
        __main__.main("chat")
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    compiler = _pid_in(tmp_path / "log")
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert "Traceback" not in err
    assert not _alive(compiler)


def _pid_in(log: Path) -> int:
    for _ in range(300):
        if log.exists() and (found := re.search(r"^(\d+)$", log.read_text("utf-8"), re.MULTILINE)):
            return int(found[1])
        time.sleep(0.1)
    raise AssertionError("the build did not start")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
