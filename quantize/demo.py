"""`make quantize-demo`: the default model through every export, measured and drawn.

Each step is a command that anybody can give; what is there already is not made again.

That model comes as a Q4_1 file, so its weights stand on that type's grid: Q4_1 and Q5_1 would
give them back exactly, at no cost, and are left out of the search.
"""

from __future__ import annotations

from edge.demonstration import Step, demonstrate, end

__all__: list[str] = []

_TYPES = ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
_MATRIX = "smollm2.imatrix.gguf"
_PICTURE = "comparison.svg"
_MADE = (*_TYPES, "searched", "healed", "onnx-q8", "onnx-q4")
_STEPS = (
    Step("quantize dequantize smollm2-135m-instruct smollm2", "smollm2"),
    Step("quantize gguf smollm2 f16 --type F16", "f16"),
    Step(f"quantize imatrix ./f16 -o {_MATRIX}", _MATRIX),
    *(
        Step(f"quantize gguf smollm2 {kind} --type {kind.upper()} --imatrix {_MATRIX}", kind)
        for kind in _TYPES
    ),
    Step(
        f"quantize search smollm2 searched --like Q4_K_M --imatrix {_MATRIX} "
        "--types q3_k,q4_0,q4_k,iq4_nl,iq4_xs,q5_0,q5_k,q6_k,q8_0",
        "searched",
    ),
    Step("quantize heal smollm2 healed --type Q4_0", "healed"),
    Step("quantize onnx smollm2 onnx-q8 --bits 8", "onnx-q8"),
    Step(f"quantize onnx smollm2 onnx-q4 --bits 4 --imatrix {_MATRIX}", "onnx-q4"),
    Step(
        f"quantize compare ./f16 {' '.join(f'./{name}' for name in _MADE)} --chunks 24 "
        f"--picture {_PICTURE}"
    ),
)


def main() -> int:
    """Run the steps that are missing, then compare."""
    return demonstrate("quantize-demo", _STEPS)


if __name__ == "__main__":
    end(main)
