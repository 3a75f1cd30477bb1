"""What root's programs tell those who stand before the screen: a file each, which the chat shows.

tell("update", "…") ──▶ /run/lucie-news/update ──▶ `lucie chat --notice /run/lucie-news`
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edge.messages import LANGUAGES, text
from images.onboard.writing import replace
from images.words import FOLDER

__all__ = ["NEWS", "forget", "language", "say", "tell"]

NEWS = Path("/run/lucie-news")
"""Root's alone; made by systemd-tmpfiles."""
_ENVIRONMENT = Path("/run/lucie-settings/environment")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def tell(name: str, text: str) -> None:
    """Have the chat show a text, within two seconds and whenever it opens from now on.

    Args:
        name: of what it is about: its next text takes the place of this one.
        text: in the language of the board; what a terminal would obey the chat leaves out.

    Raises:
        OSError: it cannot be written.
    """
    replace(_place(name), f"{text.strip()}\n".encode(errors="replace"))


def forget(name: str) -> None:
    """Have it shown no more when the chat opens, if it ever was.

    Raises:
        OSError: it cannot be taken away.
    """
    _place(name).unlink(missing_ok=True)


def language() -> str:
    """The language of the board, which lucie.toml names: French, until it does."""
    try:
        lines = _ENVIRONMENT.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    told = [line.removeprefix("LUCIE_LANG=") for line in lines if line.startswith("LUCIE_LANG=")]
    return told[-1] if told and told[-1] in LANGUAGES else "fr"


def say(code: str, /, **facts: Any) -> str:
    """The text of `images/locale` under `subject.entry`, in the language of the board."""
    return text(code, lang=language(), folder=FOLDER, **facts)


def _place(name: str) -> Path:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"no name of news: {name!r}")
    return NEWS / name
