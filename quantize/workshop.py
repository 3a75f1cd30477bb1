"""Where a bundle is made: a hidden folder beside its place, on the same disk."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from edge import __version__
from edge.bundle import DRAFT_PREFIX
from edge.errors import StoreError
from edge.store import NAME
from quantize.errors import QuantizeError, QuantizeUsageError

__all__ = ["software", "workshop"]


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """A folder to make the bundle `out` in; it is removed at the end, whatever happens.

    Raises:
        StoreError: there is an `out` already.
        QuantizeError: the disk is full, or takes nothing.
    """
    if not NAME.fullmatch(out.name):
        raise QuantizeUsageError("workshop.name", name=ascii(out.name))
    if out.exists() or out.is_symlink():
        raise StoreError("bundle.exists", path=str(out))
    folder: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{DRAFT_PREFIX}{out.name}-", dir=out.parent))
        yield folder
    except OSError as error:
        code = "workshop.full" if error.errno == errno.ENOSPC else "workshop.unwritable"
        reason = error.strerror or str(error)
        raise QuantizeError(code, path=str(out.parent), reason=reason) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def software(*packages: str) -> dict[str, str]:
    """Versions of this program and of `packages`, for a manifest."""
    return {"lucie-edge": __version__} | {name: version(name) for name in packages}
