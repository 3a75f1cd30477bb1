"""OpenAI's own client against a real server with the real model."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.edge.engines import CLEAR
from tests.edge.servers import Running, running, until

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
LUCIE = str(Path(sys.executable).with_name("lucie"))
ASK: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Name the colours of the rainbow."}
]
GREEDY: dict[str, Any] = {"model": "default", "temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("home")
    path = home / "s.sock"
    env = {**os.environ, "LUCIE_HOME": str(home), "LUCIE_LANG": "en"}
    options = ("--model", str(model_path), "--socket", str(path), "--ctx-size", "4096")
    with running(path, LUCIE, "serve", *options, env=env) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    transport = httpx.HTTPTransport(uds=str(server.socket))
    with openai.OpenAI(
        base_url="http://localhost/v1",
        api_key="none",
        http_client=httpx.Client(transport=transport),
        max_retries=0,
    ) as client:
        yield client


def asynchronous(server: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url="http://localhost/v1",
        api_key="none",
        http_client=httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(server.socket))),
        max_retries=0,
    )


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"messages": ASK, "max_tokens": 16, **GREEDY, **options}
    )


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id).owned_by == "lucie-edge"
    assert ask(client, model=model.id).model == model.id
    with pytest.raises(openai.NotFoundError, match="gpt-5"):
        client.models.retrieve("gpt-5")


def test_an_answer_and_what_it_cost(client: openai.OpenAI) -> None:
    answer = ask(client)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16


def test_a_stream_says_the_same_as_one_piece(client: openai.OpenAI) -> None:
    whole = ask(client, max_tokens=48).choices[0].message.content
    chunks = list(ask(client, max_tokens=48, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len(said) > 3
    assert "".join(said) == whole
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 48
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"


def test_a_turn_that_is_sent_back_is_accepted_and_not_read_again(client: openai.OpenAI) -> None:
    first = ask(client)
    said = first.choices[0].message
    again = ask(client, messages=[*ASK, said, {"role": "user", "content": "Go on."}])
    assert again.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens


def test_a_seed_reproduces(client: openai.OpenAI) -> None:
    hot: dict[str, Any] = {"temperature": 1.5, "max_tokens": 24}
    texts = [
        ask(client, extra_body={"cache_prompt": False}, seed=seed, **hot).choices[0].message.content
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_string_ends_the_answer_before_it(client: openai.OpenAI) -> None:
    plain = ask(client, max_tokens=24).choices[0].message.content
    stop = plain[9:14]
    for streamed in (False, True):
        answer = ask(client, max_tokens=24, stop=[stop, "never seen"], stream=streamed)
        if streamed:
            chunks = list(answer)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert (text, reason) == (plain[: plain.index(stop)], "stop")


def test_logprobs_tell_the_chosen_and_the_likeliest_tokens(client: openai.OpenAI) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3, max_tokens=5)
    content = answer.choices[0].logprobs.content
    assert len(content) == 5
    assert "".join(entry.token for entry in content) == answer.choices[0].message.content
    for entry in content:
        assert bytes(entry.bytes).decode() == entry.token
        likeliest = [top.logprob for top in entry.top_logprobs]
        assert likeliest == sorted(likeliest, reverse=True)
        assert (entry.top_logprobs[0].token, likeliest[0]) == (entry.token, entry.logprob)
        assert -5 < entry.logprob <= 0


def test_streamed_logprobs_are_the_same(client: openai.OpenAI) -> None:
    whole = ask(client, logprobs=True, max_tokens=5).choices[0].logprobs.content
    chunks = ask(client, logprobs=True, max_tokens=5, stream=True)
    parts = [chunk.choices[0].logprobs.content for chunk in chunks if chunk.choices[0].logprobs]
    assert [entry.token for part in parts for entry in part] == [entry.token for entry in whole]


def test_a_json_schema_is_kept_to(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "colours": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 3}
        },
        "required": ["colours"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema, "strict": True}}
    told = json.loads(ask(client, response_format=form, max_tokens=100).choices[0].message.content)
    assert set(told) == {"colours"}
    assert set(told["colours"]) <= {"red", "blue"}


def test_a_json_object_begins_as_one(client: openai.OpenAI) -> None:
    form = {"type": "json_object"}
    answer = ask(client, response_format=form, max_tokens=40)
    assert answer.choices[0].message.content.startswith("{")


def test_a_bias_decides(client: openai.OpenAI) -> None:
    forced = ask(client, logit_bias={"330": 100}, max_tokens=3, logprobs=True)
    assert len({entry.token for entry in forced.choices[0].logprobs.content}) == 1
    free = ask(client, max_tokens=3, logprobs=True)
    assert len({entry.token for entry in free.choices[0].logprobs.content}) > 1


def test_a_completion_continues_without_a_template(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        prompt="The capital of France is the city of", max_tokens=3, logprobs=2, **GREEDY
    )
    assert answer.choices[0].text.startswith(" Paris")
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.tokens or []) == 3
    chunks = client.completions.create(
        prompt="The capital of France is the city of", max_tokens=3, stream=True, **GREEDY
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"model": "gpt-5"}, openai.NotFoundError, "model_not_found"),
        ({"n": 2}, openai.BadRequestError, "out_of_range"),
        ({"tools": [TOOL]}, openai.BadRequestError, "unknown_parameter"),
        ({"temperature": 9}, openai.BadRequestError, "out_of_range"),
        ({"messages": []}, openai.BadRequestError, "too_short"),
        (
            {"messages": [{"role": "user", "content": "word " * 9000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
                }
            },
            openai.BadRequestError,
            "refused",
        ),
    ],
)
def test_errors_are_openais(
    client: openai.OpenAI, options: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        ask(client, **options)
    assert caught.value.code == code


async def test_four_streams_at_once_each_say_what_they_say_alone(server: Running) -> None:
    async def one(client: openai.AsyncOpenAI, prompt: str) -> str:
        stream = await client.chat.completions.create(
            messages=[{"role": "user", "content": prompt}], max_tokens=12, stream=True, **GREEDY
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream])

    async with asynchronous(server) as client:
        alone = [await one(client, prompt) for prompt in CLEAR]
        together = await asyncio.gather(*(one(client, prompt) for prompt in CLEAR))
    assert together == alone


async def test_a_client_that_leaves_frees_its_sequence(server: Running) -> None:
    async with asynchronous(server) as client:
        stream = await client.chat.completions.create(messages=ASK, stream=True, **GREEDY)
        async for _ in stream:
            break
        assert server.health()["active"] == 1
        await stream.close()
    until(lambda: server.health()["active"] == 0)


_IN_A_NAMESPACE = """
import fcntl, json, socket, struct, subprocess, sys
import openai

# Bring up loopback, which a new network namespace has but does not switch on.
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
lucie, model = sys.argv[1:]
command = [lucie, "serve", "--model", model, "--port", "0", "--ctx-size", "1024"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
ready = next(line for line in server.stderr if "answers at" in line)
url = ready.split()[-1]
with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
    answer = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Hello"}], max_tokens=4
    )
port = url.rpartition(":")[2]
second = subprocess.run([*command[:4], "--port", port], capture_output=True, text=True)
server.terminate()
print(json.dumps({
    "url": url,
    "tokens": answer.usage.completion_tokens,
    "interfaces": [name for _, name in socket.if_nameindex()],
    "code": server.wait(30),
    "second": [second.returncode, second.stderr],
}))
"""


@pytest.mark.netns
def test_over_tcp_where_there_is_no_network(model_path: Path, home: Path) -> None:
    ended = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", _IN_A_NAMESPACE, LUCIE, str(model_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["interfaces"] == ["lo"]
    assert told["url"].startswith("http://127.0.0.1:")
    assert 1 <= told["tokens"] <= 4
    assert told["code"] == 0
    code, message = told["second"]
    assert code == 1
    assert "is taken by another program" in message
