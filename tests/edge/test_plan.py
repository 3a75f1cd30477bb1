from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.device import Device, detect
from edge.errors import MemoryRefusedError, UsageError
from edge.gguf_header import read_header
from edge.gguf_types import GGUFHeader
from edge.plan import Chosen, Plan, budget, plan
from tests.edge.machines import LAPTOP, PI_3, PI_4, PI_5, PI_ZERO_2, Tree, arm, meminfo, plant

FIELDS = {"threads", "threads_batch", "n_ctx", "kv_type", "repack", "n_seq", "n_batch"}


@pytest.fixture(scope="session")
def smol(model_path: Path) -> GGUFHeader:
    return read_header(model_path)


@pytest.fixture(scope="session")
def lucie(smol: GGUFHeader) -> GGUFHeader:
    """The figures of Lucie 7B in Q4_K_M, whose file is not here."""
    matrices = tuple(
        replace(t, type="Q4_K", n_bytes=4_070_000_000 // len(smol.tensors))
        for t in smol.tensors
        if len(t.shape) == 2
    )
    return replace(
        smol,
        name="Lucie 7B",
        file_size=4_070_000_000,
        file_type="Q4_K_M",
        n_layer=32,
        n_embd=4096,
        n_ff=12288,
        n_head=32,
        n_head_kv=8,
        head_dim_k=128,
        head_dim_v=128,
        n_ctx_train=32000,
        n_vocab=65024,
        tensors=matrices,
    )


@pytest.fixture(scope="session")
def luciole(lucie: GGUFHeader) -> GGUFHeader:
    """The figures of Luciole 1B in Q4_K_M."""
    matrices = tuple(replace(t, n_bytes=1_020_000_000 // len(lucie.tensors)) for t in lucie.tensors)
    return replace(
        lucie,
        name="Luciole 1B",
        file_size=1_020_000_000,
        n_layer=24,
        n_embd=2048,
        n_ff=8192,
        head_dim_k=64,
        head_dim_v=64,
        n_ctx_train=131072,
        tensors=matrices,
    )


def on(root: Path, *trees: Tree) -> Device:
    return detect(plant(root, *trees))


def reason(made: Plan, field: str) -> str:
    return made.reasons[field].code.removeprefix("plan.")


@pytest.mark.parametrize(
    ("tree", "decode", "prefill", "why"),
    [
        (PI_5, 2, 4, "decode-pi5"),
        (PI_4, 3, 4, "decode-slow-cpu"),
        (PI_3, 3, 4, "decode-slow-cpu"),
        (PI_ZERO_2, 3, 4, "decode-slow-cpu"),
        (LAPTOP, 4, 4, "decode-all"),
    ],
)
def test_threads_differ_for_decode_and_prefill(
    tmp_path: Path, smol: GGUFHeader, tree: Tree, decode: int, prefill: int, why: str
) -> None:
    made = plan(smol, on(tmp_path, tree))
    assert (made.options.threads, made.options.threads_batch) == (decode, prefill)
    assert reason(made, "threads") == why


@pytest.mark.parametrize(("n", "decode"), [(1, 1), (2, 2), (6, 4), (12, 6), (64, 8)])
def test_decode_takes_no_more_threads_than_memory_feeds(
    tmp_path: Path, smol: GGUFHeader, n: int, decode: int
) -> None:
    device = on(tmp_path, arm("asimd asimddp", "0xd0c", n), meminfo(64000, 60000))
    made = plan(smol, device)
    assert (made.options.threads, made.options.threads_batch) == (decode, n)


def test_one_core_without_dot_products_still_computes(tmp_path: Path, smol: GGUFHeader) -> None:
    device = on(tmp_path, PI_ZERO_2, {"proc/self/status": "Cpus_allowed_list:\t2\n"})
    assert plan(smol, device).options.threads == 1


def test_every_choice_has_a_reason_in_words(
    tmp_path: Path, smol: GGUFHeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, tree in enumerate((PI_5, PI_4, PI_ZERO_2, LAPTOP)):
        made = plan(smol, on(tmp_path / str(number), tree))
        assert made.reasons.keys() == FIELDS
        for lang in ("en", "fr"):
            monkeypatch.setenv("LUCIE_LANG", lang)
            assert all(10 < len(str(why)) < 55 for why in made.reasons.values())


def test_a_board_with_much_memory_takes_the_long_context(
    tmp_path: Path, smol: GGUFHeader, luciole: GGUFHeader
) -> None:
    device = on(tmp_path, PI_5)
    made = plan(smol, device)
    assert (made.options.n_ctx, made.options.kv_type) == (8192, "f16")
    assert reason(made, "n_ctx") == "context-train"
    made = plan(luciole, device)
    assert (made.options.n_ctx, made.options.kv_type) == (8192, "f16")
    assert reason(made, "n_ctx") == "context-most"


def test_a_7b_on_8_gb_runs_with_what_remains(tmp_path: Path, lucie: GGUFHeader) -> None:
    made = plan(lucie, on(tmp_path, PI_5))
    assert (made.options.n_ctx, made.options.kv_type) == (8192, "f16")
    assert not made.options.repack
    assert reason(made, "repack") == "repack-no-memory"
    # What is given up first is length beyond 4,096, then exactness, then the rest of the length.
    for free, expected in ((5112, (4096, "f16")), (4912, (4096, "q8_0")), (4792, (2048, "f16"))):
        made = plan(lucie, on(tmp_path / str(free), PI_5, meminfo(8052, free)))
        assert (made.options.n_ctx, made.options.kv_type) == expected
        assert reason(made, "n_ctx") == "context-memory"
        assert reason(made, "kv_type") == ("kv-q8" if expected[1] == "q8_0" else "kv-f16")
        assert made.needed.total <= made.available


def test_the_smallest_board_still_talks(tmp_path: Path, smol: GGUFHeader) -> None:
    made = plan(smol, on(tmp_path, PI_ZERO_2))
    assert made.options.n_seq == 2
    assert made.options.n_batch == 128
    assert 512 <= made.options.n_ctx < 8192
    assert made.needed.total <= made.available < 290 << 20


def test_what_would_be_killed_is_refused(
    tmp_path: Path, smol: GGUFHeader, lucie: GGUFHeader
) -> None:
    with pytest.raises(MemoryRefusedError) as caught:
        plan(lucie, on(tmp_path, PI_4))
    assert "Lucie 7B" in str(caught.value)
    with pytest.raises(MemoryRefusedError):
        plan(smol, on(tmp_path / "full", PI_ZERO_2, meminfo(416, 180)))


def test_what_the_user_asks_for_is_refused_with_what_would_fit(
    tmp_path: Path, lucie: GGUFHeader
) -> None:
    device = on(tmp_path, PI_5)
    assert plan(lucie, device, Chosen(n_ctx=32000)).options.kv_type == "q8_0"
    with pytest.raises(MemoryRefusedError) as caught:
        plan(lucie, device, Chosen(n_ctx=32000, kv_type="f16"))
    assert caught.value.facts["n_ctx"] == 16000


def test_weights_are_rearranged_where_it_helps_and_fits(
    tmp_path: Path, smol: GGUFHeader, luciole: GGUFHeader
) -> None:
    made = plan(luciole, on(tmp_path / "a", PI_5))
    assert made.options.repack
    assert made.needed.repacked > 0
    made = plan(luciole, on(tmp_path / "b", PI_4))
    assert not made.options.repack  # no dot products
    assert reason(made, "repack") == "repack-no-kernel"
    made = plan(luciole, on(tmp_path / "c", PI_5, meminfo(2000, 1800)))
    assert reason(made, "repack") == "repack-no-memory"
    q4_1 = replace(smol, tensors=tuple(t for t in smol.tensors if t.type == "Q4_1"))
    assert reason(plan(q4_1, on(tmp_path / "d", PI_5)), "repack") == "repack-no-kernel"


@pytest.mark.parametrize(
    ("chosen", "code"),
    [
        (Chosen(threads=5), "plan.too-many-threads"),
        (Chosen(threads_batch=5), "plan.too-many-threads"),
        (Chosen(n_ctx=512, n_batch=513), "plan.batch-too-long"),
        (Chosen(n_seq=8, n_batch=7), "plan.batch-too-short"),
    ],
)
def test_what_the_machine_or_the_window_cannot_hold_is_refused(
    tmp_path: Path, smol: GGUFHeader, chosen: Chosen, code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(smol, on(tmp_path, PI_5), chosen)
    assert caught.value.code == code


def test_a_step_is_no_longer_than_a_short_window(tmp_path: Path, smol: GGUFHeader) -> None:
    short = replace(smol, n_ctx_train=128)
    assert plan(short, on(tmp_path, PI_5)).options.n_batch == 128


def test_ram_for_conversations_at_rest_is_a_part_of_what_is_left(
    tmp_path: Path, smol: GGUFHeader
) -> None:
    made = plan(smol, on(tmp_path / "a", PI_5))
    assert made.swap == 2 * made.needed.kv
    made = plan(smol, on(tmp_path / "b", PI_ZERO_2))
    assert made.swap <= (made.available - made.needed.total) // 4


def test_the_user_decides(tmp_path: Path, luciole: GGUFHeader) -> None:
    chosen = Chosen(
        n_ctx=16384, n_seq=1, n_batch=64, threads=1, threads_batch=2, kv_type="q8_0", repack=False
    )
    made = plan(luciole, on(tmp_path, PI_5), chosen)
    options = made.options
    assert (options.n_ctx, options.kv_type, options.repack) == (16384, "q8_0", False)
    assert (options.n_seq, options.n_batch) == (1, 64)
    assert (options.threads, options.threads_batch) == (1, 2)
    assert {reason(made, field) for field in FIELDS} == {"given"}
    made = plan(luciole, on(tmp_path / "4", PI_4), Chosen(repack=True))
    assert made.options.repack


def test_a_context_chosen_is_kept_exact_where_it_fits(tmp_path: Path, luciole: GGUFHeader) -> None:
    made = plan(luciole, on(tmp_path, PI_5), Chosen(n_ctx=65536))
    assert (made.options.n_ctx, made.options.kv_type) == (65536, "f16")


def test_what_the_model_cannot_do_is_wrong_use(tmp_path: Path, smol: GGUFHeader) -> None:
    device = on(tmp_path, PI_5)
    with pytest.raises(UsageError) as caught:
        plan(smol, device, Chosen(n_ctx=8193))
    assert "8,192" in str(caught.value)
    odd = replace(smol, head_dim_k=80, head_dim_v=80)
    with pytest.raises(UsageError):
        plan(odd, device, Chosen(kv_type="q8_0"))
    assert plan(odd, on(tmp_path / "t", PI_ZERO_2)).options.kv_type == "f16"


@pytest.mark.parametrize(("train", "n_ctx"), [(300, 300), (3000, 3000), (8192, 8192)])
def test_a_short_model_gets_all_of_its_context(
    tmp_path: Path, smol: GGUFHeader, train: int, n_ctx: int
) -> None:
    made = plan(replace(smol, n_ctx_train=train), on(tmp_path, PI_5))
    assert made.options.n_ctx == n_ctx
    assert reason(made, "n_ctx") == "context-train"


def test_something_is_left_for_others(tmp_path: Path) -> None:
    assert budget(on(tmp_path / "a", PI_ZERO_2)) == (290 - 64) << 20
    assert budget(on(tmp_path / "b", PI_5)) == (7400 - 512) << 20
    assert budget(on(tmp_path / "c", PI_5, meminfo(8052, 3))) == 0


def test_this_machine_can_load_the_default_model(smol: GGUFHeader) -> None:
    made = plan(smol, detect())
    assert made.options.threads >= 1
    assert made.needed.total <= made.available
