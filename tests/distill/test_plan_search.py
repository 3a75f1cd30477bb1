"""Which students are found, how they are reached, what they cost."""

from __future__ import annotations

import pytest

from distill.errors import DistillError, DistillUsageError
from distill.planning.boards import boards
from distill.planning.plan import Plan, make_plan
from distill.planning.schedule import cache_bytes_per_token, schedule
from distill.planning.search import Found, in_order, slices
from distill.planning.speed import predict
from distill.planning.storage import kv_bytes_per_token, memory_bytes
from distill.planning.target import OnBoard, parse
from distill.slices import is_slice, resized
from edge.llama_config import LlamaConfig
from edge.plan import budget
from tests.distill.models import LUCIE, SMOLLM_135M


def plan(target: str, teacher: LlamaConfig = LUCIE, **more: object) -> Plan:
    settings = {"context": 2048, "quantization": "Q4_K_M"} | more
    return make_plan("teacher", teacher, parse(target), **settings)  # type: ignore[arg-type]


def shape(config: LlamaConfig) -> tuple[int, int, int, str]:
    heads = f"{config.num_attention_heads}/{config.num_key_value_heads}"
    return config.num_hidden_layers, config.hidden_size, config.intermediate_size, heads


def test_the_students_of_lucie_of_1b() -> None:
    """Parameters and KiB of KV cache a token as worked out by hand, each by its formula."""
    found = {
        shape(one.config): (one.config.parameters, kv_bytes_per_token(one.config) >> 10)
        for one in plan("1b").students
    }
    wanted = {
        (20, 2048, 6144, "16/4"): (1_097_943_040, 40),
        (32, 1536, 4608, "16/8"): (1_081_443_840, 128),
        (24, 2048, 6144, "16/8"): (1_341_229_056, 96),
        (16, 2048, 8192, "32/8"): (1_106_315_264, 32),
    }
    assert wanted.items() <= found.items()
    tables = 65_024 * 2048
    for (layers, width, ffn, heads), (parameters, _) in wanted.items():
        q, kv = map(int, heads.split("/"))
        head = 64 if heads == "32/8" else 128
        layer = 2 * width * q * head + 2 * width * kv * head + 3 * width * ffn + 2 * width
        assert parameters == tables * width // 2048 + layers * layer + width


def test_llama_of_1b_is_shown_and_is_no_slice() -> None:
    *cut, other = plan("1b").students
    assert all(one.found.fault is None and one.steps for one in cut)
    assert other.found.title == "Llama-3.2-1B"
    assert other.found.fault is not None
    assert other.found.fault.code == "head-size"
    assert not other.steps


def test_each_is_the_best_by_its_criterion_and_they_differ() -> None:
    students = [one for one in plan("1b").students if not one.found.fault]
    right = [one for one in slices(LUCIE, tied=True) if 0.9e9 <= one.parameters <= 1.35e9]
    by = {why: one.config for one in students for why in one.found.why}
    assert by["largest"].parameters == max(one.parameters for one in right)
    assert by["all-layers"].num_hidden_layers == 32
    board = boards()["pi5"]
    speeds = [predict(one, "Q4_K_M", board, 2048).decode for one in right]
    assert predict(by["fastest"], "Q4_K_M", board, 2048).decode == max(speeds)
    assert len({one.config for one in students}) == len(students) <= 4


def test_the_quality_to_expect_comes_first() -> None:
    layers = [one.config.num_hidden_layers for one in plan("1b").students if not one.found.fault]
    assert layers == [24, 32, 20, 16]  # 1.34, 1.08, 1.10 and 0.90 billion


def test_of_about_the_same_size_the_deeper_comes_first() -> None:
    """981 million weights in 32 layers before 1,007 in 20, but not before 1,208 in 24."""
    of = [
        resized(LUCIE, layers=layers, width=width, ffn=3 * width, heads=16, kv_heads=8, tied=True)
        for layers, width in ((20, 2048), (32, 1536), (24, 2048))
    ]
    found = in_order([Found(one, ()) for one in of])
    assert [one.config for one in found] == [of[2], of[1], of[0]]


@pytest.mark.parametrize("teacher", [LUCIE, SMOLLM_135M])
@pytest.mark.parametrize("tied", [True, False])
def test_all_that_is_found_can_be_cut(teacher: LlamaConfig, tied: bool) -> None:
    found = list(slices(teacher, tied))
    assert len(found) > 15
    for one in found:
        assert is_slice(teacher, one) is None
        assert one.tie_word_embeddings is tied
        assert one.num_hidden_layers >= teacher.num_hidden_layers / 2
        assert one.num_attention_heads % one.num_key_value_heads == 0


