"""llama.cpp as a reader."""

from __future__ import annotations

import logging
import os
import signal
import time
from array import array
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.llamacpp.native import api
from quantize.gates.tokens import vocabulary
from quantize.measuring.reading import Reader

pytestmark = pytest.mark.model

IDS = array("i", range(40, 140))


def test_ctrl_c_stops_in_the_middle_of_a_chunk(tiny_gguf: Path) -> None:
    evaluated: list[int] = []
    pressed = False

    def watch(_tensor: Any, asked: bool, _data: Any) -> bool:
        nonlocal pressed
        evaluated.append(len(evaluated))
        if len(evaluated) == 5 and not pressed:
            pressed = True
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.005 if pressed else 0)
        return True

    callback = api().ggml_backend_sched_eval_callback(watch)
    with closing(Reader(tiny_gguf, 128, 1, callback)) as reader:
        with pytest.raises(KeyboardInterrupt):
            reader.read(IDS)
        stopped_after = len(evaluated)
        evaluated.clear()
        again = reader.read(IDS).copy()
        assert stopped_after < len(evaluated) / 2
    with closing(Reader(tiny_gguf, 128, 1)) as reader:
        assert np.allclose(reader.read(IDS), again, atol=1e-4)


class _Pressing(logging.Handler):
    """Ctrl-C at the first line of llama.cpp's log, which is written while it loads a model."""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.filters:
            self.addFilter(lambda _: False)
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(lambda path: Reader(path, 128, 1).close(), id="model"),
        pytest.param(lambda path: vocabulary(path).__enter__(), id="vocabulary"),
    ],
)
def test_ctrl_c_is_not_lost_in_the_log_of_what_is_loaded(
    tiny_gguf: Path, caplog: pytest.LogCaptureFixture, load: Callable[[Path], object]
) -> None:
    pressing = _Pressing()
    log = logging.getLogger("edge.llamacpp")
    log.addHandler(pressing)
    try:
        with caplog.at_level(logging.DEBUG, "edge.llamacpp"), pytest.raises(KeyboardInterrupt):
            load(tiny_gguf)
    finally:
        log.removeHandler(pressing)
    assert pressing.filters
    load(tiny_gguf)
