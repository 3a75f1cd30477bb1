"""What the commands of a stage say, from its `locale/command.toml`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edge.commands.stages import Stages
from edge.messages import text
from edge.quantity import count_text, size_text

__all__ = ["HELP", "CommandWords"]

HELP = {"help_option_names": ["-h", "--help"]}


class CommandWords:
    """The texts of one stage's commands.

    Args:
        folder: its `locale`.
        in_bytes: the parts of its work that are counted in bytes.
        units: of other parts, the entry that says what is counted, as `steps`; it has `{count}`.
    """

    def __init__(
        self,
        folder: Path,
        in_bytes: Collection[str] = (),
        units: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._folder = folder
        self._amounts: dict[str, Callable[[int], str]] = dict.fromkeys(in_bytes, size_text)
        self._amounts |= {stage: partial(self._counted, unit) for stage, unit in units.items()}

    def say(self, entry: str, /, **facts: Any) -> str:
        """A sentence in the user's language."""
        return text(f"command.{entry}", folder=self._folder, **facts)

    def words(self, command: str, **facts: Any) -> dict[str, Any]:
        """What click is told about the command of that name; `facts` are in its help."""
        return {
            "help": self.say(f"{command}-help", **facts),
            "short_help": self.say(f"{command}-short"),
            # As it is: a command that is broken where a line ends cannot be copied.
            "epilog": f"\b\n{self.say(f'{command}-example')}",
            "context_settings": HELP,
        }

    def stages(self, interrupted: str = "interrupted", **facts: Any) -> Stages:
        """Shows the parts of a command's work; `interrupted` is what Ctrl-C makes it say."""
        return Stages(self.say, self.say(interrupted, **facts), self._amounts)

    def _counted(self, unit: str, count: int) -> str:
        return self.say(unit, count=count_text(count))
