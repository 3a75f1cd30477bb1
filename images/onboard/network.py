"""The networks of a board, as wpa_supplicant and systemd-networkd are told of them.

wpa_supplicant joins a network, and opens one as well (`mode=2`); networkd gives addresses out:
two services that a board has anyway, where an access point is more often made of four.
"""

from __future__ import annotations

import hashlib
import json

from images.onboard.settings import Class, Settings, Wlan
from images.onboard.tree import File, Tree

__all__ = ["ADDRESS", "access_point", "join", "joining", "networkd", "psk", "radio",
           "wired"]  # fmt: skip

ADDRESS = "10.42.0.1"
"""Of the board, in the network that it opens."""
_DRIVER = "brcmfmac"
"""Of the radio of every Raspberry Pi."""
_CHANNEL_6 = 2437
"""In MHz: one that is allowed everywhere, and that the oldest devices know."""
_ADDRESSES = ("systemd-networkd.service", "systemd-resolved.service")


def radio(settings: Settings) -> Tree:
    """What opens the network of a class, or joins another; without either there is no radio."""
    serving = settings.class_.enabled
    if serving:
        supplicant = access_point(settings.class_, settings.wlan.country)
    elif settings.wlan.ssid or settings.wlan.ssid_hex:
        supplicant = join(settings.wlan)
    else:
        return Tree()
    files = {
        "etc/wpa_supplicant/wpa_supplicant-wlan0.conf": File(supplicant, 0o600),
        "etc/systemd/network/20-wlan0.network": File(networkd(serving=serving)),
    }
    if serving:
        # What pupils write stays in memory: no KV state of it goes to the card.
        files["run/lucie-settings/server"] = File("LUCIE_KV_CACHE_MB=0\n")
        # For the chat, which is another account's: it shows them on the screen.
        told = json.dumps(joining(settings.class_), ensure_ascii=False)
        files["run/lucie-settings/class.json"] = File(f"{told}\n")
    units = ("wpa_supplicant@wlan0.service", *_ADDRESSES)
    return Tree(files, (*units, *["lucie-class.socket"] * serving), (_DRIVER,))


def wired() -> Tree:
    """What asks for an address over a cable."""
    network = "[Match]\nType=ether\n\n[Network]\nDHCP=yes\nMulticastDNS=yes\n"
    return Tree({"etc/systemd/network/20-wired.network": File(network)}, _ADDRESSES)


def joining(class_: Class) -> dict[str, str]:
    """What people need who join the network of a class."""
    return {"ssid": class_.ssid, "password": class_.password, "address": f"http://{ADDRESS}"}


def psk(passphrase: str, ssid: bytes) -> str:
    """The key that WPA makes of a passphrase, as 64 hexadecimal digits.

    IEEE 802.11-2020, J.4: PBKDF2 with HMAC-SHA1, 4,096 rounds, the network's name as salt.
    """
    return hashlib.pbkdf2_hmac("sha1", passphrase.encode(), ssid, 4096, 32).hex()


def join(wlan: Wlan) -> str:
    """`wpa_supplicant.conf` for the network that `wlan` names."""
    ssid = wlan.ssid.encode() or bytes.fromhex(wlan.ssid_hex)
    more = ["scan_ssid=1"] if wlan.hidden else []
    if len(wlan.password) == 64:
        more += ["key_mgmt=WPA-PSK", f"psk={wlan.password.lower()}"]
    elif wlan.password:
        # WPA3 makes its key of the passphrase itself. It ends at the last quote: none is escaped.
        more += ["key_mgmt=WPA-PSK SAE", "ieee80211w=1", f"psk={psk(wlan.password, ssid)}"]
        more += [f'sae_password="{wlan.password}"']
    else:
        more += ["key_mgmt=NONE"]
    return _configuration(wlan.country, ssid, more)


def access_point(class_: Class, country: str) -> str:
    """`wpa_supplicant.conf` for a network of the board's own.

    Args:
        class_: its name and its password, which must be there: nobody is let in without.
        country: two letters; empty for what is allowed everywhere.
    """
    ssid = class_.ssid.encode()
    key = psk(class_.password, ssid)
    more = ["mode=2", f"frequency={_CHANNEL_6}", "key_mgmt=WPA-PSK", "proto=RSN", "pairwise=CCMP"]
    return _configuration(country, ssid, [*more, f"psk={key}"])


def networkd(*, serving: bool) -> str:
    """`20-wlan0.network`: the board gives addresses out, or asks for one."""
    if not serving:
        return "[Match]\nName=wlan0\n\n[Network]\nDHCP=yes\nMulticastDNS=yes\n"
    return (
        f"[Match]\nName=wlan0\n\n[Network]\nAddress={ADDRESS}/24\nDHCPServer=yes\n"
        "MulticastDNS=yes\n\n"
        # There is no way out: a phone that is offered none stays for want of a better one.
        "[DHCPServer]\nEmitRouter=no\nEmitDNS=no\nPoolOffset=10\nPoolSize=100\n"
    )


def _configuration(country: str, ssid: bytes, more: list[str]) -> str:
    # A name as hexadecimal digits needs no quotes, whatever it is.
    lines = [f"country={country}"] if country else []
    lines += ["network={", f"\tssid={ssid.hex()}", *(f"\t{line}" for line in more), "}"]
    return "\n".join(lines) + "\n"
