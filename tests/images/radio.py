"""Gives a radio to a network namespace, as `iw phy NAME set netns name SPACE` does.

Run on a board, which has no `iw`: RADIO SPACE. Numbers are those of Linux's genetlink.h, nl80211.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

_GENERIC = 16
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_SET_WIPHY_NETNS, _WIPHY, _NETNS_FD = 49, 1, 219
_ERROR = 2
_REQUEST, _ACKNOWLEDGE = 1, 4


def _attribute(kind: int, value: bytes) -> bytes:
    head = struct.pack("=HH", 4 + len(value), kind)
    return head + value + bytes(-len(value) % 4)


def _ask(line: socket.socket, family: int, command: int, *attributes: bytes) -> bytes:
    """What comes after the header of the answer."""
    body = struct.pack("=BBH", command, 1, 0) + b"".join(attributes)
    head = struct.pack("=IHHII", 16 + len(body), family, _REQUEST | _ACKNOWLEDGE, 1, 0)
    line.send(head + body)
    answer = line.recv(1 << 16)
    if struct.unpack_from("=H", answer, 4)[0] == _ERROR and (code := _number(answer, 16)):
        raise OSError(-code, f"command {command}")
    return answer[16:]


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from("=i", data, at)[0])


def _family(line: socket.socket) -> int:
    answer = _ask(line, _CONTROL, _GET_FAMILY, _attribute(_FAMILY_NAME, b"nl80211\0"))
    line.recv(1 << 16)  # that it is done
    at = 4
    while True:
        size, kind = struct.unpack_from("=HH", answer, at)
        if kind == _FAMILY_ID:
            return int(struct.unpack_from("=H", answer, at + 4)[0])
        at += size + -size % 4


def main(radio: str, space: str) -> None:
    index = int(Path(f"/sys/class/net/{radio}/phy80211/index").read_text())
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC)
    with line, Path(space).open() as there:
        line.bind((0, 0))
        given = (_attribute(_WIPHY, struct.pack("=I", index)),
                 _attribute(_NETNS_FD, struct.pack("=I", there.fileno())))  # fmt: skip
        _ask(line, _family(line), _SET_WIPHY_NETNS, *given)


if __name__ == "__main__":
    main(*sys.argv[1:])
