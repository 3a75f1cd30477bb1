from __future__ import annotations

import itertools
import queue
import time
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.engine import Sampled, Sampling
from edge.errors import ContextFullError, EngineError, UsageError
from edge.kvstore import KVStore
from edge.llamacpp import LlamaEngine
from edge.prefixes import common_prefix
from edge.request import Event, Failed, Prefilled, Queued, Request, Token
from edge.scheduler import _MOST_OVERTAKEN, Scheduler
from edge.ticket import Ticket
from tests.edge.engines import CLEAR, SMOL, ask, chatml, scheduling

SYSTEM = (
    "You are a patient teacher who answers the questions of pupils between ten and fourteen "
    "years old, in short sentences, and who says so when you do not know something."
)
# Every end token of SmolLM2 is forbidden.
ENDLESS = Sampling(temperature=0, logit_bias={0: -99.0, 2: -99.0, 4: -99.0})
QUESTIONS = [
    "What is the capital of France?",
    "Tell me a story about a cat.",
    "Count from one to ten.",
    "What is photosynthesis?",
]


@pytest.fixture(scope="module")
def shared(model_path: Path) -> Iterator[tuple[Scheduler, LlamaEngine]]:
    with scheduling(model_path, n_ctx=2048) as both:
        yield both


def wait_until_idle(scheduler: Scheduler) -> None:
    deadline = time.monotonic() + 60
    while scheduler.load().active or scheduler.load().waiting:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def prompts(engine: LlamaEngine) -> list[list[int]]:
    return [engine.tokenizer.encode(chatml(q, SYSTEM), special=True) for q in QUESTIONS]


def test_four_together_equal_each_alone(shared: tuple[Scheduler, LlamaEngine]) -> None:
    scheduler, engine = shared
    asked = [engine.tokenizer.encode(chatml(q, SMOL), special=True) for q in CLEAR]
    alone = [ask(scheduler, prompt, 12).answer().tokens for prompt in asked]
    together = [ask(scheduler, prompt, 12) for prompt in asked]
    assert [one.answer().tokens for one in together] == alone


def test_a_conversation_is_never_evaluated_twice(shared: tuple[Scheduler, LlamaEngine]) -> None:
    scheduler, engine = shared
    tokenizer = engine.tokenizer
    first = tokenizer.encode(chatml("What do bees make?", "Answer in one sentence."), special=True)
    answer = ask(scheduler, first, 24).answer()
    turn = "<|im_end|>\n<|im_start|>user\nAnd cows?<|im_end|>\n<|im_start|>assistant\n"
    second = first + answer.tokens + tokenizer.encode(turn, special=True)
    timings = ask(scheduler, second, 4).answer().finished.timings
    # All but the last token of the first answer was evaluated then.
    assert timings.cache_n >= len(first) + len(answer.tokens) - 1
    assert timings.prompt_n == len(second) - timings.cache_n


def test_a_system_prompt_is_shared_with_other_conversations(
    shared: tuple[Scheduler, LlamaEngine],
) -> None:
    scheduler, engine = shared
    system = SYSTEM + " You speak of the sea only."
    one, two = (
        engine.tokenizer.encode(chatml(question, system), special=True)
        for question in ("Why is it salty?", "How deep does it get?")
    )
    pinned = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    ask(scheduler, one, 8, pinned=pinned).answer()
    assert ask(scheduler, two, 8, pinned=pinned).answer().finished.timings.cache_n == pinned
    again = ask(scheduler, one, 8, pinned=pinned).answer().finished.timings
    assert again.cache_n == len(one) - 1, "the first conversation was kept when the second came"


def test_progress_counts_up_to_the_whole_prompt(shared: tuple[Scheduler, LlamaEngine]) -> None:
    scheduler, engine = shared
    prompt = engine.tokenizer.encode("salt and pepper " * 150, special=False)
    told = ask(scheduler, prompt, 1).answer().prefilled
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert (told[-1].done, told[-1].total) == (len(prompt), len(prompt))
    steps = [b.done - a.done for a, b in itertools.pairwise(told)]
    assert max(steps) <= engine.spec.n_batch


