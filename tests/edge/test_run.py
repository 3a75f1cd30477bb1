"""`lucie run` as a person and a script use it, with the real model."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.edge.servers import request, scripted, until
from tests.edge.test_history import namespaces

LUCIE = str(Path(sys.executable).with_name("lucie"))
SHORT = ("--max-tokens", "8", "--temperature", "0")


@dataclass
class Home:
    """One home for all tests here, so that they share one loaded model."""

    env: dict[str, str]
    model: str

    def command(self, *arguments: str) -> list[str]:
        return [LUCIE, "run", "--model", self.model, *arguments]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Iterator[Home]:
    path = tmp_path_factory.mktemp("run")
    yield Home({**os.environ, "LUCIE_HOME": str(path), "LUCIE_LANG": "en"}, str(model_path))
    end_servers(path)


def end_servers(home: Path) -> None:
    """End the server processes that were started with this home."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if os.fsencode(home) in command and b"--exit-when-unused" in command:
            os.kill(int(process.name), signal.SIGTERM)
            until(lambda process=process: not process.exists())


def test_the_answer_alone_goes_to_stdout(home: Home) -> None:
    ended = home.run(*SHORT, "The capital of France is")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    assert ended.stdout.endswith("\n")
    assert ended.stderr == ""


def test_the_prompt_may_come_from_stdin(home: Home) -> None:
    given = home.run(*SHORT, "--json", "Say hello.")
    assert json.loads(home.run(*SHORT, "--json", stdin="Say hello.").stdout)["text"]
    piped = home.run(*SHORT, "--json", "-", stdin="Say hello.")
    echoed = home.run(*SHORT, "--json", "-", stdin="Say hello.\r\n")
    told = [json.loads(ended.stdout) for ended in (given, piped, echoed)]
    assert len({one["text"] for one in told}) == len({one["prompt_tokens"] for one in told}) == 1


def test_json_tells_what_it_cost(home: Home) -> None:
    told = json.loads(home.run(*SHORT, "--seed", "5", "--json", "Tell me a long story.").stdout)
    assert told["finish_reason"] == "length"
    assert (told["seed"], told["completion_tokens"]) == (5, 8)
    assert told["model"]
    timings = told["timings"]
    assert timings["cache_n"] + timings["prompt_n"] == told["prompt_tokens"]
    assert timings["predicted_n"] == 8
    assert timings["predicted_ms"] > 0
    assert timings["predicted_per_second"] > 0


