"""A program of ours that ends before its work did: how that is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.attended import DiedError, attend

KILLS_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
REAL_TIME = KILLS_ITSELF.replace("SIGTERM", "SIGRTMIN + 6")


@pytest.mark.parametrize(
    ("program", "lang", "how", "words"),
    [
        (KILLS_ITSELF, "en", "signal SIGTERM", ""),
        (REAL_TIME, "en", "signal SIGRTMIN+6", ""),
        ("import sys; sys.exit('No room.\\n---')", "en", "exit code 1", ": No room"),
        ("import sys; sys.exit('Non.')", "fr", "code 1", " : Non"),
    ],
)
def test_how_it_ended_and_what_it_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, lang: str, how: str, words: str
) -> None:
    monkeypatch.setenv("LUCIE_LANG", lang)
    log = tmp_path / "log"
    log.write_text("what it said the last time\n")
    with pytest.raises(DiedError) as caught:
        attend(["-c", program], log, print, stopping=print, errors={})
    assert caught.value.facts == {"how": how, "words": words}
