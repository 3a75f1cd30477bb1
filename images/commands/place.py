"""Where a command makes something: nobody else makes the same meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edge.bundle import DRAFT_PREFIX
from edge.errors import StoreError
from edge.workshop import held
from images.errors import ImageError

__all__ = ["place"]


@contextmanager
def place(out: Path) -> Iterator[None]:
    """Have `out` to oneself; folders that are made for it go again where nothing comes of it.

    Raises:
        ImageError: somebody else is making it.
        StoreError: its folder takes nothing.
    """
    made = [folder for folder in out.parents if not folder.exists()]
    lock = out.parent / f"{DRAFT_PREFIX}{out.name}.making"
    try:
        try:
            lock.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError("workshop.unwritable", path=str(out.parent), reason=reason) from error
        with _alone(lock, out):
            yield
    finally:
        for folder in made:
            with suppress(OSError):  # something is in it, by now
                folder.rmdir()


@contextmanager
def _alone(lock: Path, out: Path) -> Iterator[None]:
    """Hold the folder `lock`, and remove it at the end."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock))
        except BlockingIOError as error:
            raise ImageError("build.busy", path=str(out)) from error
        try:
            yield
        finally:
            lock.rmdir()
