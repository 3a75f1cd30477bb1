"""`make shrink-demo`: from open text and a teacher to a smaller model that chats.

Each step is a command that anybody can give. `make shrink-demo COMPARED=1` trains two more
models on the same tokens, for the report: one without the teacher, one from scratch.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

from edge.demonstration import Step, demonstrate, end
from edge.paths import cache_dir

__all__: list[str] = []

_GIVEN = [Path(__file__).with_name(f"demo{each}") for each in
          (".toml", "-chat.toml", "-prompts.jsonl")]  # fmt: skip
_QUESTION = "Why is the sky blue?"
_COMPARED = (
    "distill run demo.toml compared --work student-training "
    "--set baselines.cross_entropy=true --set baselines.scratch=true "
    "--set baselines.scratch_rate=1e-3"
)


def _steps(compared: bool) -> list[Step]:
    return [
        Step("quantize dequantize smollm2-135m-instruct smollm2", "smollm2"),
        Step("pretrain corpus corpus --languages en", "corpus"),
        Step("distill plan smollm2 100m --layers 23 --ffn 1280 --picture plan.svg", "plan.svg"),
        Step("distill run demo.toml student", "student"),
        *([Step(_COMPARED, "compared")] if compared else []),
        Step("distill chat demo-chat.toml student-chat", "student-chat"),
        Step("quantize gguf student-chat student-gguf --type Q8_0", "student-gguf"),
        Step("quantize onnx student-chat student-onnx --bits 8", "student-onnx"),
        Step(f"distill report {'compared' if compared else 'student'} --picture report.svg"),
        Step(f'run --model ./student-onnx --temperature 0 --max-tokens 60 "{_QUESTION}"'),
        Step(f'run --model ./student-gguf --temperature 0 --max-tokens 60 "{_QUESTION}"'),
    ]


def _name() -> str:
    """Of the folder: the same, compared or not; where commands or files change, another."""
    digest = hashlib.sha256(repr(_steps(compared=True)).encode())
    for file in _GIVEN:
        digest.update(file.read_bytes())
    return f"shrink-demo-{digest.hexdigest()[:8]}"


def main() -> int:
    """Run the steps that are missing, and ask the student."""
    parser = argparse.ArgumentParser(prog="make shrink-demo", description=__doc__)
    parser.add_argument("--compared", action="store_true")
    asked = parser.parse_args()
    name = _name()
    folder = cache_dir() / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in _GIVEN:
        shutil.copyfile(file, folder / file.name)
    return demonstrate(name, _steps(asked.compared))


if __name__ == "__main__":
    end(main)
