"""Chat templates that attack: stopped by counted work, in little memory, always the same way."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.errors import LucieError, ModelError
from edge.template import ChatTemplate

_MESSAGES = [{"role": "user", "content": "hi"}]


def _grow(step: str, start: str, turns: int = 60) -> str:
    """A template that applies `step` to ns.x again and again; ns.y is its twin."""
    return (
        f"{{% set ns = namespace(x={start}, y={start}) %}}{{% for i in range({turns}) %}}"
        f"{{% set ns.x = {step} %}}{{% set ns.y = {step.replace('.x', '.y')} %}}{{% endfor %}}"
    )


_PAIRS = _grow("[ns.x, ns.x]", "[]")
_TUPLES = _grow("(ns.x, ns.x)", "()")
_LONG = '{% set a = "a" * 1000000 %}'

TOO_MUCH = {
    "repeated text": '{{ "a" * 10**9 }}',
    "repeated list": "{{ ([0] * 10**9) | length }}",
    "~ doubles": _grow("ns.x ~ ns.x", '"aaaaaaaa"'),
    "+ doubles": _grow("ns.x + ns.x", '"aaaaaaaa"'),
    "+ doubles lists": _grow("ns.x + ns.x", "[1]"),
    "captured output doubles": '{% set ns = namespace(x="aaaaaaaa") %}{% for i in range(60) %}'
    "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "loops in loops": "{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4,
    "loops over literals": "{% for a in [1,2,3,4,5,6,7,8,9,0] %}" * 12 + "x" + "{% endfor %}" * 12,
    "filtered loop": "{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}{% endfor %}"
    "{% endfor %}",
    "loop length": "{% for i in range(9999) %}{% for j in range(9999) %}{{ loop.length }}"
    "{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
    "{{ m(60) }}",
    "macro output": "{% macro m() %}" + "x" * 1000 + "{% endmacro %}"
    "{% for i in range(99999) %}{{ m() }}{% endfor %}",
    "literal output": "{% for i in range(99999) %}" + "x" * 10_000 + "{% endfor %}",
    "output": '{% set a = "x" * 900000 %}{{ a }}{{ a }}{{ a }}',
    "many values": "".join(f'{{% set a{n} = "😀" * 999999 %}}' for n in range(99)),
    "replace": _LONG + '{{ a | replace("a", a) | length }}',
    "replace method": _LONG + '{{ a.replace("", a) | length }}',
    "join": _LONG + "{{ a | join(a) }}",
    "join method": _LONG + "{{ a.join(a) }}",
    "join numbers": '{{ range(99999) | join("a" * 9999) }}',
    "indent": '{{ ("\n" * 1000000) | indent(64, true, true) }}',
    "tojson separators": '{{ range(99999) | list | tojson(separators=("a" * 9999, ":")) }}',
    "tojson lines": "{{ range(99999) | list | tojson(indent=64) }}",
    "strip": _LONG + "{{ a.strip(a) | length }}",
    "search from behind": _LONG + '{{ a.rfind("b" + a) }}',
    "split": _LONG + '{% for i in range(99) %}{% set x = a.split("a") %}{% endfor %}',
    "split at spaces": '{% set a = "a " * 4000000 %}{{ a.split() | length }}',
    "words": '{{ ("a " * 2000000) | title | length }}',
    "lines": '{{ ("a\x0b" * 2000000) | indent(0) | length }}',
    "slices": _LONG + "{% for i in range(9999) %}{% set x = a[1:] %}{% endfor %}",
    "lists of letters": '{{ ("a" * 9999999) | list | length }}',
    "search": '{% set a = "a" * 29999 %}{% set b = "a" * 50 + "b" + "a" * 49 %}'
    "{% for i in range(99999) %}{% set x = b in a %}{% endfor %}",
    "search in lists": "{% set a = range(99999) | list %}{{ a | select('in', a[1:]) | list }}",
    "upper case": _LONG + "{% for i in range(9999) %}{% set x = a.upper() %}{% endfor %}",
    "sort": "{% set a = range(99999) | list %}{% for i in range(99) %}{% set x = a | sort %}"
    "{% endfor %}",
    "format": '{{ ("{0}" * 99999).format("a" * 9999) }}',
    "shared lists, written": _PAIRS + "{{ ns.x }}",
    "shared lists, joined": _PAIRS + '{{ ns.x ~ "" }}',
    "shared lists as JSON": _PAIRS + "{{ ns.x | tojson }}",
    "shared lists, compared": _PAIRS + "{{ ns.x == ns.y }}",
    "shared lists, tested": _PAIRS + "{{ ns.x is eq(ns.y) }}",
    "shared tuples as a key": _TUPLES + "{{ {ns.x: 1} }}",
    "shared tuples as an index": _TUPLES + "{{ {}[ns.x] }}",
    "shared tuples, sought in a mapping": _TUPLES + "{{ ns.x in {} }}",
    "shared tuples, looked up": _TUPLES + "{{ {}.get(ns.x) }}",
    "shared tuples, unique": _TUPLES + "{{ [ns.x] | unique | list }}",
    "shared tuples, sorted": _TUPLES + "{{ [ns.x, ns.y] | sort }}",
    # hash() of a tuple this deep overflows the C stack
    "deep tuples as a key": _grow("(ns.x,)", "()", 9_000) + "{{ {ns.x: 1} }}",
    "deep lists, written": _grow("[ns.x]", "[]", 9_000) + "{{ ns.x }}",
}

REFUSED = {
    "template-fails": [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ range(10**12) }}",
        _grow("ns.x * ns.x", "3"),
        "{{ 10 ** (10 ** 9) }}",
        "{{ 2 ** -1000000000 }}",
        '{{ "%1000000000s" % "a" }}',
        '{{ "{:>1000000000}".format(1) }}',
        '{{ "{0.__class__}".format(1) }}',
        '{{ "{a[0]}".format(a=[1]) }}',
        '{{ "a" | indent(10**9, true) }}',
        "{{ [1] | tojson(indent=10**9) }}",
        '{{ [1] | tojson(indent="a" * 9999) }}',
        '{{ "%1000000000d" is odd }}',
        '{{ "%1000000000d" is divisibleby 2 }}',
        '{{ ["%1000000000d"] | select("even") | list }}',
        '{{ strftime_now("%1000000000d") }}',
        '{{ strftime_now("%Y" * 9999) }}',
        '{{ lipsum(n=10**9) }}',
        '{{ "".__class__.__mro__ }}',
        "{{ self.__init__.__globals__ }}",
        "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
        "{% for a in [1] %}{{ loop._iterator.gi_frame }}{% endfor %}",
        '{{ messages[0].pop("role") }}',
        "{{ messages.append(1) }}",
        "{% set messages.x = 1 %}",
        "{{ namespace }}",
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ [ns] }}",
        "{{ 5() }}",
        '{{ "a".center(10**9) }}',
        '{{ "a".zfill(10**9) }}',
        '{{ ("\t" * 9999).expandtabs(10**6) }}',
        '{{ "a".encode("utf-32") }}',
        "{{ messages.copy() }}",
        "{{ dict.fromkeys(range(99999)) }}",
    ],
    "template-syntax": [
        '{{ "a" | center(10**9) }}',
        '{{ "%1000000000s" | format("a") }}',
        '{{ "" | attr("__class__") }}',
        "{{ 5 | round(-1000000000) }}",
        "{% do 1 %}",
        '{{ "' + "a" * 60_000,
    ],
    "template-not-admitted": [
        '{% include "/etc/passwd" %}',
        '{% import "os" as os %}',
        '{% from "os" import path %}',
        '{% extends "x" %}',
        "{% block a %}{% endblock %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% for a in [] recursive %}{% endfor %}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{% endcall %}",
        "{{ messages.get(*range(99999)) }}",
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
        "{{ " + "[" * 30_000 + "]" * 30_000 + " }}",
        "{{ " + "+".join(["1"] * 20_000) + " }}",
        "{{ " + "~".join(["1"] * 20_000) + " }}",
        "{{ " + "not " * 15_000 + "1 }}",
        "{{ a" + ".a" * 30_000 + " }}",
        "{{ a" + "|d" * 30_000 + " }}",
        "{% if 1 %}" * 3_000 + "{% endif %}" * 3_000,
        "{% if 1 %}" * 110 + "{% endif %}" * 110,
        "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
        "{{ 0x" + "f" * 60_000 + " }}",
        "{{ " + "9" * 60_000 + " }}",
        "{{ " + "9" * 400 + ".0 }}",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_work_is_stopped(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        ChatTemplate(TOO_MUCH[name], "", "").render(_MESSAGES)
    assert caught.value.code == "prompt.template-too-much"


@pytest.mark.parametrize(
    ("code", "source"),
    [
        pytest.param(code, source, id=f"{code}-{source[:40]}")
        for code, many in REFUSED.items()
        for source in many
    ],
)
def test_what_no_template_needs_is_refused(code: str, source: str) -> None:
    with pytest.raises(ModelError) as caught:
        ChatTemplate(source, "", "").render(_MESSAGES)
    assert caught.value.code == f"prompt.{code}", str(caught.value)


def test_nothing_leads_out_of_the_sandbox() -> None:
    for source in ('{{ ""["__class__"] }}', "{{ namespace.__init__ }}", "{{ messages.append }}"):
        assert ChatTemplate(source, "", "").render(_MESSAGES) == ""
    source = '{{ [""] | map(attribute="__class__") | list }}'
    assert ChatTemplate(source, "", "").render(_MESSAGES) == "[Undefined]"


def test_the_limit_follows_the_conversation() -> None:
    """Long messages may be handled often; a short one gives no such right."""
    source = "{% for i in range(40) %}{% set x = messages[0].content.upper() %}{% endfor %}"
    template = ChatTemplate(source, "", "")
    template.render([{"role": "user", "content": "a" * 400_000}])
    with pytest.raises(ModelError):
        ChatTemplate(source.replace("messages[0].content", '("a" * 400000)'), "", "").render(
            _MESSAGES
        )


@pytest.mark.parametrize("name", ["macros", "sort", "loop length", "shared lists, compared"])
def test_the_outcome_is_always_the_same(name: str) -> None:
    template = ChatTemplate(TOO_MUCH[name], "", "")
    outcomes = []
    for _ in range(2):
        with pytest.raises(LucieError) as caught:
            template.render(_MESSAGES)
        outcomes.append((caught.value.code, caught.value.facts))
    assert outcomes[0] == outcomes[1]


def test_memory_stays_small() -> None:
    """All attacks in one process that may use 160 MiB more than an idle one, and 120 s of CPU."""
    result = subprocess.run(
        [sys.executable, Path(__file__)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) == len(TOO_MUCH) + sum(map(len, REFUSED.values()))


def _attack() -> int:
    ChatTemplate("{{ messages }}", "", "").render(_MESSAGES)  # loads jinja2
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 160 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
    stopped = 0
    sources: list[Any] = [*TOO_MUCH.values(), *(s for many in REFUSED.values() for s in many)]
    for source in sources:
        try:
            ChatTemplate(source, "", "").render(_MESSAGES)
        except ModelError:
            stopped += 1
    return stopped


if __name__ == "__main__":
    sys.stdout.write(str(_attack()))