@pytest.mark.parametrize(("step_s", "pieces"), [(60.0, 10), (0.0, 40)])
def test_a_long_prefill_does_not_stop_the_others(
    shared: tuple[Scheduler, LlamaEngine],
    monkeypatch: pytest.MonkeyPatch,
    step_s: float,
    pieces: int,
) -> None:
    """On a board where a step takes long, prompts are read in smaller pieces."""
    monkeypatch.setattr("edge.batching._SHARED_STEP_S", step_s)
    scheduler, engine = shared
    events: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()

    def submit(name: str, text: str, max_tokens: int) -> Ticket:
        prompt = engine.tokenizer.encode(text, special=False)
        request = Request(prompt, max_tokens, ENDLESS)
        return scheduler.submit(request, lambda event: events.put((name, event)))

    def until(name: str, kind: type[Event]) -> list[str]:
        seen = []
        while True:
            who, event = events.get(timeout=120)
            seen.append(who)
            if who == name and isinstance(event, kind):
                return seen

    streaming = submit("stream", "Once upon", 1000)
    until("stream", Token)
    submit("read", f"{pieces} " + "a b c d e f g h " * 40, 1)
    until("read", Prefilled)
    seen = until("read", Token)
    scheduler.cancel(streaming)
    # While the prompt was read, the other's answer went on: a token for each piece read.
    assert seen.count("read") >= pieces
    assert seen.count("stream") >= seen.count("read") - 2


def test_a_question_does_not_wait_for_a_long_text(
    shared: tuple[Scheduler, LlamaEngine],
) -> None:
    scheduler, engine = shared
    long = [ask(scheduler, range(n, n + 850), 1) for n in (1000, 3000)]
    while long[0].ticket.evaluated == 0:
        long[0].next()
    short = ask(scheduler, engine.tokenizer.encode("Hello number 7, how", special=False), 1)
    assert len(short.answer().tokens) == 1
    evaluated = [one.ticket.evaluated for one in long]
    assert all(0 < n < 850 for n in evaluated), f"each has its share: {evaluated}"
    for one in long:
        one.answer()


def test_who_waits_for_many_cells_lets_others_pass_but_not_for_ever(model_path: Path) -> None:
    with scheduling(model_path, n_ctx=512, threads=1, threads_batch=1) as (scheduler, _):
        streaming = ask(scheduler, range(1000, 1100), 400, sampling=ENDLESS)
        while not isinstance(streaming.next(), Token):
            pass
        long = ask(scheduler, range(3000, 3400), 1)
        for n in range(_MOST_OVERTAKEN):
            ask(scheduler, range(5000 + 10 * n, 5005 + 10 * n), 1).answer()
        assert long.next() == Queued(0)
        assert long.events.empty()
        last = ask(scheduler, range(6000, 6005), 1)
        assert last.next() == Queued(1)
        scheduler.cancel(streaming.ticket)
        assert len(long.answer().tokens) == len(last.answer().tokens) == 1
        assert long.ticket.started < last.ticket.started


def test_cancel_frees_at_once(shared: tuple[Scheduler, LlamaEngine]) -> None:
    scheduler, engine = shared
    asked = ask(scheduler, engine.tokenizer.encode("Once upon a time", special=False), 500)
    while not isinstance(asked.next(), Token):
        pass
    scheduler.cancel(asked.ticket)
    wait_until_idle(scheduler)
    seen = asked.events.qsize()
    time.sleep(0.2)
    assert asked.events.qsize() == seen, "something came after the cancel"
    scheduler.cancel(asked.ticket)


def test_cancel_in_the_middle_of_a_prefill_step(shared: tuple[Scheduler, LlamaEngine]) -> None:
    scheduler, engine = shared
    prompt = engine.tokenizer.encode("x y z " * 300, special=False)
    asked = ask(scheduler, prompt, 5)
    first = asked.next()
    assert isinstance(first, Prefilled)
    scheduler.cancel(asked.ticket)
    wait_until_idle(scheduler)
    assert not any(isinstance(asked.events.get(), Token) for _ in range(asked.events.qsize()))


