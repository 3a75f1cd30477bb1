"""KL divergence and perplexity, against their definitions in double precision."""

from __future__ import annotations

import json
import math
import shutil
from array import array
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from edge.device import detect
from edge.engine import LoadOptions
from edge.gguf_header import read_header
from edge.memory import estimate
from quantize.errors import QuantizeError
from quantize.ggml.export import export
from quantize.ggml.quantizer import QuantizeOptions, quantize
from quantize.measuring import side_by_side
from quantize.measuring.calibration import LabelledText
from quantize.measuring.candidates import measure
from quantize.measuring.divergence import Figures, Positions, compare, summarise
from quantize.measuring.reading import Reader
from tests.quantize import tiny
from tests.quantize.tiny import prose

DICE = np.random.default_rng(7)
P = (3 * DICE.standard_normal((70, 50))).astype(np.float32)
Q = (P + DICE.standard_normal((70, 50))).astype(np.float32)
NEXT = DICE.integers(0, 50, 70).astype(np.int32)


def probabilities(row: Any) -> list[float]:
    weights = [math.exp(float(x) - float(max(row))) for x in row]
    return [weight / sum(weights) for weight in weights]


def test_each_position_by_the_definition() -> None:
    found = compare(P, Q, NEXT)
    for t in range(70):
        p, q = probabilities(P[t]), probabilities(Q[t])
        kld = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert found.kld[t] == pytest.approx(kld, abs=1e-5)
        assert found.nll[t] == pytest.approx(-math.log(q[NEXT[t]]), abs=1e-5)
        assert found.nll_reference[t] == pytest.approx(-math.log(p[NEXT[t]]), abs=1e-5)
        assert found.same_top[t] == (p.index(max(p)) == q.index(max(q)))


def test_the_same_model_does_not_diverge() -> None:
    figures = summarise(compare(P, P.copy(), NEXT))
    assert figures.kld.value == figures.kld_99 == figures.delta_p.value == 0
    assert (figures.ppl_ratio.value, figures.ppl_ratio.error) == (1, 0)
    assert figures.same_top.value == 1


def test_what_is_huge_or_impossible_makes_no_nan() -> None:
    extreme = np.array([[1e30, 0, -1e30], [0, 0, 0]], np.float32)
    found = compare(extreme, extreme, np.array([2, 1], np.int32))
    assert np.isfinite(found.kld).all()


def test_standard_errors_by_their_definition() -> None:
    found = compare(P, Q, NEXT)
    figures = summarise(found)
    n = len(found.kld)
    assert figures.n == n
    assert figures.kld.error == pytest.approx(np.std(found.kld, ddof=1) / math.sqrt(n))
    assert figures.ppl.value == pytest.approx(math.exp(found.nll.mean()))
    # As llama-perplexity has it: variances and covariance of the two means.
    a, b = found.nll, found.nll_reference
    covariance = ((a * b).mean() - a.mean() * b.mean()) / (n - 1)
    variance = a.var() / (n - 1) + b.var() / (n - 1) - 2 * covariance
    ratio = math.exp(a.mean() - b.mean())
    assert figures.ppl_ratio.value == pytest.approx(ratio)
    assert figures.ppl_ratio.error == pytest.approx(ratio * math.sqrt(variance))


def test_positions_of_several_texts_count_together() -> None:
    whole = compare(P, Q, NEXT)
    parts = [compare(P[:30], Q[:30], NEXT[:30]), compare(P[30:], Q[30:], NEXT[30:])]
    assert summarise(Positions.joined(parts)) == summarise(whole)


# --- with models ----------------------------------------------------------------------------


def written(path: Path) -> LabelledText:
    path.write_text("\n".join(prose(400)), encoding="utf-8")
    return LabelledText("fr", path)