def test_rows_fill_the_blocks_of_k_quants() -> None:
    for one in slices(LUCIE, tied=True):
        assert one.hidden_size % 256 == one.intermediate_size % 256 == 0


@pytest.mark.parametrize("target", ["1b", "350m", "3b", "pi4@3", "zero2w@5"])
def test_steps_keep_half_and_are_nested(target: str) -> None:
    for student in plan(target).students:
        before = LUCIE
        for step in student.steps:
            assert is_slice(before, step.config) is None
            assert step.kept == step.config.parameters / before.parameters
            assert step.kept >= 0.5
            before = step.config
        assert student.found.fault or before == student.config


def test_a_seventh_takes_three_steps() -> None:
    """6.7 to 1.1 billion: log2(6.1) = 2.6 halvings."""
    [student] = [one for one in plan("1.1b").students if "nearest" in one.found.why]
    assert len(student.steps) == 3
    sizes = [step.config.parameters / 1e9 for step in student.steps]
    assert sizes == pytest.approx([3.67, 2.01, 1.10], rel=0.1)  # equal ratios


def test_hours_are_those_of_a_calculation_by_hand() -> None:
    """100 B tokens: 1,400 H100 hours, two thirds the teacher's, as 6·N·D + 2·N·D at 40 %."""
    [student] = [one for one in plan("1.1b").students if "nearest" in one.found.why]
    last = student.steps[-1]
    assert last.tokens == 100_000_000_000
    assert last.h100_hours == pytest.approx(1400, rel=0.01)
    share = last.teacher_flops / (last.teacher_flops + last.student_flops)
    assert share == pytest.approx(2 / 3, abs=0.01)
    assert last.student_flops == pytest.approx(6 * 1.097943040e9 * 1e11)


def test_a_small_cut_is_one_step() -> None:
    student = next(one for one in slices(LUCIE, tied=True) if one.parameters > 4e9)
    [step] = schedule(LUCIE, student)
    assert step.config == student


def test_the_cache_of_a_large_vocabulary_takes_a_byte_more_a_sample() -> None:
    assert cache_bytes_per_token(LUCIE) == 1 + 12 * 3
    assert cache_bytes_per_token(LUCIE.model_copy(update={"vocab_size": 128_256})) == 1 + 12 * 4


def test_a_board_gets_the_largest_that_is_fast_enough_and_fits() -> None:
    made = plan("pi5 at 12 tokens/s with 2k context in 2 GB")
    assert isinstance(made.target, OnBoard)
    board = boards()["pi5"]
    largest = max(one.config.parameters for one in made.students if not one.found.fault)
    for one in slices(LUCIE, tied=True):
        fast = predict(one, "Q4_K_M", board, 2048).decode >= 12
        small = memory_bytes(one, "Q4_K_M", 2048, board.device(2)) <= budget(board.device(2))
        assert not (fast and small and one.parameters > largest)
    for student in made.students:
        assert predict(student.config, "Q4_K_M", board, 2048).decode >= 12
        assert student.config.parameters >= 0.8 * largest


def test_less_memory_and_more_context_make_smaller_students() -> None:
    def largest(target: str, **more: object) -> int:
        return max(one.config.parameters for one in plan(target, **more).students)

    usual = largest("pi5@6")
    assert largest("pi5@6 in 1 GB") < usual
    assert largest("pi5@6", context=16_000) < usual
    assert largest("pi5@6", quantization="Q8_0") < usual


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("6.6b", "plan.no-such-size"),
        ("20m", "plan.no-such-size"),
        ("pi4@400", "plan.too-fast"),
        ("pi5@1 in 100 MB", "plan.no-memory"),
    ],
)
def test_what_cannot_be_had_is_said(target: str, code: str) -> None:
    with pytest.raises(DistillError) as caught:
        plan(target)
    assert caught.value.code == code
    assert str(caught.value)


def test_a_context_beyond_the_teachers_is_refused() -> None:
    with pytest.raises(DistillUsageError, match="32,000 tokens at most"):
        plan("1b", context=32_001)


def test_a_teacher_that_cannot_be_cut() -> None:
    tiny = LUCIE.model_copy(
        update={
            "num_hidden_layers": 1,
            "hidden_size": 2,
            "intermediate_size": 2,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
        }
    )
    with pytest.raises(DistillError, match="too small to be cut"):
        plan("1b", tiny)


def test_tables_are_kept_apart_where_asked() -> None:
    tied, apart = plan("1b"), plan("1b", tied=False)
    assert all(one.config.tie_word_embeddings for one in tied.students)
    assert not any(one.config.tie_word_embeddings for one in apart.students)