@pytest.mark.parametrize("swap_bytes", [0, 1 << 30])
def test_without_reuse_an_answer_is_the_same_to_the_last_bit(
    model_path: Path, swap_bytes: int
) -> None:
    with scheduling(model_path, swap_bytes=swap_bytes, n_ctx=2048) as (scheduler, engine):
        story = " ".join(f"On day {n} the river rose by {3 * n % 7} cm." for n in range(40))
        prompt = engine.tokenizer.encode(chatml(story), special=True)
        sampling = Sampling(temperature=1.5, seed=5, top_logprobs=3)

        def answer(**more: bool) -> list[Sampled]:
            return ask(scheduler, prompt, 40, sampling=sampling, **more).answer().sampled

        cold = answer(reuse=False)
        for other in prompts(engine):
            ask(scheduler, other, 8).answer()
        assert answer(), "leaves cells of the same prompt behind"
        assert answer(reuse=False) == cold


def test_refusals(shared: tuple[Scheduler, LlamaEngine]) -> None:
    scheduler, _ = shared
    with pytest.raises(UsageError, match="empty"):
        ask(scheduler, [])
    with pytest.raises(ContextFullError, match="3,000 tokens; the window holds 2,048"):
        ask(scheduler, [5] * 3000)


def test_the_window_ends_an_answer(model_path: Path) -> None:
    with scheduling(model_path, n_ctx=256) as (scheduler, engine):
        prompt = engine.tokenizer.encode("Once upon a time " * 40, special=False)[:200]
        answer = ask(scheduler, prompt, 500, sampling=ENDLESS).answer()
        assert answer.finished.reason == "length"
        assert len(prompt) + len(answer.tokens) == engine.spec.n_ctx + 1


def test_more_than_fits_takes_turns_and_all_end_well(model_path: Path) -> None:
    with scheduling(model_path, n_ctx=256) as (scheduler, engine):
        prompts = [engine.tokenizer.encode(f"{n} " + "la " * 70, special=False) for n in "abcd"]
        sampling = replace(ENDLESS, top_logprobs=2)
        alone = [ask(scheduler, prompt, 60, sampling=sampling).answer() for prompt in prompts]
        asked = [ask(scheduler, prompt, 60, sampling=sampling) for prompt in prompts]
        together = [one.answer() for one in asked]
    assert [a.finished.timings.predicted_n for a in together] == [60] * 4
    for one, other in zip(alone, together, strict=True):
        at = common_prefix(one.tokens, other.tokens)
        # Read in another batch shape, logits differ a little (see `engines.CLEAR`): what is
        # near a tie may fall the other way, and nothing else may.
        assert at == 60 or one.margins[at] < 0.5


def test_close_fails_what_is_running(model_path: Path) -> None:
    with scheduling(model_path) as (scheduler, engine):
        asked = ask(scheduler, engine.tokenizer.encode("Once upon a time", special=False), 800)
        while not isinstance(asked.next(), Token):
            pass
        scheduler.close()
        assert isinstance(asked.answer().end, Failed)
        with pytest.raises(EngineError, match="closing"):
            ask(scheduler, [5, 6])


def test_a_restart_continues_without_reading_again(model_path: Path, tmp_path: Path) -> None:
    def store() -> KVStore:
        return KVStore(tmp_path, "key", 1 << 30)

    with scheduling(model_path, store=store()) as (scheduler, engine):
        first = engine.tokenizer.encode(chatml(QUESTIONS[1], SYSTEM), special=True)
        other = engine.tokenizer.encode(chatml(QUESTIONS[3], SYSTEM), special=True)
        pinned = next(i for i, (a, b) in enumerate(zip(first, other, strict=False)) if a != b)
        answer = ask(scheduler, first, 40, pinned=pinned, sampling=ENDLESS).answer()
    known = first + answer.tokens
    more = [*known, *answer.tokens[:5]]
    with scheduling(model_path, store=store()) as (scheduler, engine):
        resumed = ask(scheduler, more, 16, pinned=pinned).answer()
        assert resumed.finished.timings.cache_n == len(known) - 1
    with scheduling(model_path, store=None) as (scheduler, engine):
        # Evaluated in the same pieces: in others, sums in another order might decide otherwise.
        assert ask(scheduler, first, 40, sampling=ENDLESS).answer().tokens == answer.tokens
        assert ask(scheduler, more, 16).answer().tokens == resumed.tokens
    assert store().covers(array("i", first[:pinned])), "the system prompt by itself"
    with scheduling(model_path, store=store()) as (scheduler, engine):
        assert ask(scheduler, other, 4, pinned=pinned).answer().finished.timings.cache_n == pinned


