"""`lucie image flash`: what it takes, what it refuses, on real block devices."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli import main
from images.flashing import drives as subject
from tests.images.images import SIZE, content, loop_device, write_image

_ROOM = 8 << 20


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "card"
    file.write_bytes(b"\xff" * _ROOM)
    with loop_device(file) as path:
        yield path


def test_a_block_device_is_written(
    tmp_path: Path, device: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_image(tmp_path, ".img.zst", mapped=True)
    assert main(["image", "flash", str(image), str(device), "--yes"]) == 0
    assert f"{device}: written and read back" in capsys.readouterr().err
    assert (tmp_path / "card").read_bytes()[: 1 << 20] == content()[: 1 << 20]


def test_who_may_not_write_is_told_who_may(
    tmp_path: Path,
    device: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = write_image(tmp_path, ".img.zst", mapped=True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["image", "flash", str(image), str(device), "--yes"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("lucie: Only root ")
    assert f" image flash {image} {device}" in said


def test_the_image_must_fit(
    tmp_path: Path, device: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "large.img"
    image.touch()
    os.truncate(image, 2 * _ROOM)
    assert main(["image", "flash", str(image), str(device), "--yes"]) == 1
    said = capsys.readouterr().err
    assert said == f"lucie: {device} has 8 MB, the image needs 17 MB. Take a larger card.\n"


def test_a_packed_image_that_does_not_fit_is_noticed_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small"
    file.write_bytes(b"\xff" * (SIZE // 4096 * 4096 - 4096))
    with loop_device(file) as path:
        image = write_image(tmp_path, ".img.xz")
        assert main(["image", "flash", str(image), str(path), "--yes"]) == 1
    assert "less than the image needs" in capsys.readouterr().err


@pytest.fixture
def mounted(tmp_path: Path, device: Path) -> Iterator[Path]:
    """Where a file system on the device is mounted."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("there is no mkfs.ext4 here")
    subprocess.run(["mkfs.ext4", "-q", str(device)], check=True)
    place = tmp_path / "place"
    place.mkdir()
    if subprocess.run(["mount", str(device), str(place)], capture_output=True).returncode:
        pytest.skip("this machine lets us mount nothing")
    yield place
    subprocess.run(["umount", str(place)], capture_output=True)


def test_what_is_mounted_is_not_written(
    tmp_path: Path, device: Path, mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tmp_path / "card").read_bytes()
    image = write_image(tmp_path, ".img")
    assert main(["image", "flash", str(image), str(device), "--yes"]) == 2
    said = capsys.readouterr().err
    assert f"in use by this computer, at {mounted}, and is not overwritten" in said
    assert (tmp_path / "card").read_bytes() == before


