"""Programs in a file system of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from images.building.room import Room, as_root, remove
from images.errors import ImageError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of this computer in a folder, which is no copy."""
    if subprocess.run([*as_root("--mount", "--net"), "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    folder = tmp_path_factory.mktemp("tools") / "root"
    folder.mkdir()
    for name in ("bin", "etc", "lib", "lib64", "usr", "sbin", "proc", "dev", "tmp"):
        (folder / name).mkdir()
    return folder


_FOLDERS = ("bin", "lib", "lib64", "usr", "sbin")
SYSTEM = {f"/{name}": Path("/", name) for name in _FOLDERS if Path("/", name).exists()}


def said(root: Path, script: str, **binds: Path) -> str:
    bound = SYSTEM | {f"/{name}": folder for name, folder in binds.items()}
    command = Room(root).command(["sh", "-c", script], bound)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_nothing_is_seen_but_what_is_bound(root: Path, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    assert said(root, "ls /given", given=tmp_path) == "here\n"
    assert said(root, "ls /etc") == ""
    assert said(root, f"test -e {tmp_path} || echo unseen") == "unseen\n"


def test_there_is_no_network_but_its_own(root: Path) -> None:
    assert said(root, "cat /proc/net/dev | tail -n +3 | cut -d: -f1").split() == ["lo"]


def test_who_works_there_is_root_and_sees_no_other_process(root: Path) -> None:
    assert said(root, "id -u; ls -d /proc/[0-9]* | wc -l").split()[0] == "0"
    assert said(root, f"test -e /proc/{os.getpid()} || echo none") in {"none\n", ""}


def test_what_is_written_where_something_is_bound_stays(root: Path, tmp_path: Path) -> None:
    said(root, "echo made > /out/file", out=tmp_path)
    assert (tmp_path / "file").read_text() == "made\n"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_who_builds(root: Path, tmp_path: Path, umask: int) -> None:
    script = "mkdir /out/folder && touch /out/file && stat -c %a /out/f*"
    before = os.umask(umask)
    try:
        told = said(root, script, out=tmp_path)
    finally:
        os.umask(before)
    assert told.split() == ["644", "755"]


def test_what_a_killed_step_has_left_goes_with_the_next(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("images.building.room.STEPS", tmp_path)
    (tmp_path / "make.sh").write_text("ls -A /tmp; touch /tmp/made; echo done\n")
    left = root.with_name(".tmp-tmp-killed")
    left.mkdir()
    (left / "large").touch()
    (root / "tmp/of-the-room").touch()
    heard: list[str] = []
    Room(root).run("make", binds=SYSTEM, log=tmp_path / "log", heard=heard.append)
    assert heard == ["done"]
    assert list(root.parent.iterdir()) == [root]
    assert [file.name for file in (root / "tmp").iterdir()] == ["of-the-room"]


def test_a_folder_is_removed_that_is_not_there(tmp_path: Path) -> None:
    remove(tmp_path / "none")
    (tmp_path / "some/deep").mkdir(parents=True)
    remove(tmp_path / "some")
    assert not (tmp_path / "some").exists()


def test_a_folder_that_stays_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ImageError, match="refusing to remove"):
        remove(tmp_path / "a" / "..")  # rm does not, whoever asks