def test_a_client_that_goes_does_not_have_states_written(model_path: Path, tmp_path: Path) -> None:
    with scheduling(model_path, KVStore(tmp_path, "key", 1 << 30)) as (scheduler, engine):
        asked = ask(scheduler, prompts(engine)[0], 4)
        asked.answer()
        for _ in range(20):  # each wakes the engine's thread, which has nothing to do
            scheduler.cancel(asked.ticket)
            time.sleep(0.02)
        assert not list(tmp_path.glob("*/*.kv")), "a lively conversation spares the disk"
    assert list(tmp_path.glob("*/*.kv")), "closing writes"


def test_resting_conversations_leave_the_cells_and_come_back(model_path: Path) -> None:
    with scheduling(model_path) as (scheduler, engine):
        first, second, *_ = prompts(engine)
        known = first + ask(scheduler, first, 24, sampling=ENDLESS).answer().tokens
        told = Sampling(temperature=0, top_logprobs=1)
        expected = ask(scheduler, [*known, *known[-5:]], 16, sampling=told).answer().sampled
    with scheduling(model_path, swap_bytes=1 << 30) as (scheduler, engine):
        answer = ask(scheduler, first, 24, sampling=ENDLESS).answer()
        assert answer.tokens == known[len(first) :]
        ask(scheduler, second, 8, sampling=ENDLESS).answer()
        # Attention walks over the second alone: the last token chosen is never evaluated.
        assert engine.spec.n_ctx - engine.free_cells() == len(second) + 8 - 1
        assert scheduler.load().idle == 2
        again = ask(scheduler, [*known, *known[-5:]], 16, sampling=told).answer()
        assert again.finished.timings.cache_n == len(known) - 1
        assert again.sampled == expected, "to the last bit"


def test_a_system_prompt_is_taken_from_one_that_rests(model_path: Path) -> None:
    with scheduling(model_path, swap_bytes=1 << 30) as (scheduler, engine):
        first, second, third, _ = prompts(engine)
        pinned = common_prefix(first, third)
        ask(scheduler, first, 8, pinned=pinned).answer()
        ask(scheduler, [*second[pinned:], 7], 8).answer()
        assert ask(scheduler, third, 8, pinned=pinned).answer().finished.timings.cache_n == pinned
        # The first was only copied: it goes on from its own end.
        more = ask(scheduler, [*first, 7, 7], 1, pinned=pinned).answer()
        assert more.finished.timings.cache_n >= len(first)


def test_what_rests_longest_goes_to_disk_where_memory_is_full(
    model_path: Path, tmp_path: Path
) -> None:
    store = KVStore(tmp_path, "key", 1 << 30)
    conversations = [[n] * 50 for n in range(10, 18)]
    swap_bytes = int(2.5 * 53 * 30 * 2 * 192 * 2)  # layers, keys and values, 3 heads of 64, f16
    with scheduling(model_path, store, swap_bytes, n_seq=1) as (scheduler, _):
        for prompt in conversations:  # two have a number in the engine, two are beside it
            ask(scheduler, prompt, 4, sampling=ENDLESS).answer()
        assert scheduler.load().idle == 4
        assert len(list(tmp_path.glob("*/*.kv"))) == 4
        for prompt in conversations:
            assert ask(scheduler, prompt, 1).answer().finished.timings.cache_n == len(prompt) - 1
    reopened = KVStore(tmp_path, "key", 1 << 30)
    assert all(reopened.best(array("i", one))[1] == len(one) for one in conversations)


def test_a_damaged_state_is_read_again_and_removed(model_path: Path, tmp_path: Path) -> None:
    with scheduling(model_path, store=KVStore(tmp_path, "key", 1 << 30)) as (scheduler, engine):
        prompt = engine.tokenizer.encode(chatml(QUESTIONS[1], SYSTEM), special=True)
        expected = ask(scheduler, prompt, 16).answer().tokens
    for path in tmp_path.glob("*/*.kv"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    with scheduling(model_path, store=KVStore(tmp_path, "key", 1 << 30)) as (scheduler, _):
        answer = ask(scheduler, prompt, 16).answer()
        assert answer.finished.timings.cache_n == 0
        assert answer.tokens == expected
