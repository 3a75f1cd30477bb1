"""What a board's file system holds of ours, as it lies in `images/board`."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from images.onboard import store
from images.onboard.offers import CHOICE

BOARD = Path("images/board")
UNITS = BOARD / "system/usr/lib/systemd/system"
SCRIPTS = [
    BOARD / "init",
    *(file for file in sorted((BOARD / "system/usr/lib").glob("lucie-*"))
      if file.read_text().startswith("#!/bin/sh")),
    *sorted(Path("images/building/steps").glob("*.sh")),
    Path("images/termux/install.sh"),
]  # fmt: skip


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_that_sh_understands(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)


def test_settings_that_fail_or_hang_do_not_keep_the_chat_and_are_told() -> None:
    service = unit(UNITS / "lucie-settings.service")["Service"]
    assert service["TimeoutStartSec"] == "5min"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    script = (BOARD / "system/usr/lib/lucie-settings").read_text().splitlines()
    assert script[-1] == '[ -z "$failed" ] && rm -f /run/lucie-news/unsettled'
    lines = (BOARD / "system/usr/lib/lucie-places.conf").read_text().splitlines()
    [told] = [line for line in lines if line.startswith("f /run/lucie-news/unsettled ")]
    french, english, rest = told.split(r"\n")
    assert "ne s’appliquent pas" in french
    assert "do not apply" in english
    assert rest == ""


@pytest.mark.parametrize(
    ("result", "chosen", "loaded"),
    [("success", "us", ""), ("exit-code", "us", "-q us\n"), ("timeout", "", "-q {}\n")],
)
def test_settings_that_are_given_up_leave_the_keyboard_that_was_asked_for(
    result: str, chosen: str, loaded: str, tmp_path: Path
) -> None:
    text = (UNITS / "lucie-settings.service").read_text().replace("\\\n", "")
    [line] = [line for line in text.splitlines() if line.startswith("ExecStopPost=-")]
    (tmp_path / "keymap").write_text(f"{chosen}\n" if chosen else "")
    (tmp_path / "loadkeys").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "loadkeys").chmod(0o755)
    line = line.removeprefix("ExecStopPost=-").replace("/run/lucie-settings", str(tmp_path))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SERVICE_RESULT": result}
    ran = subprocess.run(shlex.split(line), env=env, check=True, capture_output=True, text=True)
    assert ran.stdout == loaded.format("/usr/share/keymaps/fr.map.gz")


def test_settings_that_come_with_a_card_are_those_that_its_first_start_looks_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "boot").mkdir()
    shutil.copy(BOARD / "boot/lucie.toml", tmp_path / "boot")
    line = "console=tty1 fsck.repair=yes lucie.disk=0011aabb lucie.root=2 lucie.trial\n"
    (tmp_path / "cmdline").write_text(line)
    script = (BOARD / "system/usr/lib/lucie-settings").read_text()
    looked_for = script[script.index("state() {") : script.index("\ntree=")]
    looked_for = looked_for.replace("/proc/cmdline", f"{tmp_path}/cmdline")
    looked_for = looked_for.replace("/boot/firmware", f"{tmp_path}/boot")
    steps = Path("images/building/steps/disk.sh").read_text().splitlines()
    [comes] = [line for line in steps if line.startswith("state=")]
    both = f"{looked_for}\nstate\nin={tmp_path} signature=0011aabb\n{comes}\necho $state"
    ran = subprocess.run(["sh", "-euc", both], check=True, capture_output=True, text=True)
    said = ran.stdout.split()
    assert said[0] == said[1]
    assert len(said[0]) == 16


def test_a_file_of_settings_is_read_again_when_it_has_another_name(tmp_path: Path) -> None:
    script = (BOARD / "system/usr/lib/lucie-settings").read_text()
    state = script[script.index("state() {") : script.index("\ntree=")]
    state = state.replace("/boot/firmware", str(tmp_path)) + "\nstate"

    def seen() -> str:
        ran = subprocess.run(["sh", "-uc", state], check=True, capture_output=True, text=True)
        return ran.stdout

    states = [seen()]
    (tmp_path / "lucie.toml.txt").write_text("[class]\n")
    states += [seen(), seen()]
    assert states[1] == states[2]
    (tmp_path / "lucie.toml.txt").rename(tmp_path / "lucie.toml")
    states += [seen()]
    assert len(set(states)) == 3


@pytest.mark.parametrize("full", [False, True])
def test_settings_of_a_full_card_are_laid_out_from_memory(full: bool, tmp_path: Path) -> None:
    """As far as `lucie-settings` comes without a board."""
    script = (BOARD / "system/usr/lib/lucie-settings").read_text()
    script = script[: script.index("\n\n[ ! -s /run/lucie-news/settings ]")]
    for name in ("data", "run/lucie-settings", "boot/firmware", "root"):
        (tmp_path / name).mkdir(parents=True)
    for place in ("/data/settings", "/run/lucie-settings", "/boot/firmware", "/usr/lib/lucie-read"):
        script = script.replace(place, f"{tmp_path}{place}")
    script = script.replace('"$tree/." / ||', f'"$tree/." {tmp_path}/root ||')
    reads, keys = tmp_path / "usr/lib/lucie-read-settings", tmp_path / "loadkeys"
    reads.parent.mkdir(parents=True)
    refused = f"{tmp_path}/data/*" if full else "none"
    reads.write_text(
        '#!/bin/sh\nmkdir "$1" && echo salle-12 > "$1/hostname"\n'
        f'case "$1" in {refused}) exit 1; esac\n'
    )
    keys.write_text("#!/bin/sh\n")
    for program in (reads, keys):
        program.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    words = ["sh", "-c", f'{script}\necho "failed=$failed"']
    ran = subprocess.run(words, env=env, check=True, capture_output=True, text=True)
    assert ran.stdout == "failed=\n"
    assert (tmp_path / "root/hostname").read_text() == "salle-12\n"
    [kept] = tmp_path.glob("*/*/tree-*")
    assert kept.parent == tmp_path / ("run/lucie-settings" if full else "data/settings")
    assert not [*tmp_path.glob("*/*/draft")], "it would take room that there is not"


def test_the_keyboards_of_the_file_are_those_that_a_card_has() -> None:
    keymaps = [line.split()[0] for line in (BOARD / "keymaps").read_text().splitlines()]
    lines = (BOARD / "boot/lucie.toml").read_text().splitlines()
    [told] = [line for line in lines if line.startswith("# keymap = ")]
    assert told.rpartition("# ")[2] == ", ".join(keymaps)


@pytest.mark.parametrize(("said", "now"), [(2000, "set @2000"), (500, ""), (None, "")])
def test_time_goes_on_from_what_was_said_last(said: int | None, now: str, tmp_path: Path) -> None:
    """A board without a clock of its own begins each day at the same hour, else."""
    script = (BOARD / "system/usr/lib/lucie-settings").read_text()
    part = script[script.index("said=$(") : script.index("\n\n# Of which system")]
    for name, time in (("history.sqlite3", 100), ("history.sqlite3-wal", said)):
        if time is not None and said is not None:
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (time, time))
    clock = 'date() { if [ "$1" = -s ]; then echo "set $2" >&2; else echo 1000; fi; }\n'
    part = part.replace("/data/lucie/data", str(tmp_path))
    ran = subprocess.run(["sh", "-uc", clock + part], check=True, capture_output=True, text=True)
    assert ran.stderr.strip() == now
    assert ran.stdout == ""


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="no systemd here")
def test_systemd_lays_what_is_told_in_two_lines(tmp_path: Path) -> None:
    words = ["systemd-tmpfiles", f"--root={tmp_path}", "--create", "--prefix=/run/lucie-news",
             str((BOARD / "system/usr/lib/lucie-places.conf").resolve())]  # fmt: skip
    subprocess.run(words, check=True)
    assert len((tmp_path / "run/lucie-news/unsettled").read_text().splitlines()) == 2


def test_a_damaged_card_starts_with_what_is_left_or_says_what_is_not() -> None:
    """The first partition may be missing; the last is repaired without asking anybody."""
    lines = re.findall(r'echo "(.+)" >> /root/etc/fstab', (BOARD / "init").read_text())
    boot, data = (line.split() for line in lines)
    assert boot[1:3] == ["/boot/firmware", "vfat"]
    assert "nofail" in boot[3].split(",")
    assert data[1:3] == ["/data", "ext4"]
    assert "nofail" not in data[3].split(",")
    assert data[5] == "2", "it is looked through before it is used"
    assert "fsck.repair=yes" in (BOARD / "boot/cmdline.txt").read_text().split()
    emergency = (UNITS / "emergency.service.d/lucie.conf").read_text()
    # Debian's own asks for a password of root's, which nobody has.
    assert "\nExecStart=\nExecStart=/usr/lib/lucie-emergency\n" in emergency
    script = (BOARD / "system/usr/lib/lucie-emergency").read_text()
    assert script.rstrip().endswith("systemctl reboot")


@pytest.mark.parametrize("name", ["packages", "modules", "leave-out"])
def test_a_list_is_sorted_and_names_nothing_twice(name: str) -> None:
    lines = (BOARD / name).read_text().splitlines()
    assert lines == sorted(set(lines))


def test_what_starts_is_chosen_by_one_letter_for_each_firmware() -> None:
    """An update overwrites it in place, so that a cut leaves one system or the other."""
    for name, line in (("config.txt", "os_prefix=A/"), ("loader.conf", "default A.conf")):
        lines = (BOARD / "boot" / name).read_text().splitlines()
        assert lines.count(line) == 1
        assert not [each for each in lines if each != line and each.startswith(line.split("A")[0])]


def test_every_service_that_is_enabled_is_there() -> None:
    root = Path("images/building/steps/root.sh").read_text()
    enabled = root.split("--quiet enable ")[1].split("\n\n")[0].replace("\\", "").split()
    ours = {name.partition(".")[0] for name in enabled if name.startswith("lucie-")}
    # Through a socket, by udev, by what looks through sticks.
    by_others = {"lucie-class", "lucie-stick@", "lucie-update@"}
    assert ours == {path.stem for path in UNITS.glob("lucie-*.service")} - by_others


def test_a_stick_is_read_by_a_service_with_few_rights() -> None:
    look, take = (
        unit(UNITS / f"{name}.service")["Service"] for name in ("lucie-stick@", "lucie-take")
    )
    for service in (look, take):
        assert service["CapabilityBoundingSet"] == "CAP_SYS_ADMIN CAP_DAC_OVERRIDE"
        assert service["DeviceAllow"] == "block-sd r", "nothing is written to a stick"
        assert service["PrivateMounts"] == service["PrivateNetwork"] == "yes"
        assert service["ProtectSystem"] == "strict"
        assert "MemoryMax" in service
        assert service["Slice"] == "lucie-sticks.slice"
    assert unit(UNITS / "lucie-sticks.slice")["Slice"]["MemoryMax"] == look["MemoryMax"]
    assert "TimeoutStartSec" in look, "folders may be endless"
    assert "TimeoutStartSec" in take, "a stick may answer no more"
    assert take["ExecStopPost"] == "/usr/lib/lucie-stick ended"
    assert unit(UNITS / "lucie-take.path")["Path"]["PathExists"] == str(CHOICE)


def test_what_is_plugged_in_is_looked_at_even_where_it_cannot_be_read() -> None:
    """Else somebody waits before the screen, and nothing is told."""
    rule = (BOARD / "system/usr/lib/udev/rules.d/91-lucie-stick.rules").read_text()
    lines = [line for line in rule.splitlines() if line and not line.startswith("#")]
    at = lines.index('LABEL="stick"')
    assert lines[at - 1] == 'GOTO="stick_end"'
    known, twofold, unformatted = lines[2 : at - 1]
    assert known == 'ENV{ID_FS_USAGE}=="filesystem|crypto", GOTO="stick"', "BitLocker is crypto"
    assert twofold == 'ENV{DEVTYPE}=="partition", ENV{ID_PART_ENTRY_NUMBER}=="", GOTO="stick"'
    for condition in ('ENV{ID_FS_USAGE}==""', 'TEST!="%k1"', 'ATTR{size}!="0"'):
        assert f", {condition}, " in unformatted
    assert 'SYSTEMD_WANTS}+="lucie-stick@%k.service"' in lines[at + 1]
    assert 'SUBSYSTEMS=="usb", ' in lines[at + 1]
    assert 'ENV{PARTN}=="|1|2|3|4", ' in lines[at + 1], "there may be 128 of them; a disk has none"


@pytest.mark.parametrize(
    ("models", "looked_at"),
    [({"toy"}, False), ({"toy", "other"}, True), ({"other"}, True), (set(), True)],
)
def test_a_card_with_one_model_starts_no_program_to_look_at_it(
    models: set[str], looked_at: bool, tmp_path: Path
) -> None:
    text = (UNITS / "lucie-card.service").read_text().replace("\\\n", "")
    [line] = [line for line in text.splitlines() if line.startswith("ExecCondition=")]
    (tmp_path / ".locks").mkdir()
    for name in models:
        (tmp_path / name).mkdir()
    line = line.removeprefix("ExecCondition=").replace("/data/lucie/data/models", str(tmp_path))
    env = {"PATH": "/usr/bin:/bin", "LUCIE_MODEL": "toy"}
    assert (subprocess.run(shlex.split(line), env=env, check=False).returncode == 0) == looked_at


def test_the_server_has_no_right_that_it_does_not_need() -> None:
    service = unit(UNITS / "lucie-serve.service")["Service"]
    assert service["User"] == "lucie-edge"
    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"
    assert service["IPAddressDeny"] == "any"
    assert service["IPAddressAllow"] == "localhost"
    assert service["NoNewPrivileges"] == "yes"
    assert service["MemoryMax"].endswith("%")


def test_which_model_is_used_stands_where_only_root_writes() -> None:
    """systemd reads it as root: a pipe there would stop it, a link would tell what is secret."""
    assert not store._CHOSEN.is_relative_to(store.HOME)
    made = (BOARD / "system/usr/lib/lucie-places.conf").read_text().splitlines()
    assert f"d {store._CHOSEN.parent} 0755 root root" in made
    for line in (UNITS / "lucie-serve.service").read_text().splitlines():
        if line.startswith("EnvironmentFile="):
            assert not line.startswith(f"EnvironmentFile=-{store.HOME}/")


def test_a_model_that_is_tried_goes_before_the_one_that_is_chosen() -> None:
    lines = (UNITS / "lucie-serve.service").read_text().splitlines()
    chosen, tried = (
        lines.index(f"EnvironmentFile=-{file}")
        for file in ("/data/server/model", "/run/lucie-stick/trying")
    )
    assert chosen < tried, "of two files systemd takes what the later one says"


def test_a_server_that_hangs_is_started_again() -> None:
    service = unit(UNITS / "lucie-serve.service")["Service"]
    assert service["Restart"] == "always"
    assert service["Type"] == "notify", "else systemd takes no notice of its watchdog"
    assert service["WatchdogSec"] == "5min"
    assert service["TimeoutStartSec"] == "infinity", "a model may take minutes to load"


@pytest.mark.parametrize("console", ["getty@tty1.service.d", "serial-getty@.service.d"])
def test_a_console_opens_the_chat_and_no_login(console: str) -> None:
    lines = (UNITS / console / "lucie.conf").read_text().splitlines()
    starts = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    # Of what it is laid over, a login would start as well.
    assert "ExecStart=" not in (UNITS / console).with_suffix("").read_text()
    assert [start.startswith("/usr/bin/lucie chat ") for start in starts] == [True]
    assert "User=lucie-edge" in lines
    command = (UNITS / console / "lucie.conf").read_text().replace("\\\n", "")
    assert "--notice /run/lucie-news " in command
    assert "--class /run/lucie-settings/class.json\n" in command


def test_the_chat_waits_for_nothing_that_it_does_not_need() -> None:
    """Neither for udev, nor for what systemd has every service wait for."""
    lines = (UNITS / "getty@tty1.service.d/lucie.conf").read_text().splitlines()
    assert "DefaultDependencies=no" in lines
    assert [line for line in lines if line.startswith("After=")] == [
        "After=lucie-places.service lucie-settings.service"
    ]
    for name in ("lucie-places", "lucie-settings"):
        assert unit(UNITS / f"{name}.service")["Unit"]["DefaultDependencies"] == "no"
    for name in ("getty@tty1", "serial-getty@"):
        unordered = unit(UNITS / f"{name}.service")["Unit"]
        assert not {"After", "BindsTo", "Requires", "Wants"} & set(unordered)


def test_a_chat_is_on_a_screen_that_is_there_or_comes_later() -> None:
    screen = unit(UNITS / "getty@tty1.service")["Unit"]["ConditionPathExists"]
    rule = (BOARD / "system/usr/lib/udev/rules.d/90-lucie-screen.rules").read_text()
    assert screen == "/dev/fb0"
    wants = 'ENV{SYSTEMD_WANTS}+="getty@tty1.service"'
    [line] = [line for line in rule.splitlines() if wants in line]
    assert line == f'ACTION!="remove", KERNEL=="fb0", TAG+="systemd", {wants}'


def test_the_screen_goes_on_with_the_last_conversation_and_no_serial_line_takes_it() -> None:
    begin = unit(UNITS / "getty@tty1.service.d/begin.conf")["Service"]["Environment"]
    assert begin == "LUCIE_BEGIN=--continue"
    assert "chat $LUCIE_BEGIN " in (UNITS / "serial-getty@.service.d/lucie.conf").read_text()
    assert not (UNITS / "serial-getty@.service.d/begin.conf").exists()


def test_no_account_of_ours_has_a_password() -> None:
    [line] = [
        line
        for line in (BOARD / "system/usr/lib/sysusers.d/lucie.conf").read_text().splitlines()
        if line.startswith("u")
    ]
    assert line.startswith("u! "), "u!: systemd locks it"


def test_no_setting_is_made_for_the_user() -> None:
    shipped = tomllib.loads((BOARD / "boot/lucie.toml").read_text(encoding="utf-8"))
    assert {k: v for k, v in shipped.items() if v} == {"class": {"enabled": False}}


@pytest.mark.parametrize("psf", [1, 2])
def test_a_font_gets_both_halves_of_its_block(psf: int, tmp_path: Path) -> None:
    """The program in `root.sh`, on fonts of four glyphs as PC Screen Font 1 and 2 write them."""
    root = Path("images/building/steps/root.sh").read_text(encoding="utf-8")
    program = root.split("<<'END'\n")[1].split("END\n")[0]
    head, row = (b"\x36\x04\x03\x04", b"\xff") if psf == 1 else (
        b"\x72\xb5\x4a\x86" + struct.pack("<7I", 0, 32, 1, 4, 8, 4, 12), b"\xff\xf0")  # fmt: skip
    size = 4 * len(row)
    letter, block = bytes(range(1, size + 1)), row * 4
    (tmp_path / "font").write_bytes(head + letter + block + letter + letter + b"table")
    (tmp_path / "letters").write_text(
        "# Character table\n#\n0x000\tU+0041\n0x001\tU+2588 U+258c\n0x002\tU+2584\n0x003\tU+2580\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "font"), str(tmp_path / "letters")]
    subprocess.run(command, check=True)
    empty = bytes(size // 2)
    lower, upper = empty + row * 2, row * 2 + empty
    assert (tmp_path / "font").read_bytes() == head + letter + block + lower + upper + b"table"


def test_what_writes_an_update_has_few_rights() -> None:
    service = unit(UNITS / "lucie-update@.service")["Service"]
    assert service["CapabilityBoundingSet"] == "CAP_SYS_ADMIN CAP_DAC_OVERRIDE"
    assert service["ProtectSystem"] == "strict"
    assert service["DevicePolicy"] == "closed"
    assert service["PrivateMounts"] == service["PrivateNetwork"] == "yes"


def test_the_limit_of_a_trial_waits_for_nothing() -> None:
    timer = unit(UNITS / "lucie-trial.timer")
    assert timer["Timer"]["Unit"] == "reboot.target"
    assert timer["Unit"]["DefaultDependencies"] == "no"
    assert timer["Unit"]["ConditionKernelCommandLine"] == "lucie.trial"
    assert not {"After", "Requires", "RequiresMountsFor"} & timer["Unit"].keys()
