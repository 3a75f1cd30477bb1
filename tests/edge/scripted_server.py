"""A server process over an engine that follows a script, for what a real one does too rarely.

    python -m tests.edge.scripted_server SOCKET [--setting value …]

The engine writes the alphabet over and over, one letter a step of `--step-ms`.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.chat import Chat
from edge.engine import AbortedError, Chunk, Constraint, EngineSpec, Sampled, Sampling
from edge.errors import MemoryRefusedError
from edge.scheduler import Scheduler
from edge.server import body, mailbox, protocol, service
from edge.server.listen import listen_tcp, listen_unix
from edge.server.process import Life, serve
from edge.server.service import Loaded
from edge.text import StreamDecoder

_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


class Letters:
    """A tokenizer whose tokens are bytes; 256 ends an answer."""

    n_vocab = 257
    eog = frozenset({256})
    special_texts = ()
    bos_text = ""
    eos_text = ""
    template = _TEMPLATE

    def encode(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def stream(self) -> StreamDecoder:
        return StreamDecoder(self)


class Alphabet:
    seed = 7

    def __init__(self, logprobs: bool) -> None:
        self._next = 0
        self._logprobs = logprobs

    def sample(self, row: int) -> Sampled:
        token = ord("a") + self._next % 26
        self._next += 1
        return Sampled(token, -0.5, ((token, -0.5),)) if self._logprobs else Sampled(token)

    def close(self) -> None:
        pass


class ScriptedEngine:
    """Implements `edge.engine.Engine` without a model."""

    def __init__(self, step_s: float, n_ctx: int) -> None:
        self.spec = EngineSpec(
            engine="script",
            n_ctx=n_ctx,
            n_ctx_train=n_ctx,
            n_parallel=4,
            n_seq=8,
            n_batch=64,
            n_vocab=257,
            kv_type="f16",
            n_params=1000,
            forks_share=True,
        )
        self.tokenizer = Letters()
        self._interrupted = threading.Event()
        self._step_s = step_s
        self._lengths: dict[int, int] = {}

    def open(self) -> int:
        seq = next(n for n in range(self.spec.n_seq) if n not in self._lengths)
        self._lengths[seq] = 0
        return seq

    def close_seq(self, seq: int) -> None:
        del self._lengths[seq]

    def fork(self, seq: int, n: int) -> int:
        target = self.open()
        self._lengths[target] = n
        return target

    def trim(self, seq: int, n: int) -> int:
        self._lengths[seq] = min(n, self._lengths[seq])
        return self._lengths[seq]

    def length(self, seq: int) -> int:
        return self._lengths[seq]

    def free_cells(self) -> int:
        return self.spec.n_ctx - sum(self._lengths.values())

    def step(self, chunks: Sequence[Chunk], *, steady: bool = False) -> list[int]:
        self._interrupted.clear()
        if self._interrupted.wait(self._step_s):
            raise AbortedError
        for chunk in chunks:
            self._lengths[chunk.seq] += len(chunk.ids)
        return [0 if chunk.sample else -1 for chunk in chunks]

    def interrupt(self) -> None:
        self._interrupted.set()

    def sampler(
        self, sampling: Sampling, prompt: Sequence[int], constraint: Constraint | None = None
    ) -> Alphabet:
        return Alphabet(sampling.top_logprobs is not None)

    def state_size(self, seq: int) -> int:
        return 0

    def save(self, seq: int, buffer: memoryview) -> None:
        pass

    def load(self, seq: int, buffer: memoryview, n: int) -> None:
        pass

    def close(self) -> None:
        pass


class Silent:
    def loading(self, fraction: float) -> None:
        pass

    def ready(self, address: str, model: str) -> None:
        print(address, model, flush=True)  # noqa: T201 - tests wait for it


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--step-ms", type=float, default=1)
    parser.add_argument("--n-ctx", type=int, default=4096)
    parser.add_argument("--load-s", type=float, default=0)
    parser.add_argument("--load-until", type=Path, help="this file is there")
    parser.add_argument("--refuse", action="store_true")
    parser.add_argument("--life", type=float, nargs=2)
    parser.add_argument("--silence", type=float, default=mailbox.SILENCE)
    parser.add_argument("--max-unread", type=int, default=mailbox.MAX_UNREAD)
    parser.add_argument("--max-answers", type=int, default=service.MAX_ANSWERS)
    parser.add_argument("--patience", type=float, default=body.PATIENCE_S)
    parser.add_argument("--max-connections", type=int, default=service.MAX_CONNECTIONS)
    given = parser.parse_args()
    body.PATIENCE_S = protocol.PATIENCE_S = given.patience
    service.MAX_CONNECTIONS = given.max_connections
    mailbox.SILENCE = given.silence
    mailbox.MAX_UNREAD = given.max_unread
    service.MAX_ANSWERS = given.max_answers

    def load(tell: Callable[[float], None]) -> Loaded:
        for step in range(10):
            tell(step / 10)
            time.sleep(given.load_s / 10)
        while given.load_until and not given.load_until.exists():
            time.sleep(0.01)
        if given.refuse:
            raise MemoryRefusedError(
                "memory.too-large",
                **dict.fromkeys(
                    ("weights", "repacked", "kv", "compute", "process", "total", "least"), 9
                ),
                model="m",
                available=1,
            )
        engine = ScriptedEngine(given.step_ms / 1000, given.n_ctx)
        scheduler = Scheduler(engine, 4)
        return Loaded("letters", engine, scheduler, Chat(engine.tokenizer, _TEMPLATE), 1)

    listener = listen_tcp("127.0.0.1", 0) if given.tcp else listen_unix(given.socket)
    serve(listener, load, Silent(), Life(*given.life) if given.life else None)


if __name__ == "__main__":
    main()
