"""Chat templates in the shapes of well-known families, and the way transformers renders them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime(2026, 11, 4, 9, 5)

CHATML = """
{%- if messages[0]['role'] == 'system' -%}
    {%- set loop_messages = messages[1:] -%}
    {%- set system_message = messages[0]['content'] -%}
{%- else -%}
    {%- set loop_messages = messages -%}
    {%- set system_message = 'You are a helpful assistant.' -%}
{%- endif -%}
{{ '<|im_start|>system\n' ~ system_message ~ '<|im_end|>\n' }}
{%- for message in loop_messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content | trim + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

LLAMA3 = """
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}{{- tools | tojson(indent=4) }}{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/…') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined and message == user_messages[-1] %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

QWEN3 = """
{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == "user" and message.content is string %}
        {%- set ns.found = true %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n' }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}{{- call | tojson }}{%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>' }}{%- endif %}
{%- endif %}
"""

ODDITIES = """
{%- macro shown(value, depth=0) -%}
    {%- if value is mapping -%}
        {%- for key, item in value|dictsort -%}
            {{ key }}={{ shown(item, depth + 1) }}{{ "," if not loop.last }}
        {%- endfor -%}
    {%- elif value is iterable and value is not string -%}
        {%- for item in value %}{{ shown(item, depth + 1) }};{% endfor -%}
    {%- else -%}
        {{ value }}@{{ depth }}
    {%- endif -%}
{%- endmacro -%}
{%- set facts = {'a': [1, 2.5, none, true], "b": {"c": "é <&> \\"quoted\\" 'single'"}} -%}
{{ shown(facts) }}|{{ facts | tojson }}|{{ facts | tojson(indent=2) }}|{{ facts }}
{% for n in range(7) if n is odd %}
    {%- if n == 5 %}{% break %}{% endif -%}
    {{ loop.index }}/{{ loop.length }}:{{ loop.previtem }}<{{ n }}<{{ loop.nextitem }}
{% else %}none
{%- endfor %}
{% set block %}  [{{ messages | map(attribute='role') | join(', ') | upper }}]  {% endset %}
{{ block | trim | replace('USER', 'U') | indent(2, true) }}{{ block|length }}
{% filter lower %}ABC{{ 'D' ~ 1 ~ none ~ 2.0 }}{% endfilter %}
{{ 7 // 2 }} {{ 7 % 3 }} {{ 2 ** 5 }} {{ 1 / 4 }} {{ -3 }}
{{ 'ab' * 2 }} {{ [1] + [2] }} {{ (1, 2)[0] }}
{{ missing | default('none given') }} {{ '' | default('empty', true) }} {{ missing }}
{{ 1 < 2 <= 2 }} {{ 'a' in 'abc' }} {{ 3 not in [1, 2] }} {{ messages[0].get('name', 'nobody') }}
{{ "x-y".split('-', 1) }} {{ " a ".strip() }}
{{ "abc".startswith('ab') }} {{ "{} {}".format(1, 'b') }}
{{ ['b', 'a', 'B'] | sort | list }} {{ [3, 1] | min }}
{{ ['a', 'a'] | unique | list }} {{ "abc"[::-1] }}
{% with total = 3 %}{{ total }}{% endwith %}{% generation %}kept{% endgeneration %}
{% for key, value in messages[0].items() %}{{ key }}:{{ value | string | length }} {% endfor %}
{{ '5' | int + 1 }} {{ [1, 2, 3] | select('gt', 1) | list }} {{ [1, 2] | reject('eq', 1) | first }}
{#- a comment -#}
   {%- if 0 %}{{ x | nofilter }}{% endif %}
{{ 7 is divisibleby 7 }} {{ 3.0 is odd }} {{ 4 is even }}
{{ ('<' | safe) ~ '>' }} {{ messages | length }} {{ messages is sequence }}
{{ 'Tom' | lower | title }}
"""

SHAPES = {
    "chatml": CHATML,
    "llama-3": LLAMA3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "qwen-3": QWEN3,
    "oddities": ODDITIES,
}


class _Generation(loopcontrols):
    tags = {"generation", "break", "continue"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Any) -> Any:
        from jinja2 import nodes

        if parser.stream.current.value != "generation":
            return super().parse(parser)
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def _body(self, caller: Any) -> Any:
        return caller()


def reference(source: str, messages: list[dict[str, str]], bos: str, eos: str) -> str:
    """The text as transformers' `apply_chat_template` (5.23) makes it.

    Raises:
        TemplateError: the template refuses the messages.
    """

    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)  # fmt: skip

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    return environment.from_string(source).render(
        messages=messages, tools=None, documents=None, add_generation_prompt=True,
        bos_token=bos, eos_token=eos,
    )  # fmt: skip
