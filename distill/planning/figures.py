"""A plan's figures for programs: every key names its unit."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from distill.planning.boards import Board
from distill.planning.plan import Plan, Student
from distill.planning.schedule import CACHES, Step, cache_bytes_per_token
from distill.planning.speed import predict
from distill.planning.storage import (
    QUANTIZATIONS,
    bytes_per_token,
    file_bytes,
    kv_bytes_per_token,
    memory_bytes,
)
from distill.planning.target import OnBoard
from distill.slices import DIMENSIONS, kept
from distill.words import say
from edge.llama_config import LlamaConfig

__all__ = ["as_data"]


def as_data(plan: Plan) -> dict[str, Any]:
    """All of a plan, for `json.dumps`."""
    return {
        "teacher": {"name": plan.name, **_shape(plan.teacher)},
        "target": _target(plan),
        "context_tokens": plan.context,
        "quantization": plan.quantization,
        "tied_embeddings": plan.tied,
        "boards": [_board(board) for board in plan.boards],
        "logit_cache": {
            "sampled_12_bytes_per_token": cache_bytes_per_token(plan.teacher),
            **{f"{name}_bytes_per_token": size for name, size in CACHES.items()},
        },
        "students": [_student(plan, one) for one in plan.students],
    }


def _target(plan: Plan) -> dict[str, Any]:
    target = plan.target
    if not isinstance(target, OnBoard):
        return {
            "least_parameters": target.least,
            "aim_parameters": target.aim,
            "most_parameters": target.most,
        }
    return {
        "board": target.board,
        "least_tokens_per_s": target.tokens_per_s,
        "memory_gb": target.memory_gb,
    }


def _shape(config: LlamaConfig) -> dict[str, Any]:
    sizes = {name: getattr(config, name) for name in DIMENSIONS}
    return {
        **sizes,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_word_embeddings,
        "parameters": config.parameters,
    }


def _board(board: Board) -> dict[str, Any]:
    return {
        "name": board.name,
        "title": board.title,
        "memory_gb": list(board.memory_gb),
        "bandwidth_gb_per_s": board.bandwidth_gb_per_s,
        "bandwidths_gb_per_s": dict(board.bandwidths),
        "bandwidth_source": say(f"boards.{board.name}", lang="en"),
        "prefill_gops": dict(board.gops),
        "prefill_gops_source": board.gops_source,
    }


def _student(plan: Plan, student: Student) -> dict[str, Any]:
    found = student.found
    left = kept(plan.teacher, found.config)
    return {
        "letter": student.letter,
        "why": list(found.why),
        "published_as": found.title,
        "not_a_slice": asdict(found.fault) if found.fault else None,
        **_shape(found.config),
        "kv_cache_bytes_per_token": kv_bytes_per_token(found.config),
        "removed": {f"{name}_fraction": 1 - part for name, part in left.items()},
        "quantizations": {kind: _quantized(plan, found.config, kind) for kind in QUANTIZATIONS},
        "steps": [_step(step) for step in student.steps],
        "h100_hours": sum(step.h100_hours for step in student.steps),
    }


def _quantized(plan: Plan, config: LlamaConfig, kind: str) -> dict[str, Any]:
    return {
        "file_bytes": file_bytes(config, kind),
        "weights_read_bytes_per_token": bytes_per_token(config, kind),
        "boards": {board.name: _speed(plan, config, kind, board) for board in plan.boards},
    }


def _speed(plan: Plan, config: LlamaConfig, kind: str, board: Board) -> dict[str, Any]:
    speed = predict(config, kind, board, plan.context)
    device = board.device(max(board.memory_gb))
    return {
        "decode_tokens_per_s": speed.decode,
        "prefill_tokens_per_s": speed.prefill,
        "prefill_measured": speed.prefill_measured,
        "memory_bytes": memory_bytes(config, kind, plan.context, device),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        **_shape(step.config),
        "kept_fraction": step.kept,
        "tokens": step.tokens,
        "student_flops": step.student_flops,
        "teacher_flops": step.teacher_flops,
        "h100_hours": step.h100_hours,
    }
