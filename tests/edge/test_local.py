"""One engine process for all who use a model, with the real model."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from edge import http_client
from edge.child import Child, last_words
from edge.client import Delta, Message, Starting
from edge.errors import EngineError, LucieError, UnknownModelError, UsageError
from edge.http_client import HttpClient
from edge.local import LocalServer, RemoteServer
from edge.paths import runtime_dir
from tests.edge.servers import Running, scripted, until

HELLO: list[Message] = [{"role": "user", "content": "Tell me a long story about the sea."}]
SMALL = ("--ctx-size", "1024", "--parallel", "2")


@pytest.fixture
async def local(model_path: Path) -> AsyncIterator[LocalServer]:
    """A connector whose process ends soon after its last user."""
    connector = LocalServer(str(model_path), arguments=SMALL, linger_s=0.2)
    yield connector
    await connector.aclose()
    until(lambda: not servers())


def servers() -> list[int]:
    """Processes that serve a socket of this test's home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if os.fsencode(runtime_dir()) in command:
            found.append(int(process.name))
    return found


async def text_of(connector: LocalServer) -> str:
    client = await connector.connect()
    pieces = []
    async with aclosing(client.chat(HELLO, {"max_tokens": 4, "temperature": 0})) as replies:
        pieces = [reply.text async for reply in replies if isinstance(reply, Delta)]
    await client.aclose()
    return "".join(pieces)


