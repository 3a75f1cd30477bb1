"""A cache of a teacher's words: made, taken up again, read, and refused."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from distill.errors import DistillError, DistillUsageError
from distill.losses.divergences import forward_kl, reverse_kl
from distill.teaching import writing
from distill.teaching.cache_bundle import CacheRecipe, make_cache, open_cache
from distill.teaching.cache_format import Identity, decode
from distill.teaching.identity import model_sha256
from distill.teaching.online import Online
from distill.teaching.reading import Cached, Shard
from distill.teaching.sampling import draw, uniforms
from distill.teaching.targets import Dense, Sampled
from distill.teaching.writing import Plan, write_cache
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import StoreError
from edge.manifest import DataSource, Manifest
from edge.progress import Progress
from pretrain.fused import fused_mean

T, V, N = 16, 300, 7
TOKENIZER, TEACHER = "a" * 64, "b" * 64


class Order:
    """Sequences by arithmetic."""

    identity = "numbers"
    length = T

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return np.random.default_rng(index).integers(V, size=T + 1).astype(np.int32)


class Counting:
    """A teacher that is counted, and may fail."""

    def __init__(self, teacher: Online) -> None:
        self.teacher = teacher
        self.read: list[int] = []
        self.fails: dict[int, BaseException] = {}

    def targets(self, index: int, ids: Tensor) -> Dense:
        self.read += range(index, index + len(ids))
        for at in range(index, index + len(ids)):
            if at in self.fails:
                raise self.fails[at]
        return self.teacher.targets(index, ids)


def llama(seed: int, width: int = 32) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=V, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def online() -> Online:
    return Online(llama(0))


@pytest.fixture
def teacher(online: Online) -> Counting:
    return Counting(online)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads wait for each other, at length where a core is busy; so little work wants one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_TOGETHER", 2 * T)


def plan(**other: Any) -> Plan:
    known = {"data": "numbers", "tokenizer": TOKENIZER, "teacher": TEACHER, "seed": 3}
    shape = {"vocabulary": V, "length": T, "method": "independent", "words": 12}
    return Plan.of(Identity.model_validate(known | shape | other), N, 3)


def stage(_: str) -> Progress:
    return lambda *_: None


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def cache(tmp_path: Path, teacher: Counting) -> Path:
    make_cache(Order(), plan(), teacher, tmp_path / "cache", stage)
    teacher.read.clear()
    return tmp_path / "cache"


def inputs(index: int, count: int = 1) -> Tensor:
    return torch.from_numpy(np.stack([Order()[index + n][:-1] for n in range(count)])).long()


def test_what_is_read_is_what_was_drawn(cache: Path, online: Online) -> None:
    cached = open_cache(cache, Order(), tokenizer=TOKENIZER, teacher=TEACHER)
    assert len(cached) == N
    found = cached.targets(1, inputs(1, 5))  # of two shards
    assert isinstance(found, Sampled)
    assert found.ids.shape[:2] == (5, T)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(5, T))
    dense = online.targets(4, inputs(4))
    numbers = torch.from_numpy(uniforms(3, 4, T, 12, stratified=False))
    expected = draw(dense.hidden[0] @ dense.head.T, numbers)
    counts = torch.zeros(T, V).scatter_add(1, expected, torch.full(expected.shape, 1 / 12))
    back = torch.zeros(T, V).scatter_add(1, found.ids[3], found.weights[3])
    torch.testing.assert_close(back, counts)


def test_the_bundle_says_what_it_is(cache: Path, tmp_path: Path, teacher: Counting) -> None:
    manifest = Bundle.open(cache, verify=True).manifest
    assert manifest.kind == "logits"
    assert sorted(manifest.files) == [f"shard-0000{n}.logits" for n in range(3)]
    assert manifest.metrics["tokens"] == N * T
    assert manifest.provenance == "unknown"
    assert not list(tmp_path.glob("*.caching"))
    source = DataSource(name="Wikipedia")
    parents = []
    for name, trust in (("teacher", "recorded"), ("text", "declared")):
        known = Manifest(
            kind="model", name=name, licence=f"licence of {name}", provenance=trust, data=(source,)
        )
        parents.append(Bundle.write(tmp_path / name, known, {}))
    made = make_cache(Order(), plan(), teacher, tmp_path / "b", stage, parents=tuple(parents))
    assert made is not None
    assert [parent.name for parent in made.manifest.parents] == ["teacher", "text"]
    assert made.manifest.licence == "licence of teacher"
    assert made.manifest.provenance == "declared"
    assert made.manifest.data == (source,)
    assert contents(tmp_path / "b")["shard-00001.logits"] == contents(cache)["shard-00001.logits"]


def test_a_stopped_cache_goes_on_to_the_same_files(
    cache: Path, tmp_path: Path, teacher: Counting
) -> None:
    out, seen = tmp_path / "again", []

    def stopped() -> bool:
        return len(teacher.read) >= 5

    def watched(name: str) -> Progress:
        return lambda done, total: seen.append((name, done, total))

    assert make_cache(Order(), plan(), teacher, out, watched, stopped=stopped) is None
    work = tmp_path / "again.caching"
    assert sorted(contents(work)) == ["shard-00000.logits"]
    assert not out.exists()
    assert make_cache(Order(), plan(), teacher, out, watched) is not None
    assert teacher.read == [0, 1, 2, 3, 4, *range(3, N)]
    assert [each for each in seen if each[0] == "cache"][-1] == ("cache", N * T, N * T)
    before, after = contents(cache), contents(out)
    del before["manifest.json"], after["manifest.json"]
    assert before == after


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (KeyboardInterrupt(), None),
        (OSError(errno.ENOSPC, "full"), "cache.full"),
        (PermissionError(errno.EACCES, "Permission denied"), "cache.unwritable"),
    ],
)
def test_what_fails_keeps_complete_shards_alone(
    tmp_path: Path, teacher: Counting, failure: BaseException, code: str | None
) -> None:
    teacher.fails[5] = failure
    with pytest.raises(DistillError if code else KeyboardInterrupt) as caught:
        write_cache(Order(), plan(), teacher, tmp_path / "work")
    if code:
        assert caught.value.code == code
        assert str(tmp_path / "work") in str(caught.value)
    assert sorted(contents(tmp_path / "work")) == ["shard-00000.logits"]


def test_a_shard_that_another_process_makes_is_left_to_it(
    tmp_path: Path, teacher: Counting
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with (work / "shard-00001.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not write_cache(Order(), plan(), teacher, work)
        assert teacher.read == [0, 1, 2, 6]
    # It died: what it left is no shard.
    (work / "shard-00001.part").write_bytes(b"half of it")
    assert write_cache(Order(), plan(), teacher, work)
    assert teacher.read == [0, 1, 2, 6, 3, 4, 5]
    assert len(contents(work)) == 3


def test_another_cache_in_the_folder_is_left_alone(tmp_path: Path, teacher: Counting) -> None:
    write_cache(Order(), plan(), teacher, tmp_path)
    before = contents(tmp_path)
    for other, said in (
        ({"seed": 4}, "--seed 3 → 4"),
        ({"words": 13}, "--words 12 → 13"),
        ({"teacher": "c" * 64, "seed": 4}, "another teacher, --seed 3 → 4"),
        ({"method": "top-k"}, "--method independent → top-k"),
        ({"data": "letters"}, "another text, or order of it"),
        ({"data": "longer numbers", "length": T + 1}, f"data.length {T} → {T + 1}"),
    ):
        with pytest.raises(DistillError) as raised:
            write_cache(Order(), plan(**other), teacher, tmp_path)
        assert f"{tmp_path} holds another cache: {said}. " in str(raised.value)
    longer = replace(plan(), sequences=2 * N, per_shard=6)
    with pytest.raises(
        DistillError, match=r"another number of sequences \(schedule\.steps × batch"
    ):
        write_cache(Order(), longer, teacher, tmp_path)
    assert contents(tmp_path) == before


def test_a_finished_cache_is_not_made_again_but_verified(cache: Path, teacher: Counting) -> None:
    with pytest.raises(StoreError):
        make_cache(Order(), plan(), teacher, cache, stage)
    shard = cache / "shard-00001.logits"
    good = shard.read_bytes()
    for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1])):
        shard.write_bytes(bad)
        with pytest.raises(DistillError, match=r"shard-00001.logits is damaged .*Remove it"):
            make_cache(Order(), plan(), teacher, cache, stage)
    assert not teacher.read


@pytest.mark.parametrize("where", ["magic", "header", "index", "block"])
def test_a_damaged_shard_is_found_and_made_again_alone(
    cache: Path, teacher: Counting, where: str
) -> None:
    shard = cache / "shard-00001.logits"
    good, index = shard.read_bytes(), Shard.open(shard).index
    at = {"magic": 3, "header": 40, "index": int(index["offset"][0]) - 7, "block": -5}[where]
    raw = bytearray(good)
    raw[at] ^= 16
    shard.write_bytes(raw)
    cached = open_cache(cache, Order())
    cached.targets(0, inputs(0, 3))
    with pytest.raises(DistillError) as caught:
        cached.targets(2, inputs(2, 5))
    said = str(caught.value)
    assert str(shard) in said
    assert "Remove it" in said
    assert "\n" not in said
    shard.write_bytes(good[:-5])
    with pytest.raises(DistillError, match="Remove it"):
        open_cache(cache, Order())
    shard.unlink()
    with pytest.raises(DistillError, match="is missing"):
        open_cache(cache, Order())
    made = make_cache(Order(), plan(), teacher, cache, stage)
    assert made is not None
    assert teacher.read == [3, 4, 5]
    assert shard.read_bytes() == good


def test_damage_that_looks_like_a_block_is_found(cache: Path) -> None:
    path = cache / "shard-00000.logits"
    raw, row = path.read_bytes(), Shard.open(path).index[0]
    start, stop = int(row["offset"]), int(row["offset"] + row["size"])

    def plausible(at: int) -> bool:
        try:
            decode(raw[start:at] + bytes([raw[at] ^ 1]) + raw[at + 1 : stop], plan().identity)
        except ValueError:
            return False
        return True

    at = next(at for at in range(start, stop) if plausible(at))
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(DistillError, match="CRC-32"):
        Cached([path], plan().identity, 3, 3).targets(0, inputs(0))


def test_a_part_that_comes_out_otherwise_is_not_put_back(cache: Path) -> None:
    (cache / "shard-00001.logits").unlink()
    with pytest.raises(DistillError, match="comes out otherwise"):
        make_cache(Order(), plan(), Online(llama(1)), cache, stage)
    assert not (cache / "shard-00001.logits").exists()
    with pytest.raises(DistillError, match="another cache: --seed 3 → 9"):
        make_cache(Order(), plan(seed=9), Online(llama(0)), cache, stage)
    with pytest.raises(DistillError, match="another number of sequences"):
        make_cache(Order(), replace(plan(), sequences=N + 1), Online(llama(0)), cache, stage)


def test_a_cut_shard_is_damaged(tmp_path: Path, teacher: Counting) -> None:
    write_cache(Order(), plan(), teacher, tmp_path)
    paths = sorted(tmp_path.iterdir())
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    cached = Cached(paths, plan().identity, 3, N)
    with pytest.raises(DistillError, match=r"shard-00002.logits is damaged"):
        cached.targets(6, inputs(6))
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(DistillError, match=r"shard-00001.logits is damaged"):
        cached.targets(3, inputs(3))
    paths[0].write_bytes(b"")
    with pytest.raises(DistillError, match=r"shard-00000.logits is damaged"):
        cached.targets(0, inputs(0))


def test_a_cache_of_something_else_is_refused(cache: Path) -> None:
    class OtherText(Order):
        identity = "other numbers"

    class Longer(Order):
        length = T + 1

    class Lying(Order):
        def __getitem__(self, index: int) -> NDArray[np.int32]:
            return super().__getitem__(index + 1)

    for order, said in ((OtherText(), "another order"), (Longer(), "17"), (Lying(), "other text")):
        with pytest.raises(DistillError, match=said):
            open_cache(cache, order)
    with pytest.raises(DistillError, match="tokenizer"):
        open_cache(cache, Order(), tokenizer="c" * 64)
    with pytest.raises(DistillError, match="another teacher"):
        open_cache(cache, Order(), teacher="c" * 64)
    cached = open_cache(cache, Order())
    with pytest.raises(DistillError, match="sequence 4 are not those"):
        cached.targets(3, torch.cat([inputs(3), inputs(3)]))
    with pytest.raises(DistillError, match=r"covers 7 sequences, training wants 8"):
        cached.targets(6, inputs(6, 2))


def test_another_bundle_is_no_cache(tmp_path: Path, teacher: Counting) -> None:
    for kind in ("model", "logits"):
        known = Manifest(kind=kind, name="x", provenance="unknown", recipe={"step": "other"})
        Bundle.write(tmp_path / kind, known, {})
        with pytest.raises(DistillError, match="no cache"):
            open_cache(tmp_path / kind, Order())


def test_a_manifest_that_lies_makes_no_long_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan()
    told = CacheRecipe(identity=made.identity, sequences=1_000_000, per_shard=1)
    recipe = told.model_dump(mode="json")
    known = Manifest(kind="logits", name="x", provenance="unknown", recipe=recipe)
    Bundle.write(tmp_path / "cache", known, {})
    named: list[int] = []
    monkeypatch.setattr(Plan, "name", lambda _, shard: f"{named.append(shard)}")
    with pytest.raises(DistillError, match="no cache"):
        open_cache(tmp_path / "cache", Order())
    assert not named


def test_the_likeliest_words_with_their_probabilities(tmp_path: Path, online: Online) -> None:
    make_cache(Order(), plan(method="top-k", words=5), online, tmp_path / "top", stage)
    found = open_cache(tmp_path / "top", Order()).targets(6, inputs(6))
    dense = online.targets(6, inputs(6))
    top = (dense.hidden @ dense.head.T).softmax(-1).topk(5)
    assert torch.equal(found.ids, top.indices.sort(-1).values)
    torch.testing.assert_close(found.weights.sum(-1), top.values.sum(-1), rtol=1e-3, atol=0)
    few = plan(method="top-k", words=9, vocabulary=8)
    with pytest.raises(DistillUsageError, match="9 likeliest words"):
        make_cache(Order(), few, online, tmp_path / "no", stage)


def test_a_teacher_without_numbers_is_refused(tmp_path: Path) -> None:
    broken = llama(0)
    with torch.no_grad():
        broken.lm_head.weight[7, 3] = torch.nan
    with pytest.raises(DistillError, match="no numbers"):
        write_cache(Order(), plan(), Online(broken), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_teacher_is_known_by_its_weights_wherever_they_are(tmp_path: Path) -> None:
    folders = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        llama(seed).save_pretrained(tmp_path / name)
        folders.append(tmp_path / name)
    content = {file.name: file for file in folders[1].iterdir()}
    known = Manifest(kind="model", name="x", provenance="unknown")
    bundle = Bundle.write(tmp_path / "bundle", known, content)
    one, same, other, bundled = (
        model_sha256(Checkpoint.open(path)) for path in (*folders, bundle.path)
    )
    assert one == same == bundled != other


def test_a_token_takes_few_bytes(cache: Path) -> None:
    """Of the worst teacher, whose twelve draws are all different: 12 × 2 ids and counts."""
    shard = Shard.open(cache / "shard-00000.logits")
    words = shard.read(0, 3)
    assert np.mean([len(each.ids) for each in words]) > 8 * T
    assert shard.index["size"].sum() / (3 * T) < 40


def test_an_online_teacher_says_what_the_model_says_in_any_blocks(online: Online) -> None:
    model = llama(0)
    ids = inputs(0, 5)
    expected = model(input_ids=ids).logits
    for tokens in (1, 2 * T, 8192):
        dense = Online(model, reverse_kl, tokens).targets(0, ids)
        torch.testing.assert_close(dense.hidden @ dense.head.T, expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    student = llama(1)
    hidden = student.model(input_ids=ids).last_hidden_state
    loss = fused_mean(hidden, student.lm_head.weight, dense.per_token())
    torch.testing.assert_close(loss, reverse_kl(student(ids).logits, expected).mean())
    loss.backward()
    assert student.lm_head.weight.grad is not None


def trained(teacher: Online | Cached, reference: Online) -> float:
    """Mean KL divergence that a student has at last of the sequences that it has read."""
    student = llama(1, width=16)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    for step in range(60):
        ids = inputs(step % N)
        hidden = student.model(input_ids=ids).last_hidden_state
        per_token = teacher.targets(step % N, ids).per_token()
        loss = fused_mean(hidden, student.lm_head.weight, per_token)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ids = inputs(0, N)
    dense = reference.targets(0, ids)
    return forward_kl(student(ids).logits, dense.hidden @ dense.head.T).mean().item()


def test_a_student_learns_from_the_cache_as_from_its_teacher(
    tmp_path: Path, online: Online
) -> None:
    made = make_cache(Order(), plan(words=50), online, tmp_path / "many", stage)
    assert made is not None
    dense = trained(online, online)
    cached = trained(open_cache(tmp_path / "many", Order()), online)
    reference = online.targets(0, inputs(0, N))
    student = llama(1, width=16)(inputs(0, N)).logits
    untaught = forward_kl(student, reference.hidden @ reference.head.T).mean().item()
    assert dense < 0.5 * untaught
    assert cached < dense + 0.2 * (untaught - dense)
