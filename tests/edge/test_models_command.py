from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge.bundle import Bundle
from edge.commands.models import models
from edge.device import detect
from edge.errors import MemoryRefusedError, StoreError, UnknownModelError
from edge.header import read_model
from edge.manifest import DataSource, Manifest
from edge.plan import plan
from edge.store import DEFAULT_MODEL, Store
from tests.edge.gguf_files import STRING, tiny
from tests.edge.hub_server import Hub, serving

_LUCIE = "import sys; from edge.cli import main; sys.exit(main(['models', *sys.argv[1:]]))"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return with_template("{{ messages[0].content }}", tmp_path / "toy.gguf")


def with_template(template: str | None, path: Path) -> Path:
    model = tiny("llama")
    if template is not None:
        model.set("tokenizer.chat_template", STRING, template)
    return model.write(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def invoke() -> Callable[..., Any]:
    def invoke(*args: str) -> Any:
        return CliRunner().invoke(models, args, catch_exceptions=False)

    return invoke


def lucie(*args: str, lang: str = "en") -> subprocess.CompletedProcess[str]:
    """The command as it is typed, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", _LUCIE, *args],
        env=os.environ | {"LUCIE_LANG": lang},
        capture_output=True,
        text=True,
    )


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to it")


def test_a_model_is_added_listed_verified_and_removed(
    invoke: Callable[..., Any], gguf: Path
) -> None:
    added = invoke("add", str(gguf), "--name", "mine")
    assert added.exit_code == 0
    assert added.stdout == ""
    assert "lucie chat --model mine" in added.stderr
    assert "mine" in invoke("list").stdout
    assert invoke("verify").stdout == "mine: intact\n"
    assert invoke("verify", "mine").exit_code == 0
    removed = invoke("remove", "mine")
    assert (removed.stdout, removed.exit_code) == ("", 0)
    assert Store().list() == []


def test_the_list_tells_what_is_here_what_could_be_and_what_fits(
    invoke: Callable[..., Any], gguf: Path
) -> None:
    rows = json.loads(invoke("list", "--json").stdout)
    assert rows[0]["name"] == DEFAULT_MODEL
    assert (rows[0]["here"], rows[0]["default"], rows[0]["path"]) == (False, True, None)
    assert rows[0]["size"] == 98_362_432
    invoke("add", str(gguf))
    rows = json.loads(invoke("list", "--json").stdout)
    assert (rows[0]["name"], rows[0]["here"], rows[0]["fits"]) == ("toy", True, True)
    assert rows[0]["size"] == gguf.stat().st_size
    shown = invoke("list").stdout.splitlines()
    assert shown[0].split() == ["toy", str(round(gguf.stat().st_size / 1e3)), "kB", "here"]
    assert shown[1].startswith(f"* {DEFAULT_MODEL}")
    assert "lucie models add" in shown[-1]


def test_a_model_that_cannot_run_is_listed_with_its_problem(
    invoke: Callable[..., Any], gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "hf" / "model.safetensors").write_text("")
    assert "no engine here runs it" in invoke("add", str(tmp_path / "hf")).stderr
    invoke("add", str(gguf))
    os.truncate(Store().get("toy").path, 100)
    rows = {row["name"]: row for row in json.loads(invoke("list", "--json").stdout)}
    assert "GGUF" in rows["hf"]["problem"]
    assert rows["toy"]["problem"]
    assert rows["toy"]["fits"]
    assert "cannot be used" in invoke("list").stdout


def test_info_shows_what_a_manifest_declares(
    invoke: Callable[..., Any], gguf: Path, tmp_path: Path
) -> None:
    data = DataSource(
        name="Gallica",
        licence="CC0-1.0",
        tokens=1_234_567,
        first_date="1800",
        last_date="1950",
        url="https://gallica.bnf.fr",
    )
    manifest = Manifest(
        kind="gguf",
        name="ours",
        provenance="recorded",
        licence="Apache-2.0",
        languages=("fr", "en"),
        data=(data,),
    )
    bundle = Bundle.write(tmp_path / "ours", manifest, {"ours.gguf": gguf})
    invoke("add", str(bundle.path))
    shown = invoke("info", "ours").stdout
    assert "Gallica (CC0-1.0, 1,234,567 tokens, 1800–1950) https://gallica.bnf.fr" in shown
    assert "recorded step by step" in shown
    assert "fr, en" in shown
    facts = json.loads(invoke("info", "ours", "--json").stdout)
    assert facts["data"] == [data.model_dump(exclude_none=True)]
    assert facts["sha256"] == bundle.manifest.files["ours.gguf"].sha256
    assert (facts["context"], facts["here"]) == (512, True)
    assert facts["path"] == str(Store().root / "ours" / "ours.gguf")


def test_info_says_openly_what_is_not_known(invoke: Callable[..., Any], gguf: Path) -> None:
    invoke("add", str(gguf))
    for name in (str(gguf), "toy"):
        assert "unknown: it came from elsewhere" in invoke("info", name).stdout
        facts = json.loads(invoke("info", name, "--json").stdout)
        assert (facts["licence"], facts["data"], facts["provenance"]) == (None, [], "unknown")


def test_info_says_what_memory_a_model_takes(
    invoke: Callable[..., Any], gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is planned for, which tests of the engine hold against its real peak."""
    board = detect()
    made = plan(read_model(gguf), board)
    shown = invoke("info", str(gguf)).stdout
    size = f"{made.needed.total / 1e6:,.0f} MB"
    assert f"Memory        {size} here, with a context of {made.options.n_ctx:,} tokens" in shown
    assert "SHA-256" not in shown, "nobody will record one"
    facts = json.loads(invoke("info", str(gguf), "--json").stdout)
    assert (facts["memory"], facts["memory_context"]) == (made.needed.total, made.options.n_ctx)
    small = replace(board, memory=replace(board.memory, total=1 << 20, available=1 << 20))
    monkeypatch.setattr("edge.commands.model_info.detect", lambda: small)
    with pytest.raises(MemoryRefusedError) as refused:
        plan(read_model(gguf), small)
    assert str(refused.value) in invoke("info", str(gguf)).stdout
    assert "at least 4.6 GB" in invoke("info", "lucie-7b-instruct-v1.1").stdout


def test_info_knows_models_that_are_not_here(invoke: Callable[..., Any]) -> None:
    shown = invoke("info", "lucie-7b-instruct-v1.1").stdout
    assert "lucie models add lucie-7b-instruct-v1.1" in shown
    assert "recorded at the first download" in shown
    assert "3,131,736,326,144 tokens" in shown
    facts = json.loads(invoke("info", DEFAULT_MODEL, "--json").stdout)
    assert facts["sha256"].startswith("b179c952")
    assert not facts["here"]


def test_unknown_names_and_failed_sources_are_errors(invoke: Callable[..., Any], hub: Hub) -> None:
    for command in ("info", "verify", "remove", "add"):
        with pytest.raises(UnknownModelError):
            invoke(command, "nothing")
    hub.statuses = [404]
    with pytest.raises(StoreError):
        invoke("add", "hf:o/r/m.gguf")


def test_damage_is_reported_for_each_and_ends_with_1(
    invoke: Callable[..., Any], gguf: Path
) -> None:
    invoke("add", str(gguf), "--name", "good")
    invoke("add", str(gguf), "--name", "bad")
    with Store().get("bad").path.open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"?")
    ran = invoke("verify")
    assert (ran.stdout, ran.exit_code) == ("good: intact\n", 1)
    assert "bad" in ran.stderr
    ran = invoke("verify", "--json")
    assert ran.exit_code == 1
    results = {each["name"]: each for each in json.loads(ran.stdout)}
    assert (results["good"]["ok"], results["bad"]["ok"]) == (True, False)
    assert "SHA-256" in results["bad"]["problem"]


