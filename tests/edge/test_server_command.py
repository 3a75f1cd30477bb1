"""`lucie serve` as a person starts it."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge.servers import SCRIPTED, answers, read_all, running, scripted, until

PROGRAM = "import sys; from edge.program import main; sys.exit(main())"
LUCIE = str(Path(sys.executable).with_name("lucie"))


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LUCIE, "serve", *arguments], capture_output=True, text=True, timeout=60)


def test_it_says_where_it_answers_and_warns_where_others_can_reach_it(model_path: Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - the warning is what is tested
    command = [LUCIE, "serve", "--model", str(model_path), "--host", everywhere, "--port", "0"]
    options = ["--ctx-size", "512", "--parallel", "1", "--threads", "1", "--kv-type", "q8_0"]
    with subprocess.Popen(command + options, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Warning: anyone who can reach http://0.0.0.0:")
        assert re.search(
            r"chat on, for browsers: http://[^0][^/]*:\d+/$", process.stderr.readline()
        )
        assert "answers at http://0.0.0.0:" in process.stderr.readline()
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--port", "8080"), 2, "--socket excludes"),
        (("--host", "127.0.0.1"), 2, "--socket excludes"),
        (("--kv-type", "q2"), 2, "q2"),
        (("--parallel", "0"), 2, "--parallel"),
        (("--ctx-size", "99999999"), 2, "8"),
        (("--model", "no-such-model"), 1, "no-such-model"),
    ],
)
def test_what_cannot_be_served_is_refused(
    model_path: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    socket = tmp_path / "s.sock"
    ended = serve("--model", str(model_path), "--socket", str(socket), *arguments)
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not socket.exists()


def test_what_nohup_turned_off_stays_off(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with subprocess.Popen(
        ["nohup", sys.executable, str(SCRIPTED), str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until(lambda: answers(path))
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(30) == 0


def test_a_model_file_that_is_cut_while_it_is_served_ends_it_with_a_word(
    model_path: Path, tmp_path: Path
) -> None:
    model = shutil.copy(model_path, tmp_path / "model.gguf")
    path = tmp_path / "s.sock"
    command = ["serve", "--model", str(model), "--socket", str(path)]
    question = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    with running(path, "-c", PROGRAM, *command) as server:
        assert server.post("/v1/chat/completions", question).status_code == 200
        os.truncate(model, 2_000_000)
        refused = server.post("/v1/chat/completions", question)
        assert refused.json()["error"]["code"] == "model_changed"
        assert server.process.wait(30) == 1
        assert server.process.stderr is not None
        last = server.process.stderr.read().splitlines()[-1]
    assert last.startswith(f"lucie: The model file {model} was changed while it was in use")


def test_what_clients_do_wrong_is_not_told_to_the_operator(tmp_path: Path) -> None:
    with scripted(tmp_path) as server:
        with server.connect() as garbage:
            garbage.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
            read_all(garbage)
        with server.http() as http:
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
            assert http.get("/health", headers=upgrade).status_code == 200
        server.process.terminate()
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


def test_a_terminal_is_told_of_no_warning_of_the_log(model_path: Path, home: Path) -> None:
    (home / "cache").mkdir()
    (home / "cache" / "kv").touch()  # where KV states would be kept
    command = [LUCIE, "serve", "--model", str(model_path), "--port", "0", "--ctx-size", "512"]
    ours, theirs = pty.openpty()
    shown = ""
    with subprocess.Popen(command, stderr=theirs) as process:
        os.close(theirs)
        while "answers at" not in shown:
            shown += os.read(ours, 65536).decode()  # fails when the program has ended
        process.terminate()
    os.close(ours)
    assert "KV" not in shown


def test_a_log_file_stays_small(tmp_path: Path) -> None:
    program = (
        "import logging; from edge.commands import serve; serve.bound_log()\n"
        "for n in range(20_000): logging.getLogger('x').warning('line %d of many lines', n)"
    )
    log = tmp_path / "log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    subprocess.run([sys.executable, "-c", program], stderr=descriptor, check=True, timeout=60)
    os.close(descriptor)
    assert 0 < log.stat().st_size < 300_000
    assert log.read_text().endswith("line 19999 of many lines\n")
