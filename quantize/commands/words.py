"""What the commands of `lucie quantize` say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.messages import text

__all__ = ["HELP", "say", "words"]

_FOLDER = Path(__file__).parent.parent / "locale"

HELP = {"help_option_names": ["-h", "--help"]}


def say(entry: str, /, **facts: Any) -> str:
    """A sentence of `locale/command.toml` in the user's language."""
    return text(f"command.{entry}", folder=_FOLDER, **facts)


def words(command: str) -> dict[str, Any]:
    """What click is told about the command of that name."""
    return {
        "help": say(f"{command}-help"),
        "short_help": say(f"{command}-short"),
        "epilog": say(f"{command}-example"),
        "context_settings": HELP,
    }
