"""`lucie image update`: what is wrong is told before anything is unpacked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.errors import InterruptedByUserError, LucieError
from images.building.update import public_key
from images.commands import image
from tests.images import updates

_PACK = """
import sys
from pathlib import Path
from images.building.update import pack
from images.errors import ImageError
from tests.images.updates import MADE
folder = Path(sys.argv[1])
try:
    pack(folder / "files", MADE, folder / "locked", folder / "out")
except ImageError as error:
    print(error.code)
"""


def refused(*arguments: str | Path) -> LucieError:
    ended = CliRunner().invoke(image, ["update", *map(str, arguments)])
    assert isinstance(ended.exception, LucieError)
    return ended.exception


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return updates.ssh_key(tmp_path)


def test_a_key_is_told_by_either_half(key: Path) -> None:
    public = key.with_name("key.pub")
    written = public.read_text().strip()
    assert public_key(key) == public_key(public) == written
    public.unlink()
    # What ssh-keygen makes of the other half alone.
    assert written.startswith(public_key(key).rsplit(" ", 1)[0])


@pytest.mark.parametrize("name", ["none", "text", "text.pub"])
def test_what_is_no_key_is_told(tmp_path: Path, name: str) -> None:
    if name != "none":
        (tmp_path / name).write_text("no key\n")
    (tmp_path / "card.img").touch()
    error = refused(tmp_path / "card.img", "--key", tmp_path / name)
    assert error.code == "update.no-key"
    assert name in str(error)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"card.img", name} - {"none"})


@pytest.mark.parametrize("half", ["key", "key.pub"])
def test_without_ssh_keygen_it_is_told_what_to_install(
    half: str, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key.with_name("key.pub").rename(tmp_path / "other.pub")
    if half == "key.pub":
        (tmp_path / "other.pub").rename(tmp_path / "key.pub")
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(tmp_path / "card.img", "--key", tmp_path / half)
    assert error.code == "update.no-ssh-keygen"
    assert "openssh-client" in str(error)


def test_what_is_no_image_is_told_and_nothing_is_left(tmp_path: Path, key: Path) -> None:
    out = tmp_path / "out"
    error = refused(tmp_path / "none.img", "--key", key, "-o", out / "x.lucie-update")
    assert error.code == "flash.no-file"
    assert list(out.iterdir()) == []


def test_each_time_the_log_is_begun_anew(tmp_path: Path, home: Path, key: Path) -> None:
    log = home / "cache/images/update.log"
    log.parent.mkdir(parents=True)
    log.write_text("of the time before")
    refused(tmp_path / "none.img", "--key", key, "-o", tmp_path / "x.lucie-update")
    assert not log.exists()


def test_a_file_that_is_there_stays(tmp_path: Path, key: Path) -> None:
    there = tmp_path / "x.lucie-update"
    there.write_text("mine")
    assert refused(tmp_path / "x.img", "--key", key, "-o", there).code == "update.exists"
    assert there.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, key: Path) -> None:
    (tmp_path / "file").touch()
    error = refused(tmp_path / "x.img", "--key", key, "-o", tmp_path / "file/x.lucie-update")
    assert error.code == "update.unwritable"


def test_who_interrupts_it_is_told_and_finds_nothing(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("images.building.update.unpack", unpack)
    before = set(tmp_path.iterdir())
    ended = CliRunner().invoke(
        image, ["update", str(tmp_path / "x.img"), "--key", str(key), "-o", str(tmp_path / "u")]
    )
    assert "Interrupted; nothing was kept." in ended.stderr
    assert isinstance(ended.exception, InterruptedByUserError)
    assert set(tmp_path.iterdir()) == before


def test_a_key_with_a_passphrase_and_no_terminal_is_told(tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "locked"]
    subprocess.run(command, check=True)
    files = tmp_path / "files/boot"
    files.mkdir(parents=True)
    for name in ("root.erofs", "boot/vmlinuz", "boot/initrd", "boot/cmdline.txt"):
        (tmp_path / "files" / name).write_text(name)
    # In a session of its own, so that it cannot ask at the terminal of whoever runs the tests.
    ended = subprocess.run(
        [sys.executable, "-c", _PACK, tmp_path], capture_output=True, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert ended.stdout == "update.no-key\n"
