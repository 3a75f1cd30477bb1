"""How a model's folder says that it chats: template, tokenizer, and what ends an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.chat.prompts import Prompt
from distill.errors import DistillError
from edge.checkpoint import Checkpoint
from edge.errors import LucieError
from edge.template import ChatTemplate
from edge.tokenizer_file import open_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatFormat", "check_prompts"]

_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A model's way to write conversations."""

    tokenizer: Path
    """Its `tokenizer.json`."""
    template: str
    """Its chat template."""
    bos: str
    """Token that templates may begin with; empty where there is none."""
    eos: str
    """Token that ends an answer."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ChatFormat:
        """That of a model folder.

        Raises:
            DistillError: it has no chat template, or nothing ends an answer.
            CheckpointError: a file of it cannot be read.
        """
        settings = checkpoint.document("tokenizer_config.json") or {}
        generation = checkpoint.document("generation_config.json") or {}
        template = _template(checkpoint.path, settings)
        if template is None:
            raise DistillError("chat.no-template", path=str(checkpoint.path))
        tokenizer, config = open_tokenizer(checkpoint.path), checkpoint.config
        end = generation.get("eos_token_id", config.eos_token_id)
        eos = _token(tokenizer, settings.get("eos_token"), end)
        if eos is None:
            raise DistillError("chat.no-end", path=str(checkpoint.path))
        bos = _token(tokenizer, settings.get("bos_token"), config.bos_token_id) or ""
        return cls(checkpoint.path / "tokenizer.json", template, bos, eos)

    def as_tokenizer(self) -> PreTrainedTokenizerBase:
        """The same for transformers; no class that a folder names is looked up."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=str(self.tokenizer),
            chat_template=self.template,
            bos_token=self.bos or None,
            eos_token=self.eos,
            pad_token=self.eos,  # masked wherever it pads
            padding_side="left",
        )


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    if (folder / _TEMPLATE).is_file():
        return (folder / _TEMPLATE).read_text(encoding="utf-8")
    given = settings.get("chat_template")
    if isinstance(given, list):  # several by name
        given = {each["name"]: each["template"] for each in given}.get("default")
    return given if isinstance(given, str) else None


def _token(tokenizer: Tokenizer, named: object, numbers: object) -> str | None:
    """The spelling of a token that settings name, or else the config by its number."""
    text = named.get("content") if isinstance(named, dict) else named
    if isinstance(text, str) and tokenizer.token_to_id(text) is not None:
        return text
    first = next(iter(numbers), None) if isinstance(numbers, list) else numbers
    return tokenizer.id_to_token(first) if isinstance(first, int) else None


def check_prompts(prompts: Sequence[Prompt], chat: ChatFormat, answer: int, window: int) -> None:
    """Refuse prompts that the template refuses, or that leave no room for an answer.

    Our own sandbox renders them first, so that a hostile template does no harm in transformers'.

    Args:
        prompts: all of them.
        chat: how they are written.
        answer: most tokens of an answer.
        window: tokens that prompt and answer may have together.

    Raises:
        DistillError: which prompt it is, and why.
    """
    template = ChatTemplate(chat.template, chat.bos, chat.eos)
    tokenizer = open_tokenizer(chat.tokenizer)
    tokenizer.no_truncation()
    for prompt in prompts:
        try:
            text = template.render(prompt.messages)
        except LucieError as error:
            raise prompt.wrong(error) from error
        tokens = len(tokenizer.encode(text, add_special_tokens=False))
        if tokens == 0 or tokens + answer > window:
            raise DistillError(
                "chat.too-long",
                path=str(prompt.path),
                line=prompt.line,
                tokens=tokens,
                answer=answer,
                window=window,
            )
