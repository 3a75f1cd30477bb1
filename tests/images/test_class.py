"""Class mode: the board opens its own Wi-Fi, and a pupil asks through it; without, no radio is on.

The radios are Linux's simulated ones (`mac80211_hwsim`), loaded where a board loads the driver of
its own: all above the driver is what a board has. The pupil has the second of them, in a network of
its own, and knows what the screen says.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from images.booting.machine import MACHINES, Started, start
from images.booting.turn import Console
from tests.images import shell
from tests.images.power import partition
from tests.images.shell import Shell

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/onboard", "images/booting",
                     "edge/server", "tests/images/shell.py", "tests/images/radio.py"),
    pytest.mark.usefixtures("kept"),
]  # fmt: skip

PATIENCE_S = 1200
RADIOS = "install brcmfmac modprobe mac80211_hwsim radios=2\n"
LEASE = """\
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
echo "$ip via $router"
"""
PI_3 = "sdio:c00v02D0dA9A6"
"""By which Linux knows the radio of a Pi 3: Broadcom's 43430."""
ASK = """\
import json, sys, urllib.request
site = sys.argv[1]
page = urllib.request.urlopen(site, timeout=600).read().decode()
[model] = json.load(urllib.request.urlopen(f"{site}/v1/models", timeout=600))["data"]
asked = {"messages": [{"role": "user", "content": "What is the capital of France?"}],
         "model": model["id"], "max_tokens": 8}
body, kind = json.dumps(asked).encode(), {"Content-Type": "application/json"}
request = urllib.request.Request(f"{site}/v1/chat/completions", body, kind)
answer = json.load(urllib.request.urlopen(request, timeout=600))
print(json.dumps([page, answer["choices"][0]["message"]["content"]]))
"""


@contextmanager
def on(built: Path, folder: Path, settings: str) -> Iterator[tuple[Console, Shell]]:
    """A board with these settings: its console and a shell of root's."""
    of_virt = MACHINES["virt-a72"]
    started = start(next(built.glob("*.img.zst")), of_virt, folder, folder / "log")
    radio = Path(__file__).with_name("radio.py").read_text(encoding="utf-8")
    shell.lay(started, "ttyAMA1", {
        "etc/modprobe.d/radio.conf": RADIOS, "root/radio.py": radio, "root/lease": LEASE,
        "root/ask.py": ASK,
    })  # fmt: skip
    _write_settings(started, settings)
    console = Console([*started.command(), *shell.SERIAL], folder / "console.log", PATIENCE_S)
    try:
        console.until(lambda: console.mood() == "green", "ready")
        root = Shell(folder, PATIENCE_S)
        yield console, root
        root.close()
    finally:
        console.close()


def _write_settings(started: Started, settings: str) -> None:
    (started.folder / "lucie.toml").write_text(settings)
    at, _ = partition(started.folder / "card.img", 1)
    words = ["mcopy", "-oi", f"/card/card.img@@{at}", "/card/lucie.toml", "::lucie.toml"]
    subprocess.run(started.room.command(words, {"/card": started.folder}), check=True)


def test_a_pupil_joins_by_what_the_screen_says_and_is_answered(built: Path, tmp_path: Path) -> None:
    settings = '[locale]\nlanguage = "en"\n\n[class]\nenabled = true\n'
    with on(built, tmp_path, settings) as (console, root):
        shown = " ".join(console.shown().split())
        told = re.search(r"network “(.+?)”, password (\S+), then open (http://\S+) in", shown)
        assert told is not None, shown
        ssid, password, address = told.groups()
        root.run("ip netns add pupil && python3 /root/radio.py wlan1 /run/netns/pupil")
        root.run("chmod +x /root/lease")
        pupil = "ip netns exec pupil"
        root.run(f"wpa_passphrase '{ssid}' '{password}' > /root/join")
        root.run(f"{pupil} wpa_supplicant -B -i wlan1 -c /root/join")
        leased = root.run(f"{pupil} busybox udhcpc -i wlan1 -nq -t 60 -s /root/lease")
        lease = re.search(r"^10\.42\.0\.\d+ via $", leased, re.MULTILINE)
        assert lease is not None, leased  # and no router: nothing goes out through the board
        page, answer = json.loads(root.run(f"{pupil} python3 /root/ask.py {address}"))
        assert "<html" in page
        assert answer.strip()


def test_without_class_mode_there_is_no_radio(built: Path, tmp_path: Path) -> None:
    with on(built, tmp_path, '[locale]\nlanguage = "en"\n') as (_, root):
        assert root.run("ls /sys/class/ieee80211 2>/dev/null || true") == ""
        # What udev asks for, for the radio of a Pi; without the list of what it may not load, too.
        assert root.run(f"modprobe -nvqb {PI_3} || true") == ""
        assert "brcmfmac" in root.run(f"mkdir /run/none && modprobe -nv -C /run/none {PI_3}")
        # And one that comes by another driver stays off.
        root.run("modprobe mac80211_hwsim && udevadm settle")
        assert root.run("ls /sys/class/ieee80211").split() == ["phy0", "phy1"]
        assert root.run("ip -br link show up | cut -d' ' -f1").split() == ["lo"]
        assert root.run("pgrep wpa_supplicant || true") == ""