async def test_another_file_under_the_same_name_has_a_process_of_its_own(
    model_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    shutil.copyfile(model_path, path)
    connectors = [LocalServer(str(path), arguments=SMALL, linger_s=0.2) for _ in range(3)]
    first, again, other = connectors
    try:
        await (await first.connect()).aclose()
        await (await again.connect()).aclose()
        assert len(servers()) == 1
        shutil.copyfile(model_path, tmp_path / "new")
        (tmp_path / "new").replace(path)
        await (await other.connect()).aclose()
        assert len(servers()) == 2
    finally:
        for connector in connectors:
            await connector.aclose()
    until(lambda: not servers())


async def kill_at_first_text(client: HttpClient, pid: int) -> None:
    async with aclosing(client.chat(HELLO)) as replies:
        async for reply in replies:
            if isinstance(reply, Delta):
                os.kill(pid, signal.SIGKILL)


async def test_all_users_share_one_process_that_ends_after_the_last(
    local: LocalServer, model_path: Path
) -> None:
    told: list[Starting] = []
    other = LocalServer(str(model_path), arguments=SMALL, linger_s=0.2)
    clients = await asyncio.gather(local.connect(told.append), other.connect())
    (pid,) = servers()
    assert [local._child, other._child].count(None) == 1, "two were started"
    assert told[0] == Starting("starting", 0.0)
    assert {state.stage for state in told} == {"starting", "loading"}
    assert (await clients[0].info()).n_ctx == 1024
    assert await text_of(local) == await text_of(other)
    for client in clients:
        await client.aclose()
    await local.aclose()
    await asyncio.sleep(0.6)
    assert servers() == [pid]
    await other.aclose()
    until(lambda: not servers())
    assert not list(runtime_dir().glob("*.sock"))


async def test_a_killed_engine_is_an_error_and_the_next_message_starts_another(
    local: LocalServer,
) -> None:
    client = await local.connect()
    (pid,) = servers()
    with pytest.raises(EngineError, match="memory") as caught:
        await kill_at_first_text(client, pid)
    assert caught.value.code == "local.killed"
    await client.aclose()
    assert list(runtime_dir().glob("*.sock")), "a killed process leaves its socket"
    assert await text_of(local)
    assert servers() != [pid]


async def test_an_engine_that_crashes_between_messages_is_replaced(local: LocalServer) -> None:
    client = await local.connect()
    (pid,) = servers()
    os.kill(pid, signal.SIGSEGV)
    until(lambda: not servers() or local._child is None or local._child.ended())
    with pytest.raises(EngineError, match="SIGSEGV"):
        await client.info()
    await client.aclose()
    assert await text_of(local)


async def test_a_killed_chat_leaves_no_engine_behind(model_path: Path) -> None:
    program = (
        "import asyncio, sys; from edge.local import LocalServer\n"
        "async def main():\n"
        f"    await LocalServer(sys.argv[1], arguments={SMALL!r}, linger_s=0.2).connect()\n"
        "    print('ready', flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(model_path)], stdout=subprocess.PIPE, text=True
    ) as chat:
        assert chat.stdout is not None
        assert chat.stdout.readline() == "ready\n"
        (pid,) = servers()
        assert os.getsid(pid) != os.getsid(chat.pid), "Ctrl-C in the chat would reach it"
        chat.kill()
    until(lambda: not servers())


async def test_a_hung_engine_is_named(
    local: LocalServer, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await local.connect()
    await client.aclose()
    (pid,) = servers()
    monkeypatch.setattr(http_client, "_ASK_S", 0.3)
    os.kill(pid, signal.SIGSTOP)
    other = LocalServer(str(model_path), arguments=SMALL, linger_s=0.2)
    with pytest.raises(EngineError, match=f"kill -9 {pid}"):
        await other.connect()
    os.kill(pid, signal.SIGCONT)


async def test_the_model_may_be_removed_while_it_is_loaded(
    model_path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copyfile(model_path, copy)
    local = LocalServer(str(copy), arguments=SMALL, linger_s=0.2)
    before = await text_of(local)
    copy.unlink()
    with pytest.raises(UnknownModelError):
        await LocalServer(str(copy)).connect()
    client = await RemoteServer(f"unix:{next(runtime_dir().glob('*.sock'))}").connect()
    async with aclosing(client.chat(HELLO, {"max_tokens": 4, "temperature": 0})) as replies:
        after = [reply.text async for reply in replies if isinstance(reply, Delta)]
    assert "".join(after) == before
    await client.aclose()
    await local.aclose()
    until(lambda: not servers())


# -- what keeps a server from starting -----------------------------------------------


async def test_an_unknown_model_starts_nothing() -> None:
    with pytest.raises(UnknownModelError):
        await LocalServer("no-such-model").connect()
    assert not servers()


async def test_why_a_model_is_refused_is_told_as_the_server_found_it(
    model_path: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(model_path.read_bytes()[:1_000_000])
    with pytest.raises(LucieError) as caught:
        await LocalServer(str(damaged), linger_s=0.2).connect()
    # By its answer, or by its last words where it had ended before it could be asked.
    assert caught.value.code in ("gguf.truncated", "local.said")
    assert str(caught.value).endswith("“lucie models verify” checks what is there.")
    with pytest.raises(UsageError, match=r"8.?192"):
        await LocalServer(str(model_path), arguments=("--ctx-size", "99999999")).connect()
    until(lambda: not servers())


async def test_a_process_that_ends_at_once_is_explained(model_path: Path) -> None:
    with pytest.raises(EngineError, match="--no-such-option") as caught:
        await LocalServer(str(model_path), arguments=("--no-such-option",)).connect()
    assert caught.value.code == "local.said"


async def test_a_folder_that_others_can_write_is_not_trusted(model_path: Path) -> None:
    runtime_dir().chmod(0o777)
    with pytest.raises(EngineError, match="chmod 700"):
        await LocalServer(str(model_path)).connect()


async def test_a_path_too_long_for_a_socket_is_refused(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_HOME", str(tmp_path / ("x" * 100)))
    with pytest.raises(EngineError, match="LUCIE_HOME"):
        await LocalServer(str(model_path)).connect()


def test_a_child_is_explained_by_its_end_and_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = Child(["run", "--no-such-option"], log)
    until(child.ended)
    assert child.cause().code == "local.said", "it knew why, and said it in the user's language"
    assert "--no-such-option" in str(child.cause())
    assert not str(child.cause()).startswith("lucie: ")
    log.write_text("Traceback\nMistake\n")
    assert child.cause().code == "local.ended"
    assert "Mistake" in str(child.cause())
    log.write_text("first\n\x1b[31mlast\n\n")
    assert last_words(log).endswith(": \ufffd[31mlast")
    log.unlink()
    assert last_words(log) == ""


# -- servers elsewhere ---------------------------------------------------------------


@pytest.fixture
def loading(tmp_path: Path) -> Iterator[Running]:
    with scripted(tmp_path, "--load-s", "1", ready=False) as server:
        yield server


async def test_a_server_elsewhere_is_waited_for_while_it_loads(loading: Running) -> None:
    told: list[Starting] = []
    connector = RemoteServer(loading.address)
    client = await connector.connect(told.append)
    assert told
    assert all(state.stage == "loading" for state in told)
    assert (await client.info()).name == "letters"
    await client.aclose()
    await connector.aclose()
