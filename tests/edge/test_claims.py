"""Which conversation is open where, told between real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.claims import Claim

_HOLD = """
import sys
from pathlib import Path
from edge.claims import Claim
claim = Claim(Path(sys.argv[1]))
print(claim.take(int(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path, conversation: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a conversation open."""
    command = [sys.executable, "-c", _HOLD, str(path), str(conversation)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        yield other
        other.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "open"


def test_one_process_at_a_time(path: Path) -> None:
    claim = Claim(path)
    with held_elsewhere(path, 7) as other:
        assert not claim.take(7)
        assert claim.take(8), "another conversation is free"
        other.kill()
        other.wait()
        assert claim.take(7), "a killed process holds nothing"
    with pytest.raises(AssertionError), held_elsewhere(path, 7):
        pass
    with held_elsewhere(path, 8):
        pass  # taking 7 let go of it
    claim.release()
    with held_elsewhere(path, 7):
        pass
    claim.close()


def test_what_is_refused_lets_go_of_nothing(path: Path) -> None:
    claim = Claim(path)
    assert claim.take(1)
    with held_elsewhere(path, 2):
        assert not claim.take(2)
    with pytest.raises(AssertionError), held_elsewhere(path, 1):
        pass
    claim.close()


def test_without_a_file_to_lock_everything_is_free(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "no folder" / "open")
    assert claim.take(1)
    claim.release()
    claim.close()