def test_what_a_desktop_mounted_is_unmounted(
    tmp_path: Path, device: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_BY_DESKTOPS", (tmp_path,))
    image = write_image(tmp_path, ".img")
    assert main(["image", "flash", str(image), str(device), "--yes"]) == 0
    assert not mounted.is_mount()


def test_what_another_program_holds_is_not_written(
    tmp_path: Path, device: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_image(tmp_path, ".img")
    held = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        assert main(["image", "flash", str(image), str(device), "--yes"]) == 1
    finally:
        os.close(held)
    assert f"{device} is in use by another program" in capsys.readouterr().err
    assert (tmp_path / "card").read_bytes() == b"\xff" * _ROOM


def test_a_reader_without_a_card_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lsblk` says nothing of such a device, and ends with 32."""
    program = tmp_path / "bin/lsblk"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 32\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(Path, "is_block_device", lambda _: True)
    image = write_image(tmp_path, ".img")
    assert main(["image", "flash", str(image), "/dev/reader", "--yes"]) == 1
    assert capsys.readouterr().err == "lucie: There is no card in /dev/reader.\n"
    assert main(["image", "flash", "--list"]) == 1
    assert "cannot be listed by lsblk (32)" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1), (None, 2)])
def test_it_asks_first(
    tmp_path: Path,
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
    status: int,
) -> None:
    typed = tmp_path / "typed"
    typed.write_text("" if answer is None else f"{answer}\n", encoding="utf-8")
    with typed.open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        image = write_image(tmp_path, ".img")
        assert main(["image", "flash", str(image), str(device)]) == status
    said = capsys.readouterr().err
    assert f"| {device} | 8 MB |" in said
    assert ((tmp_path / "card").read_bytes()[:SIZE] == content()) == (status == 0)


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer with disks, one of them eMMC, a stick, a locked card and an empty reader."""

    def node(name: str, **more: object) -> dict[str, object]:
        plain = {"type": "disk", "size": 32 * 10**9, "vendor": None, "model": None, "tran": None}
        flags = {"rm": False, "hotplug": False, "ro": False, "mountpoints": [None]}
        return {"name": f"/dev/{name}", **plain, **flags, **more}

    root = node("nvme0n1p2", type="part", mountpoints=["/"])
    backup = node("sdc1", type="part", mountpoints=["/srv/backup"])
    open_ = node("sda1", type="part", mountpoints=["/media/ada/CARD"])
    nodes = [
        node("nvme0n1", tran="nvme", model="Samsung 990", children=[root]),
        node("sdz", tran="sata", model="Old disk"),
        node("sda", tran="usb", vendor="SanDisk ", model="Ultra", rm=True, children=[open_]),
        node("sdc", tran="usb", model="Backup", hotplug=True, children=[backup]),
        node("sdd", tran="usb", size=0, rm=True),
        node("mmcblk0", tran="mmc", hotplug=True, ro=True),
        node("mmcblk1", hotplug=True),
        node("mmcblk1boot0", hotplug=True),
    ]

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        wanted = [word for word in command if word.startswith("/dev/")]
        found = [each for each in nodes if not wanted or each["name"] in wanted]
        return subprocess.CompletedProcess(command, 0, json.dumps({"blockdevices": found}), "")

    for name, kind in (("mmcblk0", "SD"), ("mmcblk1", "MMC")):
        file = tmp_path / "block" / name / "device/type"
        file.parent.mkdir(parents=True)
        file.write_text(f"{kind}\n", encoding="ascii")
    monkeypatch.setattr(subject, "_BLOCKS", tmp_path / "block")
    monkeypatch.setattr(subject.subprocess, "run", run)
    monkeypatch.setattr(Path, "is_block_device", lambda self: True)


@pytest.mark.usefixtures("computer")
def test_what_can_be_pulled_out_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "flash", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["/dev/sda", "32.0 GB", "SanDisk Ultra", "/media/ada/CARD"],
        ["/dev/mmcblk0", "32.0 GB", "mmc", ""],
    ]


@pytest.mark.usefixtures("computer")
@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("nvme0n1", 2, "(Samsung 990) is in use by this computer, at /, and"),
        ("sdz", 2, "(Old disk) is a disk of this computer"),
        ("sdc", 2, "(Backup) is in use by this computer, at /srv/backup, and"),
        ("sdd", 1, "There is no card in /dev/sdd."),
        ("mmcblk0", 1, "is write-protected"),
        ("mmcblk1", 2, "(mmc) is a disk of this computer"),
        ("mmcblk1boot0", 2, "(mmc) is a disk of this computer"),
    ],
)
def test_other_drives_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, status: int, said: str
) -> None:
    image = write_image(tmp_path, ".img")
    assert main(["image", "flash", str(image), f"/dev/{name}", "--yes"]) == status
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("computer")
def test_all_that_will_not_do_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = write_image(tmp_path, ".img")
    devices = ["/dev/sda", "/dev/sdd", "/dev/mmcblk0", "/dev/sdz"]
    assert main(["image", "flash", str(image), *devices, "--yes"]) == 2
    empty, locked, disk = capsys.readouterr().err.splitlines()
    assert empty == "There is no card in /dev/sdd."
    assert locked.startswith("/dev/mmcblk0 is write-protected")
    assert disk.startswith("lucie: /dev/sdz (Old disk) is a disk of this computer")


def test_a_stick_is_not_written_with_an_image_that_lies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stick = subject.Drive(Path("/dev/full"), "disk", _ROOM, "stick", True, False, (str(tmp_path),))
    monkeypatch.setattr(subject, "drive", lambda _: stick)
    monkeypatch.setattr(subject, "unmount", lambda _: pytest.fail("it stays open"))
    (tmp_path / "isos").mkdir()
    image = write_image(tmp_path / "isos", ".img.xz")
    monkeypatch.chdir(image.parent)
    assert main(["image", "flash", image.name, "/dev/full", "--yes"]) == 2
    assert capsys.readouterr().err.startswith(f"lucie: /dev/full holds {image.name}, which")


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three cards that are files, of which the second takes nothing."""
    names = {"one": Path("one"), "two": Path("/dev/full"), "three": Path("a card")}
    monkeypatch.chdir(tmp_path)
    for path in (names["one"], names["three"]):
        path.write_bytes(b"\xff" * _ROOM)

    def drive(path: Path) -> subject.Drive:
        return subject.Drive(path, "disk", _ROOM, "card", True, False, ())

    monkeypatch.setattr(subject, "drive", drive)
    return [str(path) for path in names.values()]


def test_of_several_those_that_failed_are_told_with_what_writes_them_alone(
    tmp_path: Path,
    cards: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    image = write_image(tmp_path, ".img.xz")
    renamed = image.rename(tmp_path / "my card.img.xz")
    assert main(["image", "flash", renamed.name, *cards, "--yes"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("one: written and read back")
    assert told[1].startswith("a card: written and read back")
    assert re.fullmatch(
        r"Written and read back: 2, in \d+ (s|min)\. They can be taken out\.", told[2]
    )
    assert told[3].startswith("Failed: /dev/full has 8 MB")
    again = "lucie image flash 'my card.img.xz' /dev/full"
    assert told[4:] == [f"lucie: 1 of 3 cards failed. To write these alone: {again}"]
    assert Path("one").read_bytes()[:SIZE] == Path("a card").read_bytes()[:SIZE] == content()


@pytest.mark.parametrize("before", ["by root", "without a right to"])
def test_what_writes_them_alone_is_the_command_that_was_given_and_root_finds_it(
    tmp_path: Path,
    cards: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: str,
) -> None:
    monkeypatch.setenv("SUDO_USER", "anne")
    if before == "without a right to":
        monkeypatch.delenv("SUDO_USER")
        monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr("sys.argv", ["my env/bin/lucie", "image", "flash"])
    image = write_image(tmp_path, ".img", mapped=True)
    words = ["image", "flash", image.name, "/dev/full", "--bmap", "g.img.bmap"]
    assert main([*words, *["--yes"] * (before == "by root")]) == 1
    told = capsys.readouterr().err.splitlines()
    again = f"sudo '{tmp_path}/my env/bin/lucie' image flash g.img /dev/full --bmap g.img.bmap"
    assert told[-1].endswith(f": {again}")
    assert ("Only root may write" in told[-1]) == (before == "without a right to")
    assert not [line for line in told if "taken out" in line]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name the image to write"),
        (["notes.txt", "/dev/null"], "notes.txt is no image of a card"),
        (["gone.img", "/dev/null"], "There is no file gone.img."),
        (["g.img"], "Name the devices to write on"),
        (["g.img", "/dev/null"], "/dev/null is no drive"),
        (["g.img", "/dev/absent"], "There is no /dev/absent."),
        (["g.img", "g.img"], "g.img is no drive"),
    ],
)
def test_other_words_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    write_image(tmp_path, ".img")
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["image", "flash", *words]) in (1, 2)
    assert said in capsys.readouterr().err
