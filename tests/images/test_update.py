"""An update is laid beside what runs, and stays only if it reaches the chat."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from images.errors import ImageError
from images.onboard import boot_partition, slots, trial, update
from images.onboard.screen import has_screen
from images.onboard.slots import Card, Slot, Trial
from images.onboard.trial import judge
from images.onboard.update import take
from images.onboard.update_record import Record, Records
from tests.images import updates

NEW = b"new" * 1000


@pytest.fixture(autouse=True)
def _mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_partition, "output", lambda *_: "")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return updates.ssh_key(tmp_path)


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return updates.card(tmp_path)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "records")


def started(card: Card, letter: str) -> Card:
    """The card in a board whose firmware and init have started that system."""
    return Card(card.boot, card.partitions, Slot(letter), card.signature)


def config(card: Card) -> str:
    return (card.boot / "config.txt").read_text()


def code(file: Path, card: Card, key: Path, records: Records) -> str:
    with pytest.raises(ImageError) as raised:
        take(file, card, updates.signers(key), records)
    return raised.value.code


def test_it_is_laid_beside_what_runs_and_starts_next(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    take(updates.update(tmp_path, key), card, updates.signers(key), records)
    assert card.partitions[3].read_bytes().startswith(NEW)
    assert card.partitions[2].read_bytes() == b"\xff" * 4096
    assert (card.boot / "B/vmlinuz").read_text() == "new vmlinuz"
    line = (card.boot / "B/cmdline.txt").read_text()
    assert line == "console=tty1 quiet lucie.disk=0011aabb lucie.root=3 lucie.trial\n"
    assert config(card) == "# os_prefix=C/\nos_prefix=B/\narm_64bit=1\n"
    assert (card.boot / "loader/loader.conf").read_text() == "timeout 0\ndefault B.conf\n"
    entry = (card.boot / "loader/entries/B.conf").read_text()
    assert "linux /B/vmlinuz\ninitrd /B/initrd\n" in entry
    assert entry.endswith("options quiet lucie.disk=0011aabb lucie.root=3 lucie.trial\n")
    assert card.trial == Trial(3, Slot("A"))


def test_it_stays_when_the_chat_has_answered(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    file = updates.update(tmp_path, key)
    take(file, card, updates.signers(key), records)
    new, asked = started(card, "B"), []
    outcome, record = judge(new, Trial(2, Slot("A")), records, lambda: asked.append(1))
    assert (outcome, asked) == ("stays", [1])
    assert record is not None
    assert record == records.running
    assert record.root == hashlib.sha256(NEW).hexdigest()
    assert new.trial is None
    assert "os_prefix=B/" in config(card)
    for name in ("B/cmdline.txt", "loader/entries/B.conf"):
        assert "lucie.root=3" in (card.boot / name).read_text()
        assert "lucie.trial" not in (card.boot / name).read_text()
    assert code(file, new, key, records) == "update.runs"


def test_one_that_does_not_answer_is_left_and_not_tried_again(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    file = updates.update(tmp_path, key)
    take(file, card, updates.signers(key), records)
    # What board/init does when no tries are left: see test_init.py.
    (card.boot / "trial").write_text("0 A\n")
    outcome, record = judge(card, Trial(0, Slot("A")), records, pytest.fail)
    assert outcome == "returned"
    assert record is not None
    assert record.returned
    assert "os_prefix=A/" in config(card)
    assert card.trial is None
    assert code(file, card, key, records) == "update.returned"
    later = updates.update(tmp_path, key, system=b"mended" * 9)
    take(later, card, updates.signers(key), records)
    assert "os_prefix=B/" in config(card)


def test_one_that_is_laid_meanwhile_is_not_judged(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    """A stick is in when a board comes back from an update that has failed."""
    take(updates.update(tmp_path, key), card, updates.signers(key), records)
    (card.boot / "trial").write_text("0 A\n")
    failed = card.trial
    assert failed is not None
    later = updates.update(tmp_path, key, system=b"mended" * 9)
    laid = take(later, card, updates.signers(key), records)
    assert judge(card, failed, records, pytest.fail) == ("replaced", None)
    assert card.trial == Trial(3, Slot("A"))
    assert "os_prefix=B/" in config(card), "it is what starts next"
    assert records.last_laid == laid
    assert not laid.returned


def test_a_cut_before_the_letter_leaves_what_runs(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    file = updates.update(tmp_path, key)
    take(file, card, updates.signers(key), records)
    (card.boot / "config.txt").write_text(updates.CONFIG)
    (card.boot / "trial").write_text("4 A\n")
    outcome, _ = judge(card, Trial(4, Slot("A")), records, pytest.fail)
    assert outcome == "unfinished"
    assert card.trial is None
    take(file, card, updates.signers(key), records)  # and it may be put in again
    assert "os_prefix=B/" in config(card)


def test_a_letter_that_somebody_has_written_back_is_a_trial_that_failed(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    """Its kernel never came as far as init, which would have counted."""
    file = updates.update(tmp_path, key)
    take(file, card, updates.signers(key), records)
    (card.boot / "config.txt").write_text(updates.CONFIG)
    trial = card.trial
    assert trial is not None
    assert judge(card, trial, records, pytest.fail)[0] == "returned"
    assert code(file, card, key, records) == "update.returned"


def test_a_cut_while_the_letter_is_written_is_known_as_one(
    tmp_path: Path, key: Path, card: Card, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = updates.update(tmp_path, key)

    def cut(*_: object) -> bool:
        raise OSError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(slots, "_overwrite", cut)
        with pytest.raises(OSError, match="cut"):
            take(file, card, updates.signers(key), records)
    trial = card.trial
    assert trial is not None
    assert judge(card, trial, records, pytest.fail)[0] == "unfinished"


def test_what_a_later_version_has_written_is_read(tmp_path: Path) -> None:
    made = updates.MADE.isoformat()
    record = {"root": "aa", "version": "9", "made": made, "returned": True, "colour": "blue"}
    (tmp_path / "records.json").write_text(json.dumps({"laid": record, "running": None, "more": 1}))
    found = Records(tmp_path).last_laid
    assert found is not None
    assert found.returned


@pytest.mark.parametrize(
    ("result", "told"), [("success", False), ("exit-code", False), ("oom-kill", True)]
)
def test_of_one_that_was_killed_somebody_tells(
    result: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    news = list[str]()
    monkeypatch.setattr(update, "tell", lambda _, text: news.append(text))
    monkeypatch.setenv("SERVICE_RESULT", result)
    assert update.main(["--ended"]) == 0
    assert bool(news) == told


def test_an_update_goes_to_the_other_place_each_time(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    take(updates.update(tmp_path, key), card, updates.signers(key), records)
    new = started(card, "B")
    judge(new, Trial(2, Slot("A")), records, lambda: None)
    later = updates.update(tmp_path, key, system=b"later", made=updates.MADE + timedelta(days=1))
    take(later, new, updates.signers(key), records)
    assert card.partitions[2].read_bytes().startswith(b"later")
    assert "os_prefix=A/" in config(card)
    assert new.trial == Trial(3, Slot("B"))
    line = (card.boot / "A/cmdline.txt").read_text()
    assert "lucie.root=2 lucie.trial" in line
    assert "options quiet lucie.disk" in (card.boot / "loader/entries/A.conf").read_text()


def test_while_one_is_on_trial_no_other_is_taken(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    first = updates.update(tmp_path, key)
    take(first, card, updates.signers(key), records)
    later = updates.update(tmp_path, key, system=b"later")
    assert code(later, started(card, "B"), key, records) == "update.on-trial"
    assert code(first, started(card, "B"), key, records) == "update.tries"
    assert card.partitions[2].read_bytes() == b"\xff" * 4096


def test_the_same_stick_at_a_board_that_was_not_started_again(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    file = updates.update(tmp_path, key)
    take(file, card, updates.signers(key), records)
    assert code(file, card, key, records) == "update.ready"
    later = updates.update(tmp_path, key, system=b"later")
    take(later, card, updates.signers(key), records)  # another one replaces it
    assert card.partitions[3].read_bytes().startswith(b"later")


def test_an_older_one_does_not_follow(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    take(updates.update(tmp_path, key), card, updates.signers(key), records)
    new = started(card, "B")
    judge(new, Trial(2, Slot("A")), records, lambda: None)
    older = updates.update(tmp_path, key, system=b"old", made=updates.MADE - timedelta(days=1))
    assert code(older, new, key, records) == "update.older"


def test_the_systems_own_image_is_known_by_the_cards_signature(
    tmp_path: Path, key: Path, records: Records
) -> None:
    card = updates.card(tmp_path)
    first = Card(card.boot, card.partitions, Slot("A"), hashlib.sha256(NEW).hexdigest()[:8])
    assert code(updates.update(tmp_path, key), first, key, records) == "update.runs"


def test_one_with_no_room_changes_nothing(tmp_path: Path, key: Path, records: Records) -> None:
    card = updates.card(tmp_path, room=1024)
    assert code(updates.update(tmp_path, key), card, key, records) == "update.no-room"
    assert card.partitions[3].read_bytes() == b"\xff" * 1024
    _is_untouched(card)


@pytest.mark.parametrize("at", [2000, 12_000])
def test_damage_changes_nothing(
    tmp_path: Path, key: Path, card: Card, records: Records, at: int
) -> None:
    file = updates.update(tmp_path, key)
    content = file.read_bytes()
    place = content.index(NEW[:100]) if at == 2000 else content.index(b"new vmlinuz")
    file.write_bytes(content[:place] + b"x" + content[place + 1 :])
    assert code(file, card, key, records) == "update.other-hash"
    _is_untouched(card)
    assert not (tmp_path / "records/draft").exists()


def test_a_stick_that_is_pulled_changes_nothing(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    file = updates.update(tmp_path, key)
    file.write_bytes(file.read_bytes()[:-11_000])
    assert code(file, card, key, records) == "update.damaged"
    _is_untouched(card)


def test_a_card_that_does_not_say_what_starts_is_left(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    (card.boot / "config.txt").write_text("arm_64bit=1\n")
    (card.boot / "loader/loader.conf").unlink()
    assert code(updates.update(tmp_path, key), card, key, records) == "update.no-choice"
    assert card.trial is None


def test_what_was_brought_back_by_hand_takes_the_same_update_again(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    file = updates.update(tmp_path, key)
    take(file, card, updates.signers(key), records)
    judge(started(card, "B"), Trial(2, Slot("A")), records, lambda: None)
    assert code(file, started(card, "B"), key, records) == "update.runs"
    (card.boot / "config.txt").write_text(updates.CONFIG)  # the letter, as README.md says
    take(file, card, updates.signers(key), records)
    assert "os_prefix=B/" in config(card)
    older = updates.update(tmp_path, key, system=b"old", made=updates.MADE - timedelta(days=1))
    take(older, card, updates.signers(key), records)


def test_a_record_that_names_no_slot_is_of_what_runs(tmp_path: Path) -> None:
    """A version that wrote none has laid it."""
    record = {"root": "aa", "version": "9", "made": updates.MADE.isoformat()}
    (tmp_path / "records.json").write_text(json.dumps({"running": record}))
    assert Records(tmp_path).running_in(Slot("A")) == Records(tmp_path).running_in(Slot("B"))
    assert Records(tmp_path).running_in(Slot("A")) is not None


def test_a_full_first_partition_is_told_as_one(
    tmp_path: Path, key: Path, card: Card, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is not the chat's to delete."""
    file = updates.update(tmp_path, key)

    def full(*_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(slots, "_copy", full)
        assert code(file, card, key, records) == "update.boot-full"
    assert config(card) == updates.CONFIG
    assert card.trial is None
    take(file, card, updates.signers(key), records)
    assert (card.boot / "B/overlays/README").read_text() == "new overlays/README"


def test_a_card_that_is_write_protected_is_told_as_one(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str) -> str:
        raise OSError(0, "mount: /boot: cannot remount /dev/x1 read-write, is write-protected.")

    monkeypatch.setattr(boot_partition, "output", refuse)
    with pytest.raises(OSError, match="Read-only file system"), boot_partition.writable(card.boot):
        pass


def _is_untouched(card: Card) -> None:
    assert config(card) == updates.CONFIG
    assert not (card.boot / "B").exists()
    assert card.trial is None


def test_two_sticks_are_taken_one_after_the_other(
    tmp_path: Path, key: Path, card: Card, records: Records
) -> None:
    first, second = (
        updates.update(tmp_path, key, system=bytes(size), made=updates.MADE + timedelta(days=size))
        for size in (1, 2)
    )
    with ThreadPoolExecutor() as threads:

        def other(*_: object) -> None:
            at_once.append(threads.submit(take, second, card, updates.signers(key), records))
            with pytest.raises(TimeoutError):
                at_once[0].result(timeout=0.5)

        at_once: list[Future[Record]] = []
        take(first, card, updates.signers(key), records, other)
        at_once[0].result(timeout=10)
    assert records.last_laid == at_once[0].result()
    assert card.partitions[3].read_bytes()[:3] == b"\0\0\xff"


def test_the_card_of_a_board_is_found(tmp_path: Path) -> None:
    blocks = tmp_path / "sys/class/block"
    disk = tmp_path / "sys/devices/mmcblk0"
    blocks.mkdir(parents=True)
    for number in range(1, 5):
        (disk / f"mmcblk0p{number}").mkdir(parents=True)
        (disk / f"mmcblk0p{number}/partition").write_text(f"{number}\n")
        (blocks / f"mmcblk0p{number}").symlink_to(disk / f"mmcblk0p{number}")
    (disk / "queue").mkdir()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/cmdline").write_text("quiet lucie.disk=0011aabb lucie.root=3 panic=10\n")
    (tmp_path / "proc/self/mounts").write_text(
        "/dev/mmcblk0p1 /boot/firmware vfat ro 0 0\n/dev/mmcblk0p4 /data ext4 rw,noatime 0 0\n"
    )
    found = Card.here(tmp_path)
    assert (found.running, found.signature) == (Slot("B"), "0011aabb")
    assert found.partitions[2] == tmp_path / "dev/mmcblk0p2"
    assert found.boot == tmp_path / "boot/firmware"


SCREEN, SERIAL = "getty@tty1.service", "serial-getty@*.service"


@pytest.mark.parametrize(
    ("said", "on_screen", "on_serial"),
    [
        (["ActiveState=active NRestarts=0"] * 2, True, True),
        (["NRestarts=0 ActiveState=failed NRestarts=0 ActiveState=active"] * 2, True, True),
        (["ActiveState=active NRestarts=0", "ActiveState=active NRestarts=1"], False, False),
        (["ActiveState=activating NRestarts=3"] * 2, False, False),
        ([""] * 2, False, True),
        ([None] * 2, False, False),
    ],
)
@pytest.mark.parametrize("screen", [False, True])
def test_a_chat_stands_on_the_screen_or_on_a_serial_line(
    said: list[str | None],
    on_screen: bool,
    on_serial: bool,
    screen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A board of a class has neither, and is to take updates, too."""
    asked = systemd(said, monkeypatch)
    monkeypatch.setattr(trial, "has_screen", lambda *, before: screen)
    assert trial._chat_stands(screen=screen) is (on_screen if screen else on_serial)
    assert asked == [SCREEN if screen else SERIAL] * 2


def test_a_screen_that_comes_meanwhile_is_judged_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = systemd(["Id=x ActiveState=active NRestarts=0"] * 2, monkeypatch)
    screens = iter([False, True])
    monkeypatch.setattr(trial, "has_screen", lambda *, before: next(screens))
    assert not trial._chat_stands(screen=False)
    assert asked == [SERIAL, SCREEN]


def systemd(said: list[str | None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of which units it is asked; answers in order, None: it does not."""
    answers, asked = iter(said), list[str]()

    def run(command: list[str], **_: object) -> SimpleNamespace:
        asked.append(command[-1])
        said = next(answers)
        return SimpleNamespace(stdout=said or "", returncode=int(said is None))

    monkeypatch.setattr(trial.subprocess, "run", run)
    monkeypatch.setattr(trial.time, "sleep", lambda _: None)
    return asked


@pytest.mark.parametrize(
    ("sockets", "framebuffer", "before", "there"),
    [
        ({"HDMI-A-1": "connected"}, False, False, True),  # and its framebuffer is missing
        ({"HDMI-A-1": "disconnected", "HDMI-A-2": "connected"}, True, False, True),
        ({"HDMI-A-1": "disconnected"}, True, True, False),  # the projector was taken away
        ({"HDMI-A-1": "disconnected", "Writeback-1": "unknown"}, True, True, False),
        ({"HDMI-A-1": "disconnected", "Writeback-1": "connected"}, True, True, False),
        ({"HDMI-A-1": "disconnected", "Composite-1": "unknown"}, True, False, True),  # a television
        ({"HDMI-A-1": "disconnected", "Composite-1": "unknown"}, False, False, False),
        ({}, True, False, True),
        ({}, False, False, False),
        ({}, False, True, True),  # an update that has lost the driver
    ],
)
def test_a_board_has_the_screen_that_its_driver_tells_of(
    tmp_path: Path, sockets: dict[str, str], framebuffer: bool, before: bool, there: bool
) -> None:
    for name, status in sockets.items():
        socket = tmp_path / f"sys/class/drm/card0-{name}"
        socket.mkdir(parents=True)
        (socket / "status").write_text(f"{status}\n")
    if framebuffer:
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/fb0").touch()
    assert has_screen(tmp_path, before=before) is there
