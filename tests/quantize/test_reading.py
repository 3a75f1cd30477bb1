"""llama.cpp as a reader."""

from __future__ import annotations

import os
import signal
import time
from array import array
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.llamacpp.native import api
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
