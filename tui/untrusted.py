"""Text that others wrote, made safe to show.

A model, a file or a paste may hold characters that a terminal obeys instead of
showing (escape sequences, ECMA-48) or that reorder what a person reads
(Unicode TR 9; "Trojan Source", CVE-2021-42574). They are shown as themselves.
"""

from __future__ import annotations

import re

__all__ = ["visible"]

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, overrides, isolates
    "\ufeff\ufff9-\ufffb"  # byte order mark, interlinear annotation
    "\ud800-\udfff"  # halves of a pair: no text, and no terminal could be sent them
    "\U000e0000-\U000e007f]"  # tags: letters that nobody sees
)
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")


def visible(text: str) -> str:
    """`text` without a character that a terminal would obey; line ends are newlines.

    Control characters become their pictures (␛ for escape), others the
    replacement character, so that one sees that something was there.
    """
    return _OBEYED.sub(_picture, _LINE_ENDS.sub("\n", text))


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"
