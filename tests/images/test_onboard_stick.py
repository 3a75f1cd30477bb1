"""What is found on a stick, offered and taken: nothing of it is trusted."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from edge.bundle import Bundle
from edge.errors import StoreError
from edge.manifest import Manifest
from images.onboard import bundles, news, offers, programs, stick, store
from tests.edge.gguf_files import tiny


@pytest.fixture(autouse=True)
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of a board, in English, with one model in use."""
    root = tmp_path / "board"
    for name in ("run/offers", "choice", "data/data/models", "sys/sdb1"):
        (root / name).mkdir(parents=True)
    (root / "environment").write_text("LUCIE_LANG=en\n")
    (root / "mounts").write_text(
        "/dev/vda1 /boot/firmware vfat ro 0 0\n/dev/vda4 /data ext4 rw 0 0\n"
    )
    (root / "data/model").write_text("LUCIE_MODEL=before\n")
    monkeypatch.setenv("LUCIE_LANG", "en")
    monkeypatch.setattr(stick, "_TRIES", 1)
    for module, name, place in (
        (news, "NEWS", "news"), (news, "_ENVIRONMENT", "environment"), (stick, "_RUN", "run"),
        (stick, "_BLOCK", "sys"), (stick, "_MOUNTS", "mounts"), (offers, "OFFERS", "run/offers"),
        (offers, "CHOICE", "choice/offer"), (store, "HOME", "data"),
        (store, "_CHOSEN", "data/model"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, root / place)
    return root


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The top folder of a stick that can be mounted."""
    place = tmp_path / "plugged"
    place.mkdir()

    @contextmanager
    def mounted(device: str) -> Iterator[Path]:
        assert device == "sdb1"
        yield place

    monkeypatch.setattr(stick, "mounted", mounted)
    return place


@pytest.fixture
def served(board: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models that the server was started with, as its service reads them."""
    started: list[str] = []

    def run(*command: str, seconds: float | None = None) -> object:
        waits = command == ("systemctl", "restart", "lucie-serve.service")
        assert waits or command == ("systemctl", "--no-block", "restart", "lucie-serve.service")
        assert (seconds == 600) == waits, "systemd itself would wait for ever"
        trying = board / "run/trying"
        lines = [file.read_text() for file in (board / "data/model", trying) if file.exists()]
        started.append(lines[-1].removeprefix("LUCIE_MODEL=").rstrip())
        if started[-1] == "endless":
            raise subprocess.TimeoutExpired(command, 600)
        return type("Ended", (), {"returncode": int(started[-1] == "useless")})

    monkeypatch.setattr(stick, "run", run)
    return started


def bundle(place: Path, name: str = "toy", kind: str = "gguf") -> Bundle:
    place.parent.mkdir(exist_ok=True)
    weights = tiny("llama").write(place.with_name(f".{name}"))
    content = weights.read_bytes()
    manifest = Manifest.model_validate(
        {"kind": kind, "name": name, "provenance": "declared", "languages": ["fr", "en"],
         "files": {"toy.gguf": {"sha256": sha256(content).hexdigest(), "size": len(content)}}}
    )  # fmt: skip
    return Bundle.write(place, manifest, {"toy.gguf": weights}, move=True)


def told(board: Path, name: str = "stick-sdb1") -> str:
    file = board / "news" / name
    return file.read_text(encoding="utf-8").rstrip() if file.exists() else ""


def choose(board: Path, name: str = "sdb1-toy") -> None:
    (board / "choice/offer").write_text(f"{name}\n")


# --- looking


def test_a_model_is_offered(board: Path, plugged: Path) -> None:
    made = bundle(plugged / "folder/toy")
    stick.look("sdb1")
    assert told(board).startswith("The stick has the model toy (")
    assert told(board).endswith("fr, en). F4: use it.")
    [file] = (board / "run/offers").iterdir()
    assert file.name == "sdb1-toy"
    offer = json.loads(file.read_text())
    assert offer["text"] in told(board)
    assert (offer["folder"], offer["sha256"]) == ("folder/toy", made.sha256)
    assert file.stat().st_mode & 0o777 == 0o644, "the chat reads it"
    (board / "sys/sdb1").rmdir()
    stick.gone("sdb1")
    assert told(board) == ""
    assert list((board / "run/offers").iterdir()) == []


def test_a_stick_without_models_is_told_of(board: Path, plugged: Path) -> None:
    (plugged / "photos").mkdir()
    stick.look("sdb1")
    assert told(board).startswith("There is no model on the stick.")


def test_a_plain_file_is_not_offered(board: Path, plugged: Path) -> None:
    tiny("llama").write(plugged / "toy.gguf")
    stick.look("sdb1")
    assert "toy.gguf on the stick is a plain file" in told(board)
    assert list((board / "run/offers").iterdir()) == []


def test_a_file_is_called_by_its_name(board: Path, plugged: Path) -> None:
    (plugged / "modèle.gguf").touch()
    (plugged / "\x1b[2Ja.gguf").touch()
    stick.look("sdb1")
    assert "modèle.gguf on the stick is a plain file" in told(board)
    assert "[2J" not in told(board), "what a terminal obeys"


def test_the_disk_that_the_board_has_started_from_is_no_stick(board: Path, plugged: Path) -> None:
    for part in ("sda1", "sda4"):
        (board / f"sys/sda/{part}").mkdir(parents=True)
        (board / f"sys/sda/{part}/partition").touch()
        (board / f"sys/{part}").symlink_to(f"sda/{part}")
    (board / "mounts").write_text("/dev/sda4 /data ext4 rw 0 0\n")
    stick.look("sda1")
    assert told(board, "stick-sda1") == ""


def spoil_hash(place: Path) -> None:
    with (place / "toy.gguf").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")


def spoil_link(place: Path) -> None:
    shutil.move(place / "toy.gguf", place.parent.parent / "away")
    (place / "toy.gguf").symlink_to(place.parent.parent / "away")


def spoil_manifest_link(place: Path) -> None:
    shutil.move(place / "manifest.json", place.parent.parent / "away")
    (place / "manifest.json").symlink_to(place.parent.parent / "away")


def spoil_manifest(place: Path) -> None:
    (place / "manifest.json").write_text('{"format": 1, "kind": "gguf", "name": "../../etc"}')


def spoil_huge_manifest(place: Path) -> None:
    os.truncate(place / "manifest.json", 1 << 40)


def spoil_pipe(place: Path) -> None:
    (place / "manifest.json").unlink()
    os.mkfifo(place / "manifest.json")


def spoil_files(place: Path) -> None:
    for number in range(100):
        (place / f"{number}").mkdir()


def spoil_weights(place: Path) -> None:
    content = b"GGUF" + bytes(100)
    (place / "toy.gguf").write_bytes(content)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"]["toy.gguf"] = {"sha256": sha256(content).hexdigest(), "size": 104}
    (place / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(spoil_hash, "not offered: toy.gguf in bad is not what it was (its SHA-256 differs)"),
     (spoil_link, "not offered: toy.gguf in bad is a link or a device"),
     (spoil_manifest_link, "not offered: manifest.json in bad is a link or a device"),
     (spoil_manifest, "not offered: The manifest of bad is not valid: name:"),
     (spoil_huge_manifest, "larger than any model’s folder"),
     (spoil_pipe, "not offered: manifest.json in bad is a link or a device"),
     (spoil_files, "larger than any model’s folder"),
     (spoil_weights, "not offered: bad/toy.gguf has version 0 of the GGUF format")],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_what_is_damaged_or_hostile_is_told_and_not_offered(
    spoil: Callable[[Path], None], reason: str, board: Path, plugged: Path
) -> None:
    bundle(plugged / "bad")
    spoil(plugged / "bad")
    bundle(plugged / "toy")
    stick.look("sdb1")
    first, second = told(board).splitlines()
    assert first.startswith("bad on the stick is ")
    assert reason in first
    assert second.startswith("The stick has the model toy")
    assert [each.name for each in (board / "run/offers").iterdir()] == ["sdb1-toy"]


def test_of_what_a_stick_has_a_part_is_looked_at(plugged: Path) -> None:
    for number in range(20):
        (plugged / f"n{number:02}").mkdir()
        (plugged / f"n{number:02}/manifest.json").touch()
    deep = plugged / "a/b/c"
    deep.mkdir(parents=True)
    (deep / "manifest.json").touch()
    (plugged / ".hidden").mkdir()
    (plugged / ".hidden/manifest.json").touch()
    (plugged / "odd\n").mkdir()
    (plugged / "odd\n/manifest.json").touch()
    (plugged / "away").symlink_to(plugged / "n00")
    assert [each.name for each in bundles.candidates(plugged)] == [f"n{n:02}" for n in range(8)]


def test_a_model_among_thousands_of_photos_is_found(
    plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order that the folder has, which is nobody's."""
    monkeypatch.setattr(bundles, "_ENTRIES", 1)
    for number in range(100):
        (plugged / f"photo{number}.jpg").touch()
    (plugged / "toy").mkdir()
    (plugged / "toy/manifest.json").touch()
    (plugged / "toy.gguf").touch()
    assert [each.name for each in bundles.candidates(plugged)] == ["toy"]
    assert bundles.plain_files(plugged) == ["toy.gguf"]


@pytest.mark.parametrize("kind", ["onnx", "corpus", "image"])
def test_what_a_board_does_not_run_is_not_offered(kind: str, board: Path, plugged: Path) -> None:
    bundle(plugged / "toy", kind=kind)
    stick.look("sdb1")
    assert "is no model that a board runs" in told(board)


def test_a_model_too_large_for_the_memory_or_the_card_is_not_offered(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    monkeypatch.setattr("images.onboard.bundles.SYSTEM", 1 << 60)
    stick.look("sdb1")
    assert told(board).startswith("toy on the stick is not offered: ")
    monkeypatch.undo()


def test_a_card_without_room_is_told(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    monkeypatch.setattr("images.onboard.store._SPARE", 1 << 60)
    stick.look("sdb1")
    assert told(board).startswith("The model toy of the stick needs ")
    assert list((board / "run/offers").iterdir()) == []


def test_a_model_that_the_card_has_is_offered_unless_it_is_in_use_or_another(
    board: Path, plugged: Path
) -> None:
    bundle(plugged / "toy")
    shutil.copytree(plugged / "toy", board / "data/data/models/toy")
    stick.look("sdb1")
    assert "F4" in told(board)
    (board / "data/model").write_text("LUCIE_MODEL=toy\n")
    stick.look("sdb1")
    assert "in use already" in told(board)
    manifest = board / "data/data/models/toy/manifest.json"
    other = json.loads(manifest.read_text())
    other["files"]["toy.gguf"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(other))
    stick.look("sdb1")
    assert "another one of that name" in told(board)
    assert list((board / "run/offers").iterdir()) == []


# --- mounting


# As mount(8) of util-linux 2.41 says it.
DAMAGED = """mount: /run/x: wrong fs type, bad option, bad superblock on /dev/sdb9, missing \
codepage or helper program, or other error.
       dmesg(1) may have more information after failed mount system call.
"""
KINDS = {"sdb6": (0, "BitLocker"), "sdb7": (8, ""), "sdb8": (2, ""), "sdb5": (0, "")}
"""What blkid(8) ends with, and what it says."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Programs that were called; some devices are such that they fail."""
    called: list[tuple[str, ...]] = []

    def run(*command: str, **_: object) -> object:
        called.append(command)
        code, kind, error = 0, "vfat", ""
        if command[0] == "mount":
            code, error = {"sdb9": (32, DAMAGED)}.get(command[-2][5:], (0, ""))
        elif command[0] == "blkid":
            code, kind = KINDS.get(command[-1][5:], (0, "vfat"))
        facts = {"returncode": code, "stdout": f"{kind}\n", "stderr": error}
        return type("Ended", (), facts)

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(stick, "run", run)
    return called


def test_who_reads_the_same_stick_reads_it_in_a_folder_of_its_own(
    board: Path, commands: list[tuple[str, ...]]
) -> None:
    with stick.mounted("sdb1") as first:
        with stick.mounted("sdb1") as second:
            assert first != second
        assert first.is_dir()
        assert not second.exists()
        mounts = [command for command in commands if command[0] == "mount"]
        assert [command[-1] for command in mounts] == [str(first), str(second)]
    assert not first.exists()
    assert all("ro,nosuid,nodev,noexec,nosymfollow" in command for command in mounts)


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("device", "reason"),
    [("sdb5", "it has no file system"), ("sdb8", "it has no file system"),
     ("sdb6", "its file system is BitLocker"), ("sdb7", "it has traces of two file systems"),
     ("sdb9", r"its file system \(vfat\) is damaged")],
)  # fmt: skip
def test_what_cannot_be_mounted_is_told_in_our_words_and_leaves_no_folder(
    device: str, reason: str, board: Path
) -> None:
    with pytest.raises(OSError, match=reason), stick.mounted(device):
        pass
    assert [each.name for each in (board / "run").iterdir()] == ["offers"]


def test_what_a_program_says_of_its_failure_is_the_reason() -> None:
    with pytest.raises(OSError, match="no good") as raised:
        programs.output("sh", "-c", "echo first >&2; echo no good >&2; exit 3")
    assert raised.value.strerror == "no good"
    with pytest.raises(OSError, match="first"):
        programs.output("sh", "-c", "echo first >&2; echo '  dmesg(1) may have more' >&2; exit 3")
    with pytest.raises(OSError, match="sh: 3"):
        programs.output("sh", "-c", "exit 3")
    assert programs.output("cat", given="read\n") == "read"


# --- pulled out


@pytest.fixture
def pulled(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a file's content pulls the stick out."""

    def pull(*_: object) -> None:
        shutil.rmtree(board / "sys/sdb1", ignore_errors=True)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("edge.bundle._hash", pull)
    monkeypatch.setattr("edge.bundle._copy", pull)


@pytest.mark.usefixtures("pulled")
def test_a_stick_that_is_pulled_out_while_it_is_read_is_one_line(
    board: Path, plugged: Path
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    line = "The stick was pulled out while it was being read. Plug it in again."
    assert told(board) == line
    stick.gone("sdb1")
    assert told(board) == line, "it is still to be read"
    assert list((board / "run/offers").iterdir()) == []
    stick.gone("sdb1")
    assert told(board) == ""


def test_a_stick_that_is_gone_before_it_is_mounted_is_one_line(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: str, **__: object) -> object:
        shutil.rmtree(board / "sys/sdb1")
        return type("Ended", (), {"returncode": 2, "stdout": "", "stderr": ""})

    monkeypatch.setattr(stick, "run", fail)
    stick.look("sdb1")
    assert told(board) == "The stick was pulled out while it was being read. Plug it in again."


@pytest.mark.parametrize(
    ("result", "status", "line"),
    [("timeout", "TERM", "Reading the stick took too much time or memory"),
     ("oom-kill", "KILL", "Reading the stick took too much time or memory"),
     ("signal", "SEGV", "Reading the stick took too much time or memory"),
     ("core-dump", "BUS", "Reading the stick took too much time or memory"),
     ("watchdog", "ABRT", "Reading the stick took too much time or memory"),
     ("signal", "TERM", "The stick was pulled out"),
     ("success", "0", "The stick was pulled out")],
)  # fmt: skip
def test_a_look_that_is_cut_off_is_one_line(
    result: str, status: str, line: str, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another stick may be there already: it is looked at, unless it is the one that fails."""
    started: list[str] = []
    monkeypatch.setattr(stick, "run", lambda *command: started.append(command[-1]))
    monkeypatch.setenv("SERVICE_RESULT", result)
    monkeypatch.setenv("EXIT_STATUS", status)
    (board / "run/reading-sdb1").touch()
    stick.gone("sdb1")
    assert told(board).startswith(line)
    assert not (board / "run/reading-sdb1").exists()
    again = line == "The stick was pulled out"
    assert started == ["lucie-stick@sdb1.service"] * again


@pytest.mark.usefixtures("pulled")
def test_a_stick_that_is_pulled_out_while_it_is_copied_leaves_nothing(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    monkeypatch.setattr("edge.bundle._hash", lambda path, _: sha256(path.read_bytes()).hexdigest())
    stick.look("sdb1")
    choose(board)
    stick.take()
    assert told(board, "stick").startswith("The stick was pulled out while toy was being copied")
    assert list((board / "data/data/models").iterdir()) == []
    assert served == []
    assert (board / "data/model").read_text() == "LUCIE_MODEL=before\n"


# --- taking


def test_a_model_can_be_taken_while_the_next_are_read(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "a/toy")
    bundle(plugged / "b/other", "other")
    lines = stick.models("sdb1", plugged)
    assert "model toy" in next(lines)
    with stick._alone() as alone:
        assert alone, "who chooses it would wait for all the others"
    choose(board)
    stick.take()
    assert served == ["toy"]
    assert "model other" in next(lines)


def test_a_copy_that_is_being_made_is_not_cleared(board: Path, plugged: Path) -> None:
    draft = board / "data/data/models/.tmp-toy-1234"
    draft.mkdir()
    with stick._alone(wait=True):
        assert list(stick.models("sdb1", plugged)) == []
    assert draft.exists()


def test_what_is_chosen_is_copied_and_used(board: Path, plugged: Path, served: list[str]) -> None:
    made = bundle(plugged / "toy")
    (board / "data/data/models/.tmp-old-1234").mkdir()
    stick.look("sdb1")
    assert list((board / "data/data/models").iterdir()) == [], "what was cut off is cleared"
    choose(board)
    stick.take()
    copied = Bundle.open(board / "data/data/models/toy", verify=True)
    assert copied.manifest == made.manifest
    assert [each.name for each in (board / "data/data/models").iterdir()] == ["toy"]
    assert served == ["toy"]
    assert (board / "data/model").read_text() == "LUCIE_MODEL=toy\n"
    assert told(board, "stick").startswith("toy answers from now on.")
    assert not (board / "choice/offer").exists(), "else it would be taken again and again"


@pytest.mark.parametrize("name", ["useless", "endless"])
def test_a_model_that_does_not_start_is_not_kept_in_use(
    name: str, board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / name, name)
    stick.look("sdb1")
    choose(board, f"sdb1-{name}")
    stick.take()
    assert served == [name, "before"]
    assert (board / "data/model").read_text() == "LUCIE_MODEL=before\n"
    assert f"does not start with {name}" in told(board, "stick")


def test_a_model_is_kept_in_use_only_when_the_server_has_started_with_it(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a board whose plug is pulled, since nothing comes of it, starts with it again."""

    def run(*_: str, **__: object) -> object:
        assert (board / "data/model").read_text() == "LUCIE_MODEL=before\n"
        assert (board / "run/trying").read_text() == "LUCIE_MODEL=toy\n"
        return type("Ended", (), {"returncode": 0})

    monkeypatch.setattr(stick, "run", run)
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    stick.take()
    assert (board / "data/model").read_text() == "LUCIE_MODEL=toy\n"
    assert not (board / "run/trying").exists()


def test_a_choice_that_cannot_be_written_leaves_the_model_before(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stick, "use", full)
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    stick.take()
    assert served == ["toy", "before"]
    assert told(board, "stick") == "toy was not taken: No space left on device"


@pytest.mark.parametrize("result", ["timeout", "oom-kill", "signal", "exit-code"])
def test_a_copy_that_is_cut_off_is_one_line(
    result: str, board: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", result)
    news.tell("stick", "being copied")
    stick.main(["ended"])
    assert told(board, "stick").startswith("The model of the stick could not be used: ")
    assert served == []
    (board / "run/trying").write_text("LUCIE_MODEL=endless\n")
    stick.main(["ended"])
    assert served == ["before"]


def test_a_copy_that_has_come_to_its_end_has_told_so(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "success")
    news.tell("stick", "toy answers")
    stick.main(["ended"])
    assert told(board, "stick") == "toy answers"


def test_a_card_that_has_become_full_is_told_before_anything_is_copied(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    monkeypatch.setattr("images.onboard.store._SPARE", 1 << 60)
    stick.take()
    assert told(board, "stick").startswith("The model toy of the stick needs ")
    assert told(board, "stick").endswith(", and 0 kB are free.")
    assert list((board / "data/data/models").iterdir()) == served == []


def damage_manifest(place: Path) -> None:
    (place / "manifest.json").write_bytes(bytes(300))


def damage_size(place: Path) -> None:
    os.truncate(place / "toy.gguf", 10)


def damage_folder(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()


def damage_link(place: Path) -> None:
    shutil.move(place, place.parents[4] / "kept")
    place.symlink_to(place.parents[4] / "kept")
    (place / "manifest.json").write_text("{}")


def damage_content(place: Path) -> None:
    with (place / "toy.gguf").open("r+b") as file:
        content = bytearray(file.read())
        content[-4:] = bytes(each ^ 1 for each in content[-4:])
        file.seek(0)
        file.write(content)  # all of it, as a copy has: it has no holes then
        file.flush()
        os.fsync(file.fileno())


@pytest.mark.parametrize(
    "damage", [damage_manifest, damage_size, damage_folder, damage_link], ids=lambda f: f.__name__
)
def test_a_damaged_model_of_the_card_is_replaced(
    damage: Callable[[Path], None], board: Path, plugged: Path, served: list[str]
) -> None:
    made = bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    damage(place)
    stick.look("sdb1")
    choose(board)
    assert place.exists(), "looking replaces nothing"
    stick.take()
    assert Bundle.open(place, verify=True).manifest == made.manifest
    assert served == ["toy"]
    kept = board.parent / "kept"
    assert not kept.exists() or (kept / "toy.gguf").exists(), "a link is not followed"


@pytest.mark.parametrize("in_use", ["before", "toy"])
def test_a_model_whose_content_the_card_has_lost_is_replaced(
    in_use: str, board: Path, plugged: Path, served: list[str]
) -> None:
    """Its files have their sizes: only reading tells."""
    made = bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    damage_content(place)
    (board / "data/model").write_text(f"LUCIE_MODEL={in_use}\n")
    stick.look("sdb1")
    choose(board)
    stick.take()
    assert "answers from now on" in told(board, "stick")
    assert Bundle.open(place, verify=True).manifest == made.manifest
    assert served == ["toy"]


@pytest.fixture
def lost(board: Path, plugged: Path) -> Path:
    """The model in use, whose content the card has lost, while the same of a stick is chosen."""
    bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    damage_content(place)
    (board / "data/model").write_text("LUCIE_MODEL=toy\n")
    stick.look("sdb1")
    choose(board)
    return place


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card has less room than stays free for conversations."""
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)


@pytest.mark.usefixtures("full")
def test_a_full_card_has_the_room_of_what_it_has_lost(
    board: Path, lost: Path, served: list[str]
) -> None:
    stick.take()
    assert "answers from now on" in told(board, "stick")
    assert Bundle.open(lost, verify=True)
    assert served == ["toy"]


@pytest.mark.usefixtures("full")
def test_without_room_what_was_lost_is_not_removed(
    board: Path, lost: Path, served: list[str]
) -> None:
    size = (lost / "toy.gguf").stat().st_size
    for now in (0, size):  # it has no blocks then
        os.truncate(lost / "toy.gguf", now)
    stick.take()
    assert told(board, "stick").startswith("The model toy of the stick needs ")
    assert (lost / "toy.gguf").exists()
    assert served == []


def test_what_was_lost_stays_when_the_stick_is_another_one(
    board: Path, plugged: Path, lost: Path, served: list[str]
) -> None:
    manifest = plugged / "toy/manifest.json"
    manifest.write_text(manifest.read_text().replace("declared", "unknown"))
    stick.take()
    assert told(board, "stick") == "toy was not taken: it is another one than was offered"
    assert (lost / "toy.gguf").exists()
    assert served == []


def test_what_was_lost_stays_when_the_stick_is_not_there_any_more(
    board: Path, lost: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is pulled out while the card's own is read, which takes minutes."""

    @contextmanager
    def missing(_: str) -> Iterator[Path]:
        shutil.rmtree(board / "sys/sdb1")
        raise OSError(0, "no such device")
        yield

    whole = store.Shelf.has

    def has(shelf: store.Shelf, name: str) -> bool:
        monkeypatch.setattr(stick, "mounted", missing)
        return whole(shelf, name)

    monkeypatch.setattr(store.Shelf, "has", has)
    stick.take()
    assert told(board, "stick").endswith("and the model is the one before.")
    assert (lost / "toy.gguf").exists()
    assert served == []


@pytest.mark.parametrize(
    ("error", "line"),
    [("pulled", "The stick was pulled out while toy was being copied: nothing of it was kept."),
     ("failed", "toy was not taken: Input/output error")],
)  # fmt: skip
def test_that_the_model_is_gone_is_told(
    error: str, line: str, board: Path, lost: Path, served: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        if error == "pulled":
            shutil.rmtree(board / "sys/sdb1")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("edge.bundle._copy", fail)
    stick.take()
    assert not lost.exists()
    gone = "The card’s own toy was damaged, and is gone: plug the stick in, and choose it again."
    assert told(board, "stick").splitlines() == [line, gone]
    assert served == []


def test_the_room_of_a_damaged_model_is_that_of_the_next(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1 << 30})
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    place = board / "data/data/models/toy"
    bundle(place)
    with store.shelf() as shelf:
        spare = (1 << 30) - (64 << 20)
        assert shelf.room("toy") == shelf.room("other") == spare, "a whole one stays"
        with (place / "rest").open("wb") as file:  # which makes it a damaged one
            file.write(os.urandom(4 << 20))
            os.fsync(file.fileno())
        assert 4 << 20 <= shelf.room("toy") - spare < 5 << 20
        os.truncate(place / "rest", 1 << 40)
        assert shelf.room("toy") - spare < 5 << 20, "it has no more blocks"
        assert shelf.room("other") == spare


def test_a_model_of_a_later_format_is_not_replaced(board: Path, plugged: Path) -> None:
    bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    (place / "manifest.json").write_text('{"format": 99}')
    stick.look("sdb1")
    assert "another one of that name" in told(board)
    with store.shelf() as shelf, pytest.raises(StoreError):
        shelf.take(Bundle.open(plugged / "toy", verify=False))
    assert (place / "toy.gguf").exists()


def test_another_model_of_the_same_name_is_not_taken_for_it(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were offered, as the card had none of that name then."""
    first = bundle(plugged / "toy")
    stick.look("sdb1")
    other = plugged.with_name("other")
    bundle(other / "toy")
    content = (other / "toy/toy.gguf").read_bytes() + bytes(32)
    (other / "toy/toy.gguf").write_bytes(content)
    manifest = json.loads((other / "toy/manifest.json").read_text())
    manifest["files"]["toy.gguf"] = {"sha256": sha256(content).hexdigest(), "size": len(content)}
    (other / "toy/manifest.json").write_text(json.dumps(manifest))

    @contextmanager
    def mounted(device: str) -> Iterator[Path]:
        yield {"sdb1": plugged, "sdc1": other}[device]

    monkeypatch.setattr(stick, "mounted", mounted)
    stick.look("sdc1")
    for device in ("sdb1", "sdc1"):
        choose(board, f"{device}-toy")
        stick.take()
    assert told(board, "stick").startswith("The stick has a model toy, and the card has another")
    assert served == ["toy"], "the first"
    assert Bundle.open(board / "data/data/models/toy", verify=True).manifest == first.manifest


def test_a_stick_that_has_become_another_one_is_not_taken(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    manifest = plugged / "toy/manifest.json"
    manifest.write_text(manifest.read_text().replace("declared", "unknown"))
    choose(board)
    stick.take()
    assert "another one than was offered" in told(board, "stick")
    assert served == []


def test_what_was_changed_after_it_was_offered_is_not_taken(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    spoil_hash(plugged / "toy")
    choose(board)
    stick.take()
    assert told(board, "stick").startswith("toy was not taken: ")
    assert list((board / "data/data/models").iterdir()) == []
    assert served == []


@pytest.mark.parametrize(
    "name", ["", "sdb1-other", "../offers/sdb1-toy", "/etc/passwd", "sdb1-toy\x00", "x" * 10_000]
)
def test_only_what_was_offered_is_taken(
    name: str, board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board, name)
    stick.take()
    assert list((board / "data/data/models").iterdir()) == served == []
    assert not (board / "choice/offer").exists()


def test_that_an_offer_has_gone_while_the_list_was_open_is_told(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    (board / "sys/sdb1").rmdir()
    stick.gone("sdb1")
    choose(board)
    stick.take()
    assert told(board, "stick").startswith("What was chosen is not offered any more: ")
    assert served == []


def test_a_choice_that_is_no_file_is_cleared(board: Path) -> None:
    choice = board / "choice/offer"
    offers.make(offers.Offer(text="x", title="x", name="toy", device="sdb1", folder="toy",
                             sha256="0" * 64))  # fmt: skip
    (board / "secret").write_text("sdb1-toy")

    def full() -> None:
        (choice / "a/b").mkdir(parents=True)
        (choice / "a/file").touch()
        (choice / "link").symlink_to(board / "data")

    for make in (
        lambda: choice.symlink_to(board / "secret"), lambda: os.mkfifo(choice), choice.mkdir,
        lambda: choice.symlink_to(board / "data"), full,
    ):  # fmt: skip
        make()
        assert offers.chosen() is None
        assert not choice.is_symlink()
        assert not choice.exists()
    assert (board / "secret").exists()
    assert (board / "data/model").exists()


# --- models of the card


def offered(board: Path) -> list[str]:
    return sorted(each.name for each in (board / "run/offers").iterdir())


def of_card(*names: str) -> list[str]:
    """Each of them may be used, and removed."""
    return sorted(f"{device}-{name}" for device in ("card", "trash") for name in names)


def test_another_model_of_the_card_is_offered_and_taken_without_a_stick(
    board: Path, served: list[str]
) -> None:
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    stick.main(["card"])
    assert offered(board) == of_card("toy")
    text = json.loads((board / "run/offers/card-toy").read_text())["text"]
    assert text.startswith("The card has the model toy (")
    choose(board, "card-toy")
    stick.take()
    assert told(board, "stick") == "toy answers from now on."
    assert served == ["toy"]
    assert offered(board) == of_card("before")


def test_a_model_that_a_stick_has_brought_leaves_the_one_before_to_be_chosen(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(board / "data/data/models/before", "before")
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    stick.take()
    (board / "sys/sdb1").rmdir()
    stick.gone("sdb1")
    assert offered(board) == of_card("before")
    choose(board, "card-before")
    stick.take()
    assert served == ["toy", "before"]


def test_a_model_of_the_card_that_has_lost_its_content_is_not_used(
    board: Path, served: list[str]
) -> None:
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    stick.card()
    damage_content(board / "data/data/models/toy")
    choose(board, "card-toy")
    stick.take()
    assert told(board, "stick").startswith("The card’s own toy is damaged: plug in a stick")
    assert served == []


@pytest.mark.usefixtures("served")
def test_what_of_the_card_does_not_run_is_not_offered(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = board / "data/data/models"
    bundle(models / "before", "before")
    bundle(models / "graph", "graph", kind="onnx")
    bundle(models / "broken", "broken")
    damage_manifest(models / "broken")
    stick.card()
    assert offered(board) == ["trash-broken", "trash-graph"], "which have their room for nothing"
    bundle(models / "toy")
    monkeypatch.setattr("images.onboard.bundles.SYSTEM", 1 << 60)
    stick.card()
    assert "card-toy" not in offered(board), "it has no room in the memory"


@pytest.mark.parametrize("spoil", [None, "manifest"])
def test_a_model_that_is_not_in_use_is_removed_when_that_is_chosen(
    spoil: str | None, board: Path, served: list[str]
) -> None:
    models = board / "data/data/models"
    for name in ("before", "toy"):
        bundle(models / name, name)
    if spoil:
        damage_manifest(models / "toy")
    stick.card()
    offer = json.loads((board / "run/offers/trash-toy").read_text())
    assert re.fullmatch(r"Remove the model toy from the card \(\d+ kB\)\.", offer["text"])
    assert offer["ask"].startswith("Remove toy? ")
    choose(board, "trash-toy")
    stick.take()
    assert re.fullmatch(r"toy is not on the card any more: .+ are free\.", told(board, "stick"))
    assert [each.name for each in models.iterdir()] == ["before"]
    assert offered(board) == []
    assert served == []


def test_a_model_that_has_been_taken_into_use_meanwhile_is_not_removed(
    board: Path, served: list[str]
) -> None:
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    stick.card()
    removal = (board / "run/offers/trash-toy").read_bytes()
    choose(board, "card-toy")
    stick.take()
    assert served == ["toy"]
    (board / "run/offers/trash-toy").write_bytes(removal)
    choose(board, "trash-toy")
    stick.take()
    assert told(board, "stick") == "toy is in use now, and stays."
    assert offered(board) == of_card("before")
    assert Bundle.open(board / "data/data/models/toy", verify=True)


def test_a_removal_that_fails_is_one_line_and_one_that_is_cut_off_is_made_up_for(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = board / "data/data/models"
    for name in ("before", "toy"):
        bundle(models / name, name)
    stick.card()

    def failing(place: Path) -> None:
        (place / "toy.gguf").unlink()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", failing)
        choose(board, "trash-toy")
        stick.take()
    assert told(board, "stick") == "toy was not removed: Input/output error"
    stick.card()
    assert offered(board) == []
    assert [each.name for each in models.iterdir()] == ["before"]


def test_a_full_card_says_what_may_be_removed(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "large", "large")
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    monkeypatch.setattr(store, "_SPARE", 1 << 60)
    stick.look("sdb1")
    assert "0 kB are free. F4: remove one of the card’s; then plug the stick in" in told(board)
    shutil.rmtree(board / "data/data/models/toy")
    stick.look("sdb1")
    assert told(board).endswith("and 0 kB are free.")


def test_where_the_model_in_use_is_gone_another_stands_in(board: Path, served: list[str]) -> None:
    """The plug was pulled while a damaged one made room for its copy."""
    for name in ("endless", "toy"):
        bundle(board / "data/data/models" / name, name)
    (board / "data/data/models/.tmp-before-1234").mkdir()
    stick.card()
    assert served == ["endless", "before", "toy"], "one that starts"
    assert (board / "data/model").read_text() == "LUCIE_MODEL=toy\n"
    line = "The model before is not on the card any more, and toy answers in its place."
    assert told(board, "stick").startswith(line)
    assert offered(board) == of_card("endless")


def test_that_no_model_is_left_is_told_at_each_start(board: Path, served: list[str]) -> None:
    stick.card()
    assert told(board, "stick").startswith("The card’s own before was damaged, and is gone: ")
    assert served == []


# --- the store


def test_a_link_of_the_server_leads_root_nowhere(board: Path) -> None:
    shutil.move(board / "data/data", board / "moved")
    (board / "data/data").symlink_to(board / "moved")
    with pytest.raises(NotADirectoryError), store.shelf():
        pass


def test_what_is_used_is_told_by_the_last_line(board: Path) -> None:
    store.use("toy")
    assert store.in_use() == "toy"
    (board / "data/model").write_text("LUCIE_MODEL=a\nLUCIE_MODEL=b\n")
    assert store.in_use() == "b"
    (board / "data/model").unlink()
    assert store.in_use() == ""


@pytest.mark.parametrize("name", ["../sda", "sda1/..", "", "sda1;x", "-t"])
def test_a_device_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"\['.*'\]"):
        stick.main(["look", name])
