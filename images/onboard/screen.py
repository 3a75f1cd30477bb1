"""Whether a board has a screen."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FRAMEBUFFER", "has_screen"]

FRAMEBUFFER = "dev/fb0"
"""What the chat is drawn on, below the root."""
_STATUS = "sys/class/drm/*/status"
"""What a graphics driver says of each socket: `connected`, or that nothing is plugged in; it does
not know of a composite one, `unknown`."""
_INTO_MEMORY = "Writeback"
"""A socket of a driver that draws for nobody to see."""


def has_screen(root: Path = Path("/"), *, before: bool = False) -> bool:
    """Whether there is one.

    Args:
        root: of the board.
        before: what is true where no graphics driver says anything, and there is no framebuffer.
    """
    sockets = {
        status.read_text(encoding="ascii").strip()
        for status in root.glob(_STATUS)
        if _INTO_MEMORY not in status.parent.name
    }
    if "connected" in sockets or (sockets and "unknown" not in sockets):
        return "connected" in sockets
    return (root / FRAMEBUFFER).exists() or before
