"""What the commands of `lucie quantize` say."""

from __future__ import annotations

from typing import Any

from quantize import words as stage

__all__ = ["HELP", "say", "words"]

HELP = {"help_option_names": ["-h", "--help"]}


def say(entry: str, /, **facts: Any) -> str:
    """A sentence of `locale/command.toml` in the user's language."""
    return stage.say(f"command.{entry}", **facts)


def words(command: str) -> dict[str, Any]:
    """What click is told about the command of that name."""
    return {
        "help": say(f"{command}-help"),
        "short_help": say(f"{command}-short"),
        "epilog": say(f"{command}-example"),
        "context_settings": HELP,
    }
