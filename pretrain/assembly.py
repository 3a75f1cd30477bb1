"""A model put together in the memory of its processes, a layer at a time.

Each process holds a share only: some of the layers (pipeline), of their matrices some rows or
columns (tensor), and of those a slice (data, FSDP2). No process ever has more than one layer,
or one table, whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from edge.llama_config import LlamaConfig
from pretrain.part import Objective, Part, share_of_layers
from pretrain.weights import Source
from pretrain.world import World

__all__ = ["assemble", "gathered"]

Precision = Literal["float32", "bfloat16"]


def assemble(
    config: LlamaConfig,
    source: Source,
    objective: Objective,
    world: World,
    *,
    precision: Precision = "float32",
    recompute: bool = False,
) -> Part:
    """This process's share of a model.

    Args:
        config: the shape of the whole, which can be shared out so (`shape`).
        source: gives each tensor whole.
        objective: what the last part ends with.
        world: the processes.
        precision: in which matrices are multiplied.
        recompute: compute activations again for gradients.

    Raises:
        CheckpointError: the source lacks a tensor.
    """
    layers = share_of_layers(
        config.num_hidden_layers, world.parallel.pipeline, world.place("pipeline")
    )
    with torch.device("meta"):
        part = Part(config, layers, objective, recompute=recompute)
    part.rotary = type(part.rotary)(part.rotary.config)  # its frequencies are no weights
    for n, layer in zip(layers, part.blocks, strict=True):
        _fill(layer, f"model.layers.{n}.", source)
        _share(layer, _LAYER, world, precision)
    _fill(part, "", source)
    if part.last and part.tied:
        part.tie()
    _share(part, _tables(part), world, precision)
    if part.last and part.tied:
        part.tie()  # of what is shared out, each module has its own now
    if world.mesh("data") is not None:
        # What the objective compares with is not rounded: 1/12 would be 0.0835 in bfloat16.
        policy = replace(_policy(precision), cast_forward_inputs=False)
        fully_shard(part, mesh=world.mesh("data"), mp_policy=policy)
    else:
        part.autocast = precision == "bfloat16"
    return part.to(world.device)


def gathered(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter whole, in memory; all processes that share it must call this."""
    whole = parameter.detach()
    return (whole.full_tensor() if isinstance(whole, DTensor) else whole).cpu()


_LAYER: dict[str, ParallelStyle] = {
    "self_attn.q_proj": ColwiseParallel(),
    "self_attn.k_proj": ColwiseParallel(),
    "self_attn.v_proj": ColwiseParallel(),
    "self_attn.o_proj": RowwiseParallel(),
    "mlp.gate_proj": ColwiseParallel(),
    "mlp.up_proj": ColwiseParallel(),
    "mlp.down_proj": RowwiseParallel(),
}
"""Megatron's way (1909.08053): no exchange but after attention and after the network."""


def _tables(part: Part) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {}
    if hasattr(part.model, "embed_tokens"):
        plan["model.embed_tokens"] = RowwiseParallel(input_layouts=Replicate())
    if part.last:
        plan["lm_head"] = ColwiseParallel()
    return plan


def _fill(module: nn.Module, prefix: str, source: Source) -> None:
    """Give values to what is still without."""
    for name, parameter in list(module.named_parameters()):
        if parameter.is_meta:
            owner, _, last = name.rpartition(".")
            value = source(prefix + name, tuple(parameter.shape))
            setattr(module.get_submodule(owner), last, nn.Parameter(value))


def _share(
    module: nn.Module, plan: dict[str, ParallelStyle], world: World, precision: Precision
) -> None:
    tensor, data = world.mesh("tensor"), world.mesh("data")
    if tensor is not None:
        parallelize_module(module, tensor, plan)
    if data is not None and not isinstance(module, Part):
        fully_shard(module, mesh=data, mp_policy=_policy(precision))


def _policy(precision: Precision) -> MixedPrecisionPolicy:
    if precision == "float32":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
