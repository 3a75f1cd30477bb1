"""Update files: what is signed is taken, and nothing else."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from images.errors import ImageError
from images.onboard.update import newest
from images.onboard.update_file import opened
from tests.images import updates


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return updates.ssh_key(tmp_path)


def read(file: Path, key: Path) -> dict[str, bytes]:
    with opened(file, updates.signers(key)) as update:
        return {name: b"".join(content) for name, content in update.files()}


def code(file: Path, key: Path) -> str:
    with pytest.raises(ImageError) as raised:
        read(file, key)
    return raised.value.code


def test_what_was_put_in_comes_out(tmp_path: Path, key: Path) -> None:
    found = read(updates.update(tmp_path, key), key)
    assert found["root.erofs"] == b"new" * 1000
    assert found["boot/overlays/README"] == b"new overlays/README"
    assert next(iter(found)) == "root.erofs"


def test_it_is_an_archive_that_tar_lists(tmp_path: Path, key: Path) -> None:
    file = updates.update(tmp_path, key)
    listed = subprocess.run(["tar", "-tf", file], check=True, capture_output=True, text=True)
    assert listed.stdout.split()[:3] == ["manifest.json", "manifest.json.sig", "root.erofs"]


def test_another_key_is_nobodys(tmp_path: Path, key: Path) -> None:
    file = updates.update(tmp_path, updates.ssh_key(tmp_path, "other"))
    assert code(file, key) == "update.not-signed"


def test_a_signature_for_something_else_does_not_hold(tmp_path: Path, key: Path) -> None:
    file = updates.update(tmp_path, key)
    told = tmp_path / "manifest.json"
    told.write_bytes(_members(file)["manifest.json"])
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", key, told], check=True,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    _change(file, lambda name, content: (
        told.with_name("manifest.json.sig").read_bytes() if name.endswith(".sig") else content
    ))  # fmt: skip
    assert code(file, key) == "update.not-signed"


def test_a_board_that_trusts_nobody_says_so(tmp_path: Path, key: Path) -> None:
    file = updates.update(tmp_path, key)
    with (
        pytest.raises(ImageError) as raised,
        opened(file, tmp_path / "none"),
    ):
        pass
    assert raised.value.code == "update.no-signers"


def test_a_changed_manifest_is_not_signed(tmp_path: Path, key: Path) -> None:
    file = updates.update(tmp_path, key)
    _change(file, lambda name, content: (
        content.replace(b"2026-11-26", b"2027-11-26") if name == "manifest.json" else content
    ))  # fmt: skip
    assert code(file, key) == "update.not-signed"


def test_a_file_too_many_is_told(tmp_path: Path, key: Path) -> None:
    file = updates.update(tmp_path, key)
    with tarfile.open(file, "a") as archive:
        archive.addfile(tarfile.TarInfo("boot/more"))
    read(file, key)  # behind the last that was signed: nobody looks at it
    _rename(file, "boot/initrd", "boot/other")
    assert code(file, key) == "update.damaged"


def test_one_that_is_cut_short_is_told(tmp_path: Path, key: Path) -> None:
    file = updates.update(tmp_path, key)
    whole = file.read_bytes()
    for size in (0, 700, whole.index(b"new vmlinuz")):
        file.write_bytes(whole[:size])
        assert code(file, key) == "update.damaged"


def test_what_is_none_is_told(tmp_path: Path, key: Path) -> None:
    file = tmp_path / "none.lucie-update"
    file.write_bytes(b"no tar at all" * 1000)
    assert code(file, key) == "update.damaged"
    with tarfile.open(file, "w") as archive:
        archive.addfile(tarfile.TarInfo("etc/passwd"))
    assert code(file, key) == "update.none"


def test_a_huge_beginning_is_not_read_into_memory(tmp_path: Path, key: Path) -> None:
    file = tmp_path / "huge.lucie-update"
    header = tarfile.TarInfo("manifest.json")
    header.size = 1 << 32
    with file.open("wb") as writer:
        writer.write(header.tobuf(tarfile.USTAR_FORMAT))
        writer.truncate(header.size)
    assert code(file, key) == "update.none"
    header.type = tarfile.XHDTYPE  # an extended header, whose size a tar reader would trust
    with file.open("r+b") as writer:
        writer.write(header.tobuf(tarfile.USTAR_FORMAT))
    assert code(file, key) == "update.damaged"


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/etc/hostname"),
     lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)],
)  # fmt: skip
def test_what_is_no_file_is_told_and_does_not_hide_the_one_beside_it(
    tmp_path: Path, key: Path, make: Callable[[Path], None]
) -> None:
    odd = tmp_path / "odd.lucie-update"
    make(odd)
    assert code(odd, key) == "update.none"
    file = updates.update(tmp_path, key)
    assert newest(tmp_path, updates.signers(key)) == file


def _members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {member.name: _read(archive, member) for member in archive}


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


def _change(file: Path, change: Callable[[str, bytes], bytes]) -> None:
    members = _members(file)
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            changed = change(name, content)
            member = tarfile.TarInfo(name)
            member.size = len(changed)
            archive.addfile(member, io.BytesIO(changed))


def _rename(file: Path, old: str, new: str) -> None:
    members = _members(file)
    with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(new if name == old else name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
