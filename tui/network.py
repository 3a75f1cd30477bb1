"""The network that a board opens for a class, as a file of its says."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.errors import UsageError

__all__ = ["Network", "network_in"]

_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Network:
    """The network that a board opens for a class."""

    ssid: str
    password: str
    address: str
    """Of the page."""

    @property
    def wifi(self) -> str:
        """It, for a phone that is to join."""
        ssid, password = (
            re.sub(r'([\\;,":])', r"\\\1", each) for each in (self.ssid, self.password)
        )
        return f"WIFI:T:WPA;S:{ssid};P:{password};;"


def network_in(file: Path | None) -> Network | None:
    """The network that a file names; a file that is not there says that there is none.

    Raises:
        UsageError: it cannot be read, or is no such file.
    """
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            return _network(json.loads(opened.read(_LARGEST)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError("chat.no-notice", path=str(file), reason=error.strerror) from error
    except (ValueError, TypeError) as error:
        raise UsageError("chat.no-class", path=str(file)) from error


def _network(found: dict[str, object]) -> Network:
    network = Network(**found)  # type: ignore[arg-type]
    if not all(isinstance(value, str) for value in asdict(network).values()):
        raise TypeError
    return network