@pytest.mark.model
def test_fewer_bits_diverge_more(tiny_gguf: Path, tmp_path: Path) -> None:
    made = []
    for kind in ("Q8_0", "Q5_K_M", "Q3_K_M"):
        made.append(tmp_path / f"{kind}.gguf")
        quantize(tiny_gguf, made[-1], QuantizeOptions(kind))
    told: list[tuple[int, int | None]] = []
    found = measure(
        tiny_gguf,
        [tiny_gguf, *made],
        [written(tmp_path / "t.txt")],
        chunks=2,
        progress=lambda *now: told.append(now),
    )
    klds = [figures["fr"].kld.value for figures in found]
    assert klds[0] == 0
    assert klds == sorted(klds)
    assert klds[1] < klds[3] / 10
    assert told == [(1, 2), (2, 2)]
    assert all(figures["all"] == figures["fr"] for figures in found)


@pytest.mark.model
def test_perplexity_is_that_of_the_second_halves(tiny_gguf: Path, tmp_path: Path) -> None:
    text = written(tmp_path / "t.txt")
    [found] = measure(tiny_gguf, [tiny_gguf], [text], chunks=1)
    ids = tiny.tokenizer(tiny.CONFIG).encode(text.path.read_bytes().decode()).ids[:512]
    with closing(Reader(tiny_gguf, 512, 1)) as reader:
        logits = reader.read(array("i", ids)).astype(np.float64)
    losses = [-math.log(probabilities(logits[t])[ids[t + 1]]) for t in range(256, 511)]
    figures: Figures = found["all"]
    assert figures.n == 255
    assert figures.ppl.value == pytest.approx(math.exp(sum(losses) / 255), rel=1e-4)


@pytest.mark.model
def test_another_vocabulary_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    config = tiny.CONFIG | {"vocab_size": 1030}
    other = tiny.write(tmp_path / "other", config, tiny.weights(config))
    export(Checkpoint.open(other), tmp_path / "other.gguf", "F32")
    with pytest.raises(QuantizeError) as caught:
        measure(tiny_gguf, [tmp_path / "other.gguf"], [written(tmp_path / "t.txt")], chunks=1)
    assert caught.value.code == "compare.vocabulary"


def test_so_is_one_of_the_same_size(tiny_gguf: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Two tokens that no text has have changed places."""
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    given = json.loads((other / "tokenizer.json").read_text())
    vocab = given["model"]["vocab"]
    ids = {number: token for token, number in vocab.items()}
    vocab[ids[600]], vocab[ids[601]] = 601, 600
    (other / "tokenizer.json").write_text(json.dumps(given))
    export(Checkpoint.open(other), tmp_path / "other.gguf", "F32")
    with pytest.raises(QuantizeError) as caught:
        measure(tiny_gguf, [tmp_path / "other.gguf"], [written(tmp_path / "t.txt")], chunks=1)
    assert caught.value.code == "compare.vocabulary"


@pytest.mark.model
def test_models_are_read_together_as_far_as_memory_goes(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LoadOptions(
        n_ctx=512, n_seq=512, n_batch=512, threads=1, threads_batch=1, repack=True
    )
    each = estimate(read_header(tiny_gguf), options, detect().cpu.flags)
    a, b, c = candidates = [
        shutil.copy(tiny_gguf, tmp_path / name) for name in ("a.gguf", "b.gguf", "c.gguf")
    ]
    kept = each.total - each.weights
    for room, expected in (
        (4.1 * each.total, [[a, b, c]]),
        (3.1 * each.total, [[a, b], [c]]),
        (2.1 * each.total, [[a], [b], [c]]),
        (2.1 * kept, [[a], [b], [c]]),  # the weights are read again and again
    ):
        monkeypatch.setattr(side_by_side, "budget", lambda _, room=room: int(room))
        assert side_by_side.groups(tiny_gguf, candidates) == expected
    monkeypatch.setattr(side_by_side, "budget", lambda _: int(1.9 * kept))
    with pytest.raises(QuantizeError, match=r"a\.gguf and the reference would take"):
        side_by_side.groups(tiny_gguf, candidates)


@pytest.mark.model
def test_another_token_before_a_text_is_refused(
    tiny_folder: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    settings = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": True}))
    export(Checkpoint.open(other), tmp_path / "other.gguf", "F32")
    with pytest.raises(QuantizeError) as caught:
        measure(tiny_gguf, [tmp_path / "other.gguf"], [written(tmp_path / "t.txt")], chunks=1)
    assert caught.value.code == "compare.first"
