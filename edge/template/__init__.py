"""Chat templates: from messages to the text that a model was trained on.

A template is a program in a model file, and model files are hostile: it runs in
Jinja's immutable sandbox, narrowed to what real templates use, and its work is
counted (`edge.template.meter`). Templates that behave render as transformers'
`apply_chat_template` renders them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge.errors import ModelError, UsageError
from edge.text import one_line

if TYPE_CHECKING:
    from jinja2 import Template

    from edge.template.sandbox import Sandbox

__all__ = ["ChatTemplate"]

# The longest of 63 templates that llama.cpp keeps for its tests (2026-11) has 16,738 characters.
_MAX_SOURCE = 65_536
_BASE_WORK = 16 * 2**20
_WORK_PER_CHARACTER = 64
_BASE_OUTPUT = 2**20
_OUTPUT_PER_CHARACTER = 4
# A message costs a turn of the template's loop, however short it is.
_CHARACTERS_PER_MESSAGE = 256


class ChatTemplate:
    """One model's chat template. Compiled at the first rendering; any thread may render.

    Args:
        source: the template as it stands in the model file.
        bos: spelling of the BOS token, for templates that write it.
        eos: spelling of the EOS token.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        self._source = source
        self._names = {"bos_token": bos, "eos_token": eos}
        self._lock = threading.Lock()
        self._code: tuple[Sandbox, Template] | None = None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        now: datetime | None = None,
    ) -> str:
        """The prompt's text.

        Args:
            messages: dicts with `role` and `content`, as OpenAI's API has them.
            add_generation_prompt: end with the header of an answer.
            now: what the template's clock shows; the present time where none is given.

        Raises:
            ModelError: the template is no template, fails, or asks for too much.
            UsageError: the template refuses these messages, e.g. for the order of their roles.
        """
        from jinja2.exceptions import TemplateError

        from edge.template.meter import TooMuchWorkError
        from edge.template.sandbox import RefusedError

        with self._lock:
            try:
                return self._render(messages, add_generation_prompt, now or datetime.now())
            except RefusedError as error:
                raise UsageError("prompt.template-refuses", reason=_reason(error)) from error
            except TooMuchWorkError as error:
                raise ModelError("prompt.template-too-much") from error
            except (
                TemplateError,
                ArithmeticError,
                AttributeError,
                LookupError,
                RecursionError,
                TypeError,
                ValueError,
            ) as error:
                raise ModelError("prompt.template-fails", reason=_reason(error)) from error

    def _render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool, now: datetime
    ) -> str:
        from edge.template.meter import Meter, TooMuchWorkError

        sandbox, template = self._compiled()
        size = sum(len(m["content"]) + _CHARACTERS_PER_MESSAGE for m in messages)
        sandbox.meter = Meter(_BASE_WORK + _WORK_PER_CHARACTER * size)
        sandbox.now = now
        room = _BASE_OUTPUT + _OUTPUT_PER_CHARACTER * size
        context = template.new_context(
            {
                **self._names,
                "messages": messages,
                "tools": None,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            }
        )
        chunks = []
        # Not generate(), which compiles a traceback of the template for every error.
        for chunk in template.root_render_func(context):
            room -= len(chunk)
            if room < 0:
                raise TooMuchWorkError
            chunks.append(chunk)
        return "".join(chunks)

    def _compiled(self) -> tuple[Sandbox, Template]:
        if self._code is None:
            from jinja2.exceptions import TemplateSyntaxError

            from edge.template.syntax import NotAdmittedError

            if len(self._source) > _MAX_SOURCE:
                raise ModelError(
                    "prompt.template-too-long", characters=len(self._source), most=_MAX_SOURCE
                )
            try:
                self._code = self._compile()
            except TemplateSyntaxError as error:
                raise ModelError(
                    "prompt.template-syntax", line=error.lineno, reason=_reason(error.message)
                ) from error
            except (
                NotAdmittedError,
                # Python's own compiler: loops in loops, brackets in brackets, endless numbers.
                SyntaxError,
                RecursionError,
                MemoryError,
                ValueError,
            ) as error:
                raise ModelError("prompt.template-not-admitted", what=_reason(error)) from error
        return self._code

    def _compile(self) -> tuple[Sandbox, Template]:
        from jinja2 import Template

        from edge.template.sandbox import Sandbox
        from edge.template.syntax import admit

        sandbox = Sandbox()
        tree = sandbox.parse(self._source)
        admit(tree)
        code = sandbox.compile(tree)
        return sandbox, Template.from_code(sandbox, code, sandbox.make_globals(None))


def _reason(error: object) -> str:
    """What Jinja or the template says, to stand within a sentence of ours."""
    return one_line(error).rstrip(".")