@namespaces
def test_a_home_that_nothing_can_be_written_to_answers(tmp_path: Path, model_path: Path) -> None:
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(run)}
    for name in ("LUCIE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        env.pop(name, None)
    shell = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    command = [LUCIE, "run", "--model", str(model_path), *SHORT, "Say hello."]
    try:
        ended = subprocess.run(
            ["unshare", "-rm", "sh", "-c", shell, str(home), *command],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        end_servers(run)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip()


def test_a_seed_reproduces_the_answer(home: Home) -> None:
    hot = ("--max-tokens", "24", "--temperature", "1.5", "--json", "Invent a word.")
    told = [json.loads(home.run("--seed", s, *hot).stdout) for s in ("1", "1", "2")]
    assert told[0]["text"] == told[1]["text"] != told[2]["text"]
    drawn = json.loads(home.run(*hot).stdout)
    again = json.loads(home.run("--seed", str(drawn["seed"]), *hot).stdout)
    assert drawn["text"] == again["text"]


def test_a_system_prompt_and_stop_strings_are_honoured(home: Home) -> None:
    count = ("--temperature", "0", "--max-tokens", "40", "--json", "Count: one, two, three,")
    plain = json.loads(home.run(*count).stdout)
    stop = plain["text"][5:8]
    stopped = json.loads(home.run("--stop", stop, *count).stdout)
    assert stopped["text"] == plain["text"][: plain["text"].index(stop)]
    assert stopped["finish_reason"] == "stop"
    system = json.loads(home.run("--system", "You are a pirate.", *count).stdout)
    assert system["prompt_tokens"] != plain["prompt_tokens"]


def test_a_schema_is_kept_to(home: Home, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    answer = json.loads(home.run("--schema", str(path), "A city of France?").stdout)
    assert set(answer) == {"city", "big"}
    assert answer["city"] in ("Paris", "Rome")


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        ((" \n",), "", "prompt is empty"),
        (("-",), "", "prompt is empty"),
        ((), "", "prompt is empty"),
        (("--temperature", "-1", "x"), "", "--temperature"),
        (("--no-such-option", "x"), "", "--no-such-option"),
        (("--schema", "/nowhere", "x"), "", "/nowhere"),
        (("--schema", __file__, "x"), "", "not valid JSON"),
        (("--seed", "4294967295", "x"), "", "seed"),
        (("--stop", "a") * 5 + ("x",), "", "stop"),
        (("-",), "x" * 1_100_000, "longer than"),
    ],
)
def test_wrong_use_ends_with_2(
    home: Home, arguments: tuple[str, ...], stdin: str, message: str
) -> None:
    ended = home.run(*arguments, stdin=stdin)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("hi", "--temperature", "nan"), "nan is no number that can be used here"),
        (("hi", "--min-p", "nan"), "nan is no number that can be used here"),
        (("hi", "--top-p", "0"), "is not in the range"),
        (("hi", "--top-p", "½"), "'½' is not a valid number."),
        (("hi", "--seed", "one"), "'one' is not a valid whole number."),
        (("\udcff bad",), "PROMPT is not text"),
        (("hi", "--system", "\udcff"), "--system is not text"),
        (("hi", "--schema", "/dev/zero"), "/dev/zero is longer than"),
        (("hi", "--stop", ""), "The parameter --stop may not be empty"),
        (("hi", *("--stop", "x") * 5), "The parameter --stop may have a length of 4"),
        (("hi", "--model", "a\nb"), "No model is called a\ufffdb."),
        (("hi", "--model", ""), "No model is called ."),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_line(
    home: Home, arguments: tuple[str, ...], told: str
) -> None:
    ran = home.run(*arguments)
    assert ran.returncode == (1 if "--model" in arguments else 2)
    assert told in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "schema", ['{"maximum": 1e999}', '{"minimum": -Infinity}', '{"const": "\\ud800"}']
)
def test_a_schema_that_no_request_can_hold(home: Home, tmp_path: Path, schema: str) -> None:
    (tmp_path / "odd.json").write_text(schema)
    ran = home.run("hi", "--schema", str(tmp_path / "odd.json"))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "is not valid JSON" in ran.stderr


