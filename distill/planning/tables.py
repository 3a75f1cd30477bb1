"""A plan for people: tables that also read as Markdown, and the rules behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from distill.planning.boards import HERE, Board
from distill.planning.plan import Plan, Student
from distill.planning.schedule import CACHES, cache_bytes_per_token
from distill.planning.speed import predict
from distill.planning.storage import (
    QUANTIZATIONS,
    bytes_per_token,
    file_bytes,
    kv_bytes_per_token,
    memory_bytes,
)
from distill.planning.target import Parameters
from distill.slices import kept
from distill.words import say
from edge.llama_config import LlamaConfig
from edge.markdown_table import markdown_table
from edge.quantity import count_text, decimal_text, power_text
from edge.text import in_lines, one_line

__all__ = ["megabytes", "shape_text", "show"]

_NOTHING = "—"
_NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(slots=True)
class _Room:
    """Makes tables no wider than a terminal, and says once what it had no room for."""

    width: int | None
    """Characters of a line; None: as wide as they are."""
    _without: dict[str, None] = field(default_factory=dict)
    """Titles of columns that were left out of some table, in order."""

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        verbatim: Sequence[str] = (),
        *,
        spare: Sequence[str],
    ) -> str:
        """Headings are entries of `plan.toml`, `column-…`; those of `verbatim` follow as they are.

        Columns of `spare` go, the first of them first, until there is room.
        """
        names = [*headings, *verbatim]
        titles = [say(f"plan.column-{each}") if each else "" for each in headings] + [*verbatim]
        gone: set[str] = set()
        for going in (None, *spare):
            gone |= {going} if going else set()
            shown = [n for n, name in enumerate(names) if name not in gone]
            left = {at for at, n in enumerate(shown) if names[n] in ("", "shape", "why", "type")}
            cells = [[row[n] for n in shown] for row in rows]
            told = markdown_table([titles[n] for n in shown], cells, frozenset(left))
            if self.width is None or max(map(len, told.splitlines())) <= self.width:
                break
        missing = (title for name, title in zip(names, titles, strict=True) if name in gone)
        self._without |= {title.replace(" ", _NO_BREAK): None for title in missing}
        return told

    def told(self) -> Iterator[str]:
        """What had no room, if there is anything."""
        if self._without:
            yield say("plan.left-out", columns=" · ".join(self._without))


def show(plan: Plan, width: int | None = None) -> str:
    """The whole plan.

    Args:
        plan: what was found.
        width: characters of a line, for which columns are left out; None: all of them.
    """
    room = _Room(width)
    parts = [
        _teacher(plan), *_target(plan), _shapes(plan, room), _removed(plan, room),
        _sizes(plan, room), _steps(plan, room), _cache(plan), _rules(plan), *room.told(),
    ]  # fmt: skip
    told = "\n\n".join(parts)
    if width is None:
        return told
    lines = told.splitlines()
    return "\n".join(line if line.startswith("|") else in_lines(line, width) for line in lines)


def shape_text(config: LlamaConfig) -> str:
    """`20 × 2048, 6144, 16/4 × 128`: layers × width, FFN, query/key heads × head size."""
    heads = f"{config.num_attention_heads}/{config.num_key_value_heads} × {config.head_dim}"
    layers = f"{config.num_hidden_layers} × {config.hidden_size}"
    return f"{layers}, {config.intermediate_size}, {heads}"


def _teacher(plan: Plan) -> str:
    return say(
        "plan.teacher",
        name=one_line(plan.name),
        parameters=count_text(plan.teacher.parameters),
        shape=shape_text(plan.teacher),
        vocabulary=count_text(plan.teacher.vocab_size),
    )


def _target(plan: Plan) -> Iterator[str]:
    """What a number of parameters was taken to mean: "1b" covers many; and why nothing is so."""
    if isinstance(plan.target, Parameters):
        span = {name: count_text(getattr(plan.target, name)) for name in ("least", "most", "aim")}
        yield say("plan.target-named" if plan.target.named else "plan.target", **span)
    if plan.lack:
        yield str(plan.lack)


def _shapes(plan: Plan, room: _Room) -> str:
    rows = [
        [
            student.letter,
            shape_text(student.config),
            count_text(student.config.parameters),
            decimal_text(kv_bytes_per_token(student.config) / 1024, 0),
            ", ".join(say(f"plan.{why}") for why in student.found.why)
            or say("plan.published", title=student.found.title),
        ]
        for student in plan.students
    ]
    faults = [
        say("plan.not-a-slice", letter=student.letter, reason=str(student.found.fault))
        for student in plan.students
        if student.found.fault
    ]
    headings = ("", "shape", "parameters", "kv", "why")
    told = room.table(headings, rows, spare=("why", "kv", "parameters"))
    return "\n\n".join([told, *faults])


def _removed(plan: Plan, room: _Room) -> str:
    rows = [
        [one.letter, *(_percent(1 - part) for part in kept(plan.teacher, one.config).values())]
        for one in plan.students
        if not one.found.fault
    ]
    headings = ("", "layers", "width", "ffn", "heads", "kv-heads", "parameters")
    spare = ("kv-heads", "heads", "width", "layers")
    return say("plan.removed") + "\n\n" + room.table(headings, rows, spare=spare)


def _sizes(plan: Plan, room: _Room) -> str:
    """Each student in each quantization; as many boards as there is room for."""
    others = [board for board in plan.boards if board != plan.board]
    shown = [plan.board, *sorted(others, key=lambda board: board.name != HERE)]
    rows = []
    for student in plan.students:
        for kind in QUANTIZATIONS:
            device = plan.board.device(max(plan.board.memory_gb))
            memory = memory_bytes(student.config, kind, plan.context, device)
            rows.append(
                [
                    student.letter,
                    kind,
                    megabytes(file_bytes(student.config, kind)),
                    megabytes(bytes_per_token(student.config, kind)),
                    megabytes(memory),
                    *(_rates(plan, student, kind, board) for board in shown),
                ]
            )
    headings = ("", "type", "file", "read", "memory")
    boards = [one_line(board.title) for board in shown]
    spare = (*reversed(boards[1:]), "memory", "read", "file")
    told = room.table(headings, rows, boards, spare=spare)
    return say("plan.sizes", context=count_text(plan.context)) + "\n\n" + told


def _rates(plan: Plan, student: Student, kind: str, board: Board) -> str:
    """`12.3 / 90`: decode and prefill; a prefill that no figure of that type stands behind: ~."""
    speed = predict(student.config, kind, board, plan.context)
    prefill = _NOTHING
    if speed.prefill is not None:
        rounded = decimal_text(speed.prefill, 0 if speed.prefill >= 10 else 1)
        prefill = rounded if speed.prefill_measured else f"~{rounded}"
    return f"{decimal_text(speed.decode, 1)} / {prefill}"


def _steps(plan: Plan, room: _Room) -> str:
    rows = []
    for student in plan.students:
        for n, step in enumerate(student.steps, 1):
            rows.append([
                student.letter,
                str(n),
                shape_text(step.config),
                decimal_text(step.config.parameters / 1e9, 3),
                _percent(step.kept),
                decimal_text(step.tokens / 1e9, 0),
                power_text(step.student_flops),
                power_text(step.teacher_flops),
                decimal_text(step.h100_hours, 0),
            ])  # fmt: skip
    headings = ("", "step", "shape", "billions", "kept", "tokens", "student-flops",
                "teacher-flops", "h100")  # fmt: skip
    spare = ("student-flops", "teacher-flops", "kept", "tokens", "billions", "shape")
    return say("plan.steps") + "\n\n" + room.table(headings, rows, spare=spare)


def _cache(plan: Plan) -> str:
    tokens = max((step.tokens for one in plan.students for step in one.steps), default=0)
    sampled = cache_bytes_per_token(plan.teacher)
    return say(
        "plan.cache",
        tokens=decimal_text(tokens / 1e9, 0),
        sampled=sampled,
        sampled_tb=decimal_text(sampled * tokens / 1e12, 1),
        top_128=CACHES["distillkit_top_128"],
        top_128_tb=decimal_text(CACHES["distillkit_top_128"] * tokens / 1e12, 1),
        top_50=CACHES["distillkit_top_50"],
        top_50_tb=decimal_text(CACHES["distillkit_top_50"] * tokens / 1e12, 1),
    )


def _rules(plan: Plan) -> str:
    return "\n".join(_rule_lines(plan))


def _rule_lines(plan: Plan) -> Iterator[str]:
    yield say("plan.order")
    if plan.tied and not plan.teacher.tie_word_embeddings:
        yield say("plan.tie")
    if any(one.config.hidden_size % 256 or one.config.intermediate_size % 256
           for one in plan.students):  # fmt: skip
        yield say("plan.falls-back")
    for board in plan.boards:
        yield say(
            "plan.source",
            board=one_line(board.title),
            bandwidth=decimal_text(board.bandwidth_gb_per_s, 2),
            source=say(f"boards.{board.name}"),
        )


def _percent(part: float) -> str:
    return decimal_text(100 * part, 0)


def megabytes(size: int) -> str:
    """Without decimals, where they tell nothing."""
    return decimal_text(size / 1e6, 0 if size >= 10_000_000 else 2)
