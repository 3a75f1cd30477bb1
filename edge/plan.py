"""How to load a model on this device: threads, context, KV cache, repacking, and why each.

Nothing is measured here; the rules come from measurements that are named where they stand.
Whatever the user chooses wins, and the rest follows from it. What would be killed for want
of memory is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from edge.device import Device, Remark
from edge.engine import LoadOptions
from edge.errors import UsageError
from edge.gguf_types import GGUFHeader
from edge.header import Header
from edge.memory import MemoryEstimate, estimate, require

__all__ = ["Chosen", "Plan", "budget", "plan"]

_WINDOWS = (8192, 4096, 2048, 1024, 512)
"""Context sizes to choose from. A longer one than the first is a wait of minutes to fill on a
board, and the user's own to choose."""
_AMPLE = 4
"""A window above 4,096 may take this part of the memory with its KV cache; repacked weights
with all else may take twice that part."""
_MODEST = 4096
_RESERVE = (64 << 20, 512 << 20)
"""Least and most to leave to the terminal (90 MiB) and to others; between, a tenth."""
_SWAP = 4
"""Part of what is left beside the engine that resting conversations may take, at most as much
as two KV caches; less than the least holds no conversation."""
_LEAST_SWAP = 16 << 20
_SMALL_BOARD = 800_000_000
"""Below it, as on a Pi Zero 2 W (512 MB), two conversations at once are what fits."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the user has chosen of `LoadOptions`; None: to be decided here."""

    n_ctx: int | None = None
    n_seq: int | None = None
    n_batch: int | None = None
    threads: int | None = None
    threads_batch: int | None = None
    kv_type: str | None = None
    repack: bool | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load a model, and why so."""

    options: LoadOptions
    needed: MemoryEstimate
    available: int
    """Bytes that the engine's process may take."""
    reasons: dict[str, Remark]
    """For each field of `options`, why it has its value."""

    @property
    def swap(self) -> int:
        """Bytes of RAM beside the engine's for conversations that wait for their next turn."""
        left = self.available - self.needed.total - self.needed.schemas
        given = min(2 * self.needed.kv, left // _SWAP)
        return given if given >= _LEAST_SWAP else 0


def plan(header: Header, device: Device, chosen: Chosen | None = None) -> Plan:
    """How to load the model of `header` on `device`.

    Raises:
        UsageError: `chosen` asks for what the model cannot do.
        MemoryRefusedError: it does not fit, or not as chosen; the text names what would.
    """
    chosen = chosen or Chosen()
    given = {name: value for name, value in asdict(chosen).items() if value is not None}
    _check(header, device, chosen)
    available = budget(device)
    options, reasons = _for_device(device)
    if header.format == "ONNX":
        options = _for_graph(options, chosen, reasons)
    options = replace(options, **given)
    options = _window(header, device, chosen, options, reasons)
    if chosen.n_batch is None:
        options = replace(options, n_batch=min(options.n_batch, options.n_ctx))
    elif options.n_batch > options.n_ctx:
        raise UsageError("plan.batch-too-long", n_batch=options.n_batch, n_ctx=options.n_ctx)
    if options.n_batch < options.n_seq:  # each answer takes its next token from every step
        raise UsageError("plan.batch-too-short", n_batch=options.n_batch, n_seq=options.n_seq)
    if chosen.repack is None and header.format == "GGUF":
        options = _repack(header, device, options, reasons)
    needed = estimate(header, options, device.cpu.flags)
    require(needed, available, header, options, device.cpu.flags)
    return Plan(
        options, needed, available, reasons | dict.fromkeys(given, Remark("plan.given", {}))
    )


def budget(device: Device) -> int:
    """Bytes that an engine may take: what is available, less a reserve for everything else."""
    least, most = _RESERVE
    reserve = min(max(device.memory.total // 10, least), most)
    return max(0, device.memory.available - reserve)


def _check(header: Header, device: Device, chosen: Chosen) -> None:
    if chosen.n_ctx is not None and chosen.n_ctx > header.n_ctx_train:
        raise UsageError("plan.context-too-long", n_ctx=chosen.n_ctx, most=header.n_ctx_train)
    for threads in (chosen.threads, chosen.threads_batch):
        if threads is not None and threads > device.cpu.online:
            raise UsageError("plan.too-many-threads", threads=threads, most=device.cpu.online)
    if chosen.repack and header.format == "ONNX":
        raise UsageError("plan.no-repack")
    if chosen.kv_type not in (None, *_kv_types(header)):
        if header.format == "ONNX":
            raise UsageError("plan.no-kv-graph", kv_type=header.kv_type)
        if chosen.kv_type == "q8_0":
            raise UsageError("plan.no-q8", head=header.head_dim_k)


def _kv_types(header: Header) -> tuple[str, ...]:
    """In what keys and values can be stored, the most exact first."""
    if header.format == "ONNX":
        return (header.kv_type,)
    return ("f16", "q8_0") if _quantizable(header) else ("f16",)


def _quantizable(header: GGUFHeader) -> bool:
    """Whether keys and values can be stored in blocks of 32 (q8_0)."""
    return header.head_dim_k % 32 == 0 and header.head_dim_v % 32 == 0


def _for_device(device: Device) -> tuple[LoadOptions, dict[str, Remark]]:
    """All that does not depend on the model; its context is still to be chosen."""
    decode, why_decode = _decode_threads(device)
    cores = device.cpu.cores
    fast = bool({"avx2", "asimddp"} & device.cpu.flags)
    small = device.memory.total < _SMALL_BOARD
    options = LoadOptions(
        n_ctx=0,
        n_seq=2 if small else 4,
        # Each chunk is a step that others wait for, and after which progress is told.
        n_batch=256 if fast else 128,
        threads=decode,
        threads_batch=cores,
    )
    return options, {
        "threads": why_decode,
        "threads_batch": Remark("plan.prefill-all", {"cores": cores}),
        "n_seq": Remark("plan.seq-small" if small else "plan.seq", {}),
        "n_batch": Remark("plan.batch-fast" if fast else "plan.batch-slow", {}),
    }


def _for_graph(options: LoadOptions, chosen: Chosen, reasons: dict[str, Remark]) -> LoadOptions:
    """What ONNX Runtime decides: it has one pool of threads, and rearranges what it can."""
    given = {n for n in (chosen.threads, chosen.threads_batch) if n is not None}
    if len(given) > 1:
        raise UsageError("plan.one-pool")
    threads = given.pop() if given else options.threads_batch
    reasons["threads"] = reasons["threads_batch"]
    reasons["repack"] = Remark("plan.repack-graph", {})
    return replace(options, threads=threads, threads_batch=threads)


def _decode_threads(device: Device) -> tuple[int, Remark]:
    """Decode reads all weights once a token, so it stops gaining where memory is saturated."""
    cores = device.cpu.cores
    if device.board.startswith(("Raspberry Pi 5", "Raspberry Pi Compute Module 5")):
        # Qwen2.5-0.5B Q4_0: 33.8 tok/s on 2 threads, 27.3 on 4; memory is saturated by one core
        # (Arm Learning Paths, "llm-decode-roofline"; llama.cpp discussion 30069).
        return min(2, cores), Remark("plan.decode-pi5", {})
    if "asimddp" not in device.cpu.flags and device.cpu.arch in ("aarch64", "armv7l"):
        # Without dot products, computing is slower than memory; one core stays for the screen.
        return max(1, cores - 1), Remark("plan.decode-slow-cpu", {"cores": cores})
    if cores <= 4:
        return cores, Remark("plan.decode-all", {"cores": cores})
    return min(8, max(4, cores // 2)), Remark("plan.decode-half", {"cores": cores})


def _window(
    header: Header,
    device: Device,
    chosen: Chosen,
    options: LoadOptions,
    reasons: dict[str, Remark],
) -> LoadOptions:
    """The longest context that fits with room to spare; where none does, the shortest."""
    available = budget(device)
    for n_ctx, kv_type in _choices(header, chosen):
        choice = replace(options, n_ctx=n_ctx, kv_type=kv_type)
        needed = estimate(header, choice, device.cpu.flags)
        modest = n_ctx <= _MODEST or chosen.n_ctx is not None
        ample = modest or needed.kv <= available // _AMPLE
        if needed.total <= available and ample:
            break
    facts = {"train": header.n_ctx_train, "kv": _megabytes(needed.kv)}
    if choice.n_ctx == header.n_ctx_train:
        why = "plan.context-train"
    else:
        why = "plan.context-most" if choice.n_ctx == _WINDOWS[0] else "plan.context-memory"
    reasons["n_ctx"] = Remark(why, facts)
    by_type = "plan.kv-f16" if choice.kv_type == "f16" else "plan.kv-q8"
    reasons["kv_type"] = Remark("plan.kv-graph" if header.format == "ONNX" else by_type, facts)
    return choice


def _choices(header: Header, chosen: Chosen) -> Iterator[tuple[int, str]]:
    """Context and KV type, the best first: a context of 4,096 is worth more than f16."""
    windows = [n for n in _WINDOWS if n <= header.n_ctx_train] or [header.n_ctx_train]
    if header.n_ctx_train < _WINDOWS[0] and header.n_ctx_train not in windows:
        windows.insert(0, header.n_ctx_train)
    if chosen.n_ctx is not None:
        windows = [chosen.n_ctx]
    types = _kv_types(header)
    if chosen.kv_type is not None:
        types = (chosen.kv_type,)
    for n_ctx in windows:
        for kv_type in types:
            # A context that is long already is rather shortened than made less exact.
            if kv_type == types[0] or n_ctx <= _MODEST or chosen.n_ctx is not None:
                yield n_ctx, kv_type


def _repack(
    header: GGUFHeader, device: Device, options: LoadOptions, reasons: dict[str, Remark]
) -> LoadOptions:
    """Whether to rearrange weights for the processor.

    Prefill gains 1.4 to 2.6 times (llama.cpp pull requests 19356 and 19360, on a Pi 5), but
    the memory of weights nearly doubles, and the copy is no longer the file's, which could be
    dropped and read again.
    """
    repacked = replace(options, repack=True)
    needed = estimate(header, repacked, device.cpu.flags)
    facts = {"more": _megabytes(needed.repacked), "type": header.file_type}
    if not needed.repacked:
        why, choice = "plan.repack-no-kernel", options
    elif needed.total > budget(device) * 2 // _AMPLE:
        why, choice = "plan.repack-no-memory", options
    else:
        why, choice = "plan.repack", repacked
    reasons["repack"] = Remark(why, facts)
    return choice


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)