def test_an_empty_store_verifies(invoke: Callable[..., Any]) -> None:
    ran = invoke("verify")
    assert (ran.stdout, ran.exit_code) == ("", 0)
    assert "lucie models add" in ran.stderr
    assert json.loads(invoke("verify", "--json").stdout) == []


def test_ctrl_c_leaves_what_has_come_and_exits_with_130(hub: Hub, gguf: Path) -> None:
    content = gguf.read_bytes()
    hub.content = content + bytes(1 << 22)
    hub.hold_after = len(content)
    process = subprocess.Popen(
        [sys.executable, "-c", _LUCIE, "add", "hf:o/r/m.gguf"], stderr=subprocess.PIPE, text=True
    )
    part = Store().partial("m") / "m.gguf.part"
    with process:
        assert hub.held.wait(30)
        _until(lambda: part.exists() and part.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        said = process.stderr.read()
        assert process.wait(30) == 130
        hub.release.set()
    assert "Run the same command again" in said
    assert "Traceback" not in said
    kept = part.stat().st_size
    assert kept > 0
    hub.content, hub.hold_after = content, None
    hub.etag = '"v2"'  # the file that was served had another size anyway
    assert lucie("add", "hf:o/r/m.gguf").returncode == 0
    assert hub.starts()[-1] in (f"bytes={kept}-", None)
    assert Store().find("m").path.read_bytes() == content


def test_progress_is_shown_on_a_terminal_and_cleared(gguf: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _LUCIE, "add", str(gguf)], stderr=theirs, stdout=subprocess.PIPE
    ) as process:
        os.close(theirs)
        assert process.stdout
        assert process.stdout.read() == b""
        assert process.wait(30) == 0
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "[########################] 100 %" in shown
    assert "\r\x1b[Ktoy is ready" in shown


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (None, "no chat template"),
        ("{% for %}", "wrong at line 1"),
        ("{% import 'x' as y %}", "not allowed"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", ""),
    ],
)
def test_a_model_that_cannot_chat_is_told_when_it_is_added(
    tmp_path: Path, template: str | None, told: str
) -> None:
    ran = lucie("add", str(with_template(template, tmp_path / "mute.gguf")))
    assert ran.returncode == 0
    assert ran.stderr.startswith("mute is on this device, but it cannot chat. ")
    assert told in ran.stderr
    assert "ready" not in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_help_speaks_english_and_french() -> None:
    for command in ("add", "list", "info", "verify", "remove"):
        assert "Usage: lucie models" in lucie(command, "--help").stdout
        french = lucie(command, "--help", lang="fr").stdout
        assert "Utilisation : lucie models" in french
    assert "Example: lucie models add" in lucie("add", "--help").stdout
    assert "Exemple : lucie models info" in lucie("info", "--help", lang="fr").stdout


def test_wrong_use_exits_with_2(gguf: Path) -> None:
    ran = lucie("add", "hf:nothing")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("lucie: ")
    assert lucie("add", str(gguf), "--name", "A B").returncode == 2
    assert lucie("remove", "nothing").returncode == 1
