"""`lucie image update`: what is wrong is told before anything is unpacked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.errors import InterruptedByUserError, LucieError
from images.building.update import public_key
from images.commands import image
from images.commands.place import place
from images.commands.signing import signing_key
from images.errors import ImageError
from tests.images import updates

_LUCIE = "import sys; from edge.cli import main; sys.exit(main(['image', *sys.argv[1:]]))"
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


def test_what_is_no_key_is_told(tmp_path: Path, key: Path) -> None:
    for name in ("text", "text.pub", "open"):
        (tmp_path / name).write_text("no key\n")
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    (tmp_path / "folder").mkdir()
    key.rename(tmp_path / "other")  # of key.pub, the other half is not there any more
    codes = {"none": "missing", "text/none": "missing", "text": "none", "text.pub": "none",
             "folder": "none", "open": "open-to-others", "key.pub": "no-private"}  # fmt: skip
    before = sorted(tmp_path.iterdir())
    for name, code in codes.items():
        error = refused(tmp_path / "card.img", "--key", tmp_path / name)
        assert error.code == f"build.key-{code}", name
        assert name in str(error)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_not_known_is_told_as_openssh_says_it(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/ssh-keygen"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho it is Monday >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    error = refused(tmp_path / "card.img", "--key", key)
    assert error.code == "update.no-key"
    assert "it is Monday" in str(error)


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A key with a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "locked"]
    subprocess.run(command, check=True)
    return tmp_path / "locked"


def without_a_terminal(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`lucie image` in a session of its own, so that nobody can be asked anything."""
    command = [sys.executable, "-c", _LUCIE, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, start_new_session=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("half", ["private", "both"])
@pytest.mark.parametrize("command", ["update", "build"])
def test_a_passphrase_that_nobody_can_be_asked_for_is_told_before_the_work(
    command: str, half: str, tmp_path: Path, locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LUCIE_LANG", "fr")
    if half == "private":
        locked.with_name("locked.pub").unlink()
    elif command == "build":
        pytest.skip("there it is the public half that is wanted")
    words = {"update": ("none.img", "--key"), "build": ("--model", "none", "--update-key")}
    ended = without_a_terminal(command, *words[command], locked)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"La clé {locked} a une phrase secrète" in ended.stderr
    assert f"(ssh-add {locked})" in ended.stderr


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What a person types where OpenSSH asks in a window."""
    program = tmp_path / "askpass"

    def say(passphrase: str) -> None:
        program.write_text(f"#!/bin/sh\necho {passphrase}\n")
        program.chmod(0o755)
        monkeypatch.setenv("SSH_ASKPASS", str(program))
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")

    return say


def test_a_passphrase_that_is_another_is_told(
    locked: Path, says: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    says("secret")
    public = locked.with_name("locked.pub")
    written = public.read_text()
    assert signing_key(locked) == written.strip(), "it will be asked for when it signs"
    public.unlink()
    assert written.startswith(signing_key(locked).rsplit(" ", 1)[0])
    says("other")
    with pytest.raises(ImageError) as caught:
        signing_key(locked)
    assert caught.value.code == "build.key-wrong-passphrase"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        yield
        process.terminate()


@pytest.mark.usefixtures("agent")
def test_an_agent_has_what_nobody_is_asked_for(
    tmp_path: Path, locked: Path, says: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    says("secret")
    subprocess.run(["ssh-add", "-q", locked], check=True)
    monkeypatch.delenv("SSH_ASKPASS")
    monkeypatch.delenv("SSH_ASKPASS_REQUIRE")
    ended = without_a_terminal("update", "none.img", "--key", locked)
    assert ended.stderr.endswith("lucie: There is no file none.img.\n")
    locked.unlink()
    assert signing_key(locked.with_name("locked.pub"))


def test_two_do_not_make_the_same(tmp_path: Path, key: Path) -> None:
    out = tmp_path / "u.lucie-update"
    with place(out):
        assert refused(tmp_path / "x.img", "--key", key, "-o", out).code == "build.busy"


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
    assert not out.exists()


def test_what_a_killed_one_has_left_goes(tmp_path: Path, key: Path) -> None:
    left = tmp_path / ".tmp-u-killed"
    left.mkdir()
    (left / "card.img").touch()
    refused(tmp_path / "none.img", "--key", key, "-o", tmp_path / "u")
    assert not left.exists()


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
    assert error.code == "workshop.unwritable"


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