def test_json_that_was_cut_is_no_success(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text('{"type": "array", "items": {"type": "integer"}, "minItems": 1000}')
    ran = home.run("numbers", "--schema", str(path), "--max-tokens", "20", "--temperature", "0")
    assert ran.returncode == 1
    assert "no complete JSON" in ran.stderr
    path.write_text("true")
    ran = home.run("hi", "--schema", str(path))
    assert f"--schema {path} must be of the JSON type object" in ran.stderr


def test_a_schema_may_come_from_another_command(home: Home) -> None:
    assert home.run("hi", "--schema", "/dev/stdin", stdin='{"const": 7}').stdout == "7\n"


def test_a_schema_that_is_nested_without_end(home: Home, tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    ran = home.run("hi", "--schema", str(tmp_path / "deep.json"))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "is nested too deeply" in ran.stderr


def test_a_port_that_does_not_exist_is_no_address() -> None:
    command = [LUCIE, "run", "hi", "--server", "http://127.0.0.1:99999"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "is not the address of a server" in ran.stderr


def test_bytes_that_are_no_text_are_refused(home: Home) -> None:
    ended = subprocess.run(
        home.command("-"), env=home.env, input=b"caf\xe9", capture_output=True, timeout=60
    )
    assert ended.returncode == 2
    assert b"not UTF-8 (at byte 3)" in ended.stderr


def test_a_prompt_that_is_too_long_is_refused_with_the_counts(home: Home) -> None:
    ended = home.run("-", stdin="word " * 20_000)
    assert ended.returncode == 2
    assert re.search(r"2\d\s?\d{3}", ended.stderr.replace(",", ""))


def test_an_unknown_model_ends_with_1_and_says_what_to_do(home: Home) -> None:
    ended = subprocess.run(
        [LUCIE, "run", "--model", "no-such-model", "x"],
        env=home.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "no-such-model" in ended.stderr


def test_a_server_that_is_not_there_ends_with_1(home: Home) -> None:
    ended = subprocess.run(
        [LUCIE, "run", "--server", "http://127.0.0.1:9", "x"],
        env=home.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "No server answers at http://127.0.0.1:9" in ended.stderr


def test_a_server_elsewhere_answers(tmp_path: Path) -> None:
    with scripted(tmp_path) as server:
        ended = subprocess.run(
            [LUCIE, "run", "--server", server.address, "--max-tokens", "30", "x"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "abcdefghijklmnopqrstuvwxyzabcd\n"


def test_a_server_is_asked_for_a_model_by_name(tmp_path: Path) -> None:
    with scripted(tmp_path) as server:
        command = [LUCIE, "run", "--server", server.address, "--max-tokens", "3", "x", "--model"]
        ran = [
            subprocess.run([*command, name], capture_output=True, text=True, timeout=60)
            for name in ("letters", "other")
        ]
    assert [ended.returncode for ended in ran] == [0, 1]
    assert ran[0].stdout == "abc\n"
    assert ran[1].stderr.endswith(" has no model called other. It has: letters\n")
    assert ran[1].stderr.count("\n") == 1


def test_ctrl_c_ends_with_130_and_stops_the_answer(home: Home) -> None:
    with subprocess.Popen(
        home.command("--temperature", "0", "Count to one thousand, slowly."),
        env=home.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in process.stderr.read()


def test_a_reader_that_goes_ends_it_quietly(home: Home) -> None:
    with subprocess.Popen(
        home.command("--temperature", "0", "Write a poem in ten lines."),
        env=home.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == ""


def test_that_others_come_first_is_shown_on_a_terminal(tmp_path: Path) -> None:
    hello = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4000}
    asked = request("/v1/chat/completions", json.dumps({**hello, "stream": True}).encode())
    with scripted(tmp_path, "--step-ms", "20") as server:
        others = [server.connect() for _ in range(4)]
        for other in others:
            other.sendall(asked)
        until(lambda: server.health()["active"] == 4)
        ours, theirs = pty.openpty()
        command = [LUCIE, "run", "--server", server.address, "--max-tokens", "3", "x"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True
        ) as process:
            os.close(theirs)
            shown = ""
            while "Questions before yours: 0" not in shown:
                shown += os.read(ours, 65536).decode()  # fails when the program has ended
            others.pop().close()
            out = process.communicate(timeout=120)[0]
        for other in others:
            other.close()
    shown += os.read(ours, 65536).decode()
    os.close(ours)
    assert shown.endswith("\r\x1b[K")
    assert out == "abc\n"


def test_progress_is_shown_on_a_terminal_only_and_wiped_out(home: Home) -> None:
    ours, theirs = pty.openpty()
    prompt = "word " * 300
    with subprocess.Popen(
        home.command(*SHORT, prompt),
        env=home.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        out = process.communicate(timeout=120)[0]
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "Reading the prompt" in shown
    assert shown.endswith("\r\x1b[K")
    assert "\x1b" not in out


def test_no_internet_socket_is_opened(home: Home, tmp_path: Path) -> None:
    """Neither by `lucie run` nor by the server that it starts."""
    trace, fresh = tmp_path / "trace", tmp_path / "home"
    strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=%network", "-o", str(trace)]
    with subprocess.Popen(
        strace + home.command(*SHORT, "Hello"),
        env={**home.env, "LUCIE_HOME": str(fresh)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip()
        end_servers(fresh)
        assert process.wait(60) == 0
    calls = trace.read_text()
    assert "AF_UNIX" in calls
    assert "bind(" in calls, "the server was not followed"
    assert "AF_INET" not in calls


@pytest.mark.parametrize(("lang", "words"), [("en", "Example:"), ("fr", "Exemple :")])
@pytest.mark.parametrize("command", ["run", "serve"])
def test_help_has_an_example(command: str, lang: str, words: str) -> None:
    ended = subprocess.run(
        [LUCIE, command, "--help"],
        env={**os.environ, "LUCIE_LANG": lang},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0
    assert words in ended.stdout
