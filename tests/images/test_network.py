"""The networks of a board, by the standard's own examples and by wpa_supplicant's format."""

from __future__ import annotations

import pytest

from images.onboard.network import ADDRESS, access_point, join, networkd, psk
from images.onboard.settings import Class, Wlan


@pytest.mark.parametrize(
    ("passphrase", "ssid", "key"),
    [
        # IEEE 802.11-2020, J.4.2
        ("password", b"IEEE",
         "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"),
        ("ThisIsAPassword", b"ThisIsASSID",
         "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"),
        ("a" * 32, b"Z" * 32,
         "becb93866bb8c3832cb777c2f559807c8c59afcb6eae734885001300a981cc62"),
    ],
)  # fmt: skip
def test_the_key_is_the_standards(passphrase: str, ssid: bytes, key: str) -> None:
    assert psk(passphrase, ssid) == key


def block(text: str) -> dict[str, str]:
    """The fields of the only `network={…}`."""
    _, _, inside = text.partition("network={\n")
    body, end, rest = inside.partition("\n}\n")
    assert (end, rest) == ("\n}\n", "")
    return dict(line.strip().split("=", 1) for line in body.splitlines())


def test_a_network_is_joined_whatever_its_name_is() -> None:
    wlan = Wlan(ssid='Éc"ole\\', password="password", country="FR", hidden=True)
    assert join(wlan).startswith("country=FR\nnetwork={\n")
    told = block(join(wlan))
    assert bytes.fromhex(told["ssid"]).decode() == 'Éc"ole\\'
    assert told["scan_ssid"] == "1"
    assert told["key_mgmt"] == "WPA-PSK SAE"
    assert told["sae_password"] == '"password"'
    assert block(join(Wlan(ssid_hex="fffe4142")))["ssid"] == "fffe4142"


def test_a_key_is_taken_as_it_is() -> None:
    told = block(join(Wlan(ssid="a", password="AB" * 32, password_encrypted=True)))
    assert told["psk"] == "ab" * 32
    assert told["key_mgmt"] == "WPA-PSK"
    assert "sae_password" not in told


def test_an_open_network_has_no_key() -> None:
    told = block(join(Wlan(ssid="a")))
    assert told["key_mgmt"] == "NONE"
    assert "psk" not in told


def test_a_class_has_a_network_of_its_own() -> None:
    told = block(access_point(Class(enabled=True, ssid="IEEE", password="password"), ""))
    assert (told["mode"], bytes.fromhex(told["ssid"])) == ("2", b"IEEE")
    assert told["psk"].startswith("f42c6fc5")
    serving = networkd(serving=True)
    assert f"Address={ADDRESS}/24" in serving
    assert "EmitRouter=no" in serving, "there is no way out"
    assert "DHCP=yes" in networkd(serving=False)
