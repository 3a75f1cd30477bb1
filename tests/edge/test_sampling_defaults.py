"""What holds where a request says nothing: the catalog's word on the model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge.engine import Sampling
from edge.server.prepare import completion_job
from edge.server.schema import CompletionRequest
from edge.server.service import Loaded
from edge.server.start import _sampling
from edge.store import Model, Store
from tests.edge.scripted_server import ScriptedEngine

OWN = Sampling(temperature=0.2, top_p=0.9, repeat_penalty=1.1)


def test_the_catalog_is_asked_by_hash_whatever_the_name(model_path: Path, tmp_path: Path) -> None:
    model = Store(tmp_path).add(str(model_path), name="mine")
    assert _sampling(model) == OWN
    assert _sampling(Model("toy", model_path, None)) == Sampling(), "nothing is known of a file"


@pytest.mark.parametrize(
    ("asked", "temperature", "penalty"),
    [
        ({}, 0.2, 1.1),
        ({"temperature": 1.0}, 1.0, 1.1),
        ({"temperature": 0.0}, 0.0, 1.0),
        ({"temperature": 0.0, "repeat_penalty": 1.3}, 0.0, 1.3),
    ],
)
def test_a_request_wins_and_greedy_is_greedy(
    asked: dict[str, Any], temperature: float, penalty: float
) -> None:
    loaded = SimpleNamespace(name="letters", engine=ScriptedEngine(0, 100), sampling=OWN)
    job = completion_job(CompletionRequest(prompt="a", **asked), cast("Loaded", loaded))
    sampling = job.request.sampling
    assert (sampling.temperature, sampling.repeat_penalty) == (temperature, penalty)
