"""Chat templates that behave: rendered as transformers renders them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jinja2.exceptions import TemplateError

from edge.errors import ModelError, UsageError
from edge.template import ChatTemplate
from tests.edge.reference_templates import GEMMA, MISTRAL, NOW, SHAPES, reference
from tests.edge.vocabulary import vocabulary

_SYSTEM = {"role": "system", "content": " Réponds en français.\n"}
_USER = {"role": "user", "content": "  Qu'est-ce que <b>'é'</b> ? {{ 1 }} 😀 \n"}
_ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nUne lettre.\n"}
_CONVERSATIONS = {
    "user": [_USER],
    "system": [_SYSTEM, _USER],
    "turns": [_USER, _ANSWER, _USER],
    "long": [_SYSTEM, _USER, _ANSWER, _USER, _ANSWER, _USER],
    "answer first": [_ANSWER, _USER],
    "user twice": [_USER, _USER],
    "answer last": [_USER, _ANSWER],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("conversation", _CONVERSATIONS)
def test_renders_as_the_reference_or_refuses_with_it(shape: str, conversation: str) -> None:
    source, messages = SHAPES[shape], _CONVERSATIONS[conversation]
    template = ChatTemplate(source, "<s>", "</s>")
    refusal = ""
    try:
        expected = reference(source, messages, "<s>", "</s>")
    except TemplateError as error:
        refusal = str(error)
    if refusal:
        with pytest.raises(UsageError) as caught:
            template.render(messages, now=NOW)
        assert caught.value.code == "prompt.template-refuses"
        assert caught.value.facts == {"reason": refusal}
    else:
        assert template.render(messages, now=NOW) == expected


def test_both_outcomes_are_tested() -> None:
    with pytest.raises(TemplateError, match="alternate"):
        reference(MISTRAL, [_USER, _USER], "", "")
    with pytest.raises(TemplateError, match="System role"):
        reference(GEMMA, [_SYSTEM, _USER], "", "")


@pytest.mark.parametrize("conversation", _CONVERSATIONS)
def test_the_template_of_the_real_model(conversation: str, model_path: Path) -> None:
    source = vocabulary(model_path).template
    assert source is not None
    messages = _CONVERSATIONS[conversation]
    rendered = ChatTemplate(source, "<s>", "</s>").render(messages)
    assert rendered == reference(source, messages, "<s>", "</s>")
    assert ("named SmolLM" in rendered) == (messages[0]["role"] != "system")


def test_the_header_of_an_answer_is_optional(model_path: Path) -> None:
    template = ChatTemplate(vocabulary(model_path).template or "", "", "")
    assert template.render([_USER]).endswith("<|im_start|>assistant\n")
    assert template.render([_USER], add_generation_prompt=False).endswith("<|im_end|>\n")


def test_the_clock_can_be_set_and_runs_otherwise() -> None:
    template = ChatTemplate('{{ strftime_now("%d %b %Y, %-H h") }}', "", "")
    assert template.render([_USER], now=NOW) == "04 Nov 2026, 9 h"
    assert template.render([_USER]) != template.render([_USER], now=NOW)


def test_long_conversations_render() -> None:
    messages = [_SYSTEM, *([_USER, {"role": "assistant", "content": "mot " * 500}] * 200), _USER]
    for shape in ("chatml", "llama-3", "mistral", "qwen-3"):
        text = ChatTemplate(SHAPES[shape], "<s>", "</s>").render(messages, now=NOW)
        assert text == reference(SHAPES[shape], messages, "<s>", "</s>")


def test_messages_are_not_changed() -> None:
    messages = [dict(_USER)]
    ChatTemplate("{% set ns = namespace(messages[0]) %}{% set ns.role = 'x' %}", "", "").render(
        messages
    )
    assert messages == [_USER]


def test_renderings_of_several_threads_do_not_mix() -> None:
    template = ChatTemplate(SHAPES["qwen-3"], "", "")
    conversations = [[{"role": "user", "content": f"message {n}" * 50}] for n in range(32)]
    with ThreadPoolExecutor(8) as pool:
        rendered = list(pool.map(template.render, conversations))
    assert rendered == [reference(SHAPES["qwen-3"], c, "", "") for c in conversations]


def test_compiles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("{{ messages[0].content }}", "", "")
    assert template.render([_USER]) == _USER["content"]
    monkeypatch.setattr(ChatTemplate, "_compile", lambda self: pytest.fail("compiled again"))
    assert template.render([_ANSWER]) == _ANSWER["content"]


@pytest.mark.parametrize(
    ("source", "code", "facts"),
    [
        (
            "{% for a in b %}",
            "template-syntax",
            {"line": 1, "reason": "Unexpected end of template. Jinja was looking for the "
             "following tags: 'endfor' or 'else'. The innermost block that needs to be closed "
             "is 'for'"},
        ),
        ("{{ 1 }}\n{{ a | nofilter }}", "template-syntax", {"line": 2}),
        ("{{ no.such.name }}", "template-fails", {"reason": "'no' is undefined"}),
        ("{{ 1 / 0 }}", "template-fails", {"reason": "division by zero"}),
        ("{{ 1 + '' }}", "template-fails", {"reason": "int + str"}),
        ("{% include 'x' %}", "template-not-admitted", {"what": "Include, line 1"}),
        ("x" * 65_537, "template-too-long", {"characters": 65_537, "most": 65_536}),
        ("{{ 'a' * 10**9 }}", "template-too-much", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "fr"])
def test_errors_say_what_is_wrong(
    source: str,
    code: str,
    facts: dict[str, object],
    language: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LUCIE_LANG", language)
    with pytest.raises(ModelError) as caught:
        ChatTemplate(source, "", "").render([_USER])
    assert caught.value.code == f"prompt.{code}"
    assert facts.items() <= caught.value.facts.items()
    first, said = str(next(iter(facts.values()), "")), str(caught.value)
    assert first in said or first in said.replace(",", "").replace("\u00a0", "")


def test_reasons_from_the_template_are_shown_safely() -> None:
    source = "{{ raise_exception('a\n\x1b[31mred\u202e ' + 'x' * 500) }}"
    with pytest.raises(UsageError) as caught:
        ChatTemplate(source, "", "").render([_USER])
    reason = caught.value.facts["reason"]
    assert reason.startswith("a \ufffd[31mred\ufffd xxx")
    assert reason.endswith("x…")
    assert len(reason) == 201


def test_jinja2_is_loaded_when_it_is_needed() -> None:
    import subprocess

    code = "import sys, edge.chat, edge.template; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
