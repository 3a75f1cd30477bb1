"""What is trained: transformers' Llama, its matrices rounded as the file will hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from quantize.grid import Grid
from quantize.healing.divergence import divergence
from quantize.healing.rounding import Rounding, as_levels

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

__all__ = ["SCALES", "Student", "healed", "load", "matrices"]

SCALES = "scales"
_ORIGINAL = ".parametrizations.weight.original"
"""Under that name torch keeps a parametrized weight as it is trained."""


def load(folder: Path) -> LlamaForCausalLM:
    """The model of a folder in float32, without dropout, as it is on this computer.

    The folder has been checked (`Checkpoint`): a Llama model, in safetensors.
    """
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    model.eval()  # type: ignore[no-untyped-call]
    return model


def matrices(layer: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of one decoder layer and their names in it."""
    return ((name, m) for name, m in layer.named_modules() if isinstance(m, nn.Linear))


class Student(nn.Module):
    """A model whose matrices stand on a grid; what its output matrix says is compared.

    The embedding and the output matrix stay as they are: files of four bits keep them in six
    or eight.

    Args:
        model: the floats; becomes the student.
        start: of each matrix the weight to begin with, by its name in the model, and the
            scales, by that name and `SCALES`.
        grid: the levels.
    """

    def __init__(self, model: LlamaForCausalLM, start: Mapping[str, Tensor], grid: Grid) -> None:
        super().__init__()
        self.model = model
        model.get_input_embeddings().requires_grad_(False)
        model.lm_head.requires_grad_(False)
        for at, layer in enumerate(model.model.layers):
            for name, matrix in list(matrices(layer)):
                full = f"model.layers.{at}.{name}"
                matrix.weight.data = start[f"{full}.weight"]
                rounding = Rounding(start[f"{full}.{SCALES}"], grid)
                parametrize.register_parametrization(matrix, "weight", rounding)

    def forward(self, ids: Tensor, states: Tensor) -> Tensor:
        """Mean KL divergence in nats of what the floats said.

        Args:
            ids: tokens [B, T].
            states: hidden states [B, T, W] of the floats, behind the last norm.
        """
        hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        head = self.model.lm_head.weight
        return divergence(hidden.flatten(0, 1), states.flatten(0, 1), head)


def healed(student: Student, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file holds of a student, by the names of the checkpoint.

    Of a matrix `….weight` its levels [out, in] as int8, and its scales [out, in / 32] as
    float16, which are called `….weight.scales`; norms as they are.

    Args:
        student: has the scales.
        trained: its trained tensors, by their names in it.
    """
    made = {}
    for name, tensor in trained.items():
        plain = name.removeprefix("model.")  # ours
        if plain.endswith(_ORIGINAL):
            matrix = f"{plain.removesuffix(_ORIGINAL)}.weight"
            rounding = student.get_submodule(name.removesuffix("original") + "0")
            assert isinstance(rounding, Rounding)  # noqa: S101 - made so above
            scales = rounding.scales.cpu()
            made[matrix] = as_levels(tensor, scales, rounding.grid)
            made[f"{matrix}.{SCALES}"] = scales.half()
        else:
            made[plain] = tensor
    return made
