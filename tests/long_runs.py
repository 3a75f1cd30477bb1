"""Tests that take minutes run when what they test has changed.

    pytestmark = pytest.mark.long("quantize/healing")     the Python of folders, or files
    pytestmark = pytest.mark.long("images/board/*")       all files of a folder

`long_runs.json` says of which state of these, and of the test's own file, all such tests of a
file last passed. Of another state they run, in CI as everywhere; `LUCIE_TEST_LONG=1` runs them in
any case, and `LUCIE_TEST_LONG=record` notes there what has passed. `owed:` before a state says that
they have not, and are put off all the same: CI tells so of each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_suffix(".json")
ASKED = os.environ.get("LUCIE_TEST_LONG")
_OWED = "owed:"
"""Before a state: somebody has put these tests off by hand. They have not passed in it."""


def state(item: pytest.Item) -> str:
    """Hash of all that an item's long tests are about."""
    digest = hashlib.sha256()
    for path in sorted({item.path, *_named(item)}):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _named(item: pytest.Item) -> Iterator[Path]:
    for mark in item.iter_markers("long"):
        for name in mark.args:
            path = ROOT / name.removesuffix("/*")
            assert path.exists(), f"{item.nodeid}: there is no {name}"
            if name.endswith("/*"):
                yield from (file for file in path.rglob("*") if _is_source(file))
            else:
                yield from path.rglob("*.py") if path.is_dir() else [path]


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


class LongRuns:
    """The plugin that skips them, and notes them.

    Args:
        arguments: what pytest was asked to run.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.known: dict[str, str] = json.loads(RECORD.read_text(encoding="utf-8"))
        self.seen: dict[str, str] = {}
        self.failed = {argument.partition("::")[0] for argument in arguments if "::" in argument}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Skip those whose state has passed."""
        for item in items:
            if item.get_closest_marker("long") is None:
                continue
            name, found = key(item), state(item)
            known = self.known.get(name, "")
            if not ASKED and known.removeprefix(_OWED) == found:
                what = "OWED, not passed" if known.startswith(_OWED) else "passed"
                reason = f"{what} in this state: long_runs.json"
                item.add_marker(pytest.mark.skip(reason=reason))
            else:
                self.seen[name] = found

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """A file of which some tests were left out has not passed."""
        self.failed |= {item.nodeid.partition("::")[0] for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down what did not pass."""
        if report.failed or (report.skipped and "long_runs" not in str(report.longrepr)):
            self.failed.add(report.nodeid.partition("::")[0])

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Note what has passed, if that was asked for."""
        if ASKED == "record" and exitstatus == pytest.ExitCode.OK:
            passed = {
                n: at for n, at in self.seen.items() if n.partition("::")[0] not in self.failed
            }
            known = dict(sorted((self.known | passed).items()))
            RECORD.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def key(item: pytest.Item) -> str:
    """A test file, and what its marked tests are about."""
    names = sorted({name for mark in item.iter_markers("long") for name in mark.args})
    return f"{item.path.relative_to(ROOT)}::{' '.join(names)}"
