"""A board, and a stick whose content is a folder, for the tests of what is done with sticks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from edge.bundle import Bundle
from edge.manifest import Manifest
from images.onboard import mounting, news, offers, stick, store, taking
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
    monkeypatch.setattr(mounting, "_TRIES", 1)
    for module, name, place in (
        (news, "NEWS", "news"), (news, "_ENVIRONMENT", "environment"),
        (mounting, "RUN", "run"), (stick, "RUN", "run"), (taking, "RUN", "run"),
        (mounting, "_BLOCK", "sys"), (mounting, "_MOUNTS", "mounts"),
        (offers, "OFFERS", "run/offers"),
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

    for module in (stick, taking):
        monkeypatch.setattr(module, "mounted", mounted)
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

    monkeypatch.setattr(taking, "run", run)
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


def damage_manifest(place: Path) -> None:
    (place / "manifest.json").write_bytes(bytes(300))


def damage_content(place: Path) -> None:
    with (place / "toy.gguf").open("r+b") as file:
        content = bytearray(file.read())
        content[-4:] = bytes(each ^ 1 for each in content[-4:])
        file.seek(0)
        file.write(content)  # all of it, as a copy has: it has no holes then
        file.flush()
        os.fsync(file.fileno())


def offered(board: Path) -> list[str]:
    return sorted(each.name for each in (board / "run/offers").iterdir())


def of_card(*names: str) -> list[str]:
    """Each of them may be used, and removed."""
    return sorted(f"{device}-{name}" for device in ("card", "trash") for name in names)


def spoil_hash(place: Path) -> None:
    with (place / "toy.gguf").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
