"""The page's scripts where they are pure functions, run by Node.js; in a browser:
`test_page_browser.py`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edge.server.page import files

FOLDER = Path(files.__file__).parent
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs statements that see what the scripts export; returns what they print as JSON."""
    for name in ("answer", "conversation", "markdown"):
        shutil.copy(FOLDER / f"{name}.js", tmp_path / f"{name}.mjs")
    imports = (
        'import { reader } from "./answer.mjs";\n'
        'import { Conversation } from "./conversation.mjs";\n'
        'import { blocks, inline } from "./markdown.mjs";\n'
        "const tell = (value) => console.log(JSON.stringify(value));\n"
    )

    def run(statements: str, timeout: float = 60) -> Any:
        program = tmp_path / "program.mjs"
        program.write_text(imports + statements, encoding="utf-8")
        done = subprocess.run(
            [str(NODE), program], capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a **b *c* d** e", ["a ", ["strong", ["b ", ["em", ["c"]], " d"]], " e"]),
        ("*a **b** c*", [["em", ["a ", ["strong", ["b"]], " c"]]]),
        ("snake_case_name, _so_", ["snake_case_name, ", ["em", ["so"]]]),
        ("2 * 3 * 4 ** 5", ["2 * 3 * 4 ** 5"]),
        ("`a * b` **c", [["code", ["a * b"]], " **c"]),
        ("``a`b``", [["code", ["a`b"]]]),
        (r"\*no\*", ["*", "no", "*"]),
        ("see [here](javascript:x)!", ["see ", "here (javascript:x)", "!"]),
        ("<b onclick=x>hi</b> &lt;", ["<b onclick=x>hi</b> &lt;"]),
    ],
)
def test_what_is_marked_in_a_text(run: Any, text: str, parts: list[Any]) -> None:
    assert run(f"tell(inline({json.dumps(text)}))") == parts


def test_blocks_are_those_of_commonmark(run: Any) -> None:
    text = (
        "# Head\nline 1\nline 2\n\n- a\n  - b\n    - b2\n- c\n\n  more\n\n3. one\n4. two\n"
        "```py\nx = 1\n\n- y\n```\n> q\n> r\n\n| a | b |\n|---|---|\n***\n~~~\nopen"
    )
    found = run(f"tell(blocks({json.dumps(text)}))")
    assert [(b["tag"], b.get("text"), b.get("items")) for b in found] == [
        ("h3", "Head", None),
        ("p", "line 1\nline 2", None),
        ("ul", None, ["a\n- b\n  - b2", "c\n\nmore\n"]),
        ("ol", None, ["one", "two"]),
        ("pre", "x = 1\n\n- y", None),
        ("blockquote", "q\nr", None),
        ("pre", "| a | b |\n|---|---|", None),
        ("hr", "", None),
        ("pre", "open", None),
    ]
    assert found[3]["start"] == 3


def test_what_is_obeyed_instead_of_shown_is_replaced(run: Any) -> None:
    text = "a\x1b[2J\u202eb\u2066c\x00\r\nd\U000e0041e é 日本 🙂\tf"
    (block,) = run(f"tell(blocks({json.dumps(text)}))")
    assert block["text"] == "a\ufffd[2J\ufffdb\ufffdc\ufffd\nd\ufffde é 日本 🙂\tf"


def test_hostile_text_costs_no_more_than_its_length(run: Any) -> None:
    """A pattern that tried everything would need hours for some of these."""
    hostile = (
        '["*a", "**a", "_a ", "`", "`a", "[", "[](", "> ", "- ", "- a\\n", "# ", "\\\\", "```\\n", '
        '"| ", "1. ", "**", "~~~\\n", "* * ", " "].map((each) => each.repeat(20000) + "x")'
    )
    unclosed = '[" **a", " *a", " __a"].map((each) => each.repeat(150000))'
    deep = 'Array.from({ length: 1000 }, (_, n) => " ".repeat(n) + "- a").join("\\n")'
    statements = (
        f"let n = 0; for (const text of [...{hostile}, ...{unclosed}, {deep}])"
        "{ blocks(text); inline(text); n += 1; } tell(n)"
    )
    assert run(statements) == 23


def test_events_are_read_once_however_they_are_cut(run: Any) -> None:
    stream = (
        'event: lucie.queue\ndata: {"ahead":2}\n\n:\n\n'
        'data: {"choices":[{"delta":{"content":"é\\n\\n"}}]}\n\ndata: [DONE]\n\n'
        "data: not json\n\ndata: null\n\n"
    )
    statements = (
        f"const all = {json.dumps(stream)}; const heard = [];"
        "const read = reader((event, content) => heard.push([event || '', content]));"
        "for (let n = 0; n <= all.length; n += 1) read(all.slice(0, n)); tell(heard)"
    )
    assert run(statements)[:2] == [
        ["lucie.queue", {"ahead": 2}],
        ["", {"choices": [{"delta": {"content": "é\n\n"}}]}],
    ]
    assert run(statements)[2:] == [["", {}]] * 3


STORE = (
    "const store = { kept: {}, getItem: (key) => store.kept[key] || null,"
    "setItem: (key, value) => { store.kept[key] = value; } };"
    "const talk = new Conversation(store);"
)


def test_what_is_sent_is_every_question_with_what_was_answered(run: Any) -> None:
    turns = [
        ("user", "a", ""), ("assistant", "", "stopped"),
        ("user", "b", ""), ("assistant", "B", "complete"),
        ("user", "too long", ""), ("assistant", "", "refused"),
        ("user", "c", ""), ("assistant", "", "writing"),
    ]  # fmt: skip
    added = "".join(
        f"talk.add({json.dumps(r)}, {json.dumps(c)}, {json.dumps(s)});" for r, c, s in turns
    )
    assert run(f"{STORE} {added} tell(talk.toSend())") == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "c"},
    ]


def test_of_more_than_a_request_holds_the_latest_is_sent(run: Any) -> None:
    statements = (
        f"{STORE} for (let n = 0; n < 8; n += 1) {{"
        "talk.add('user', `${n}` + 'é'.repeat(100000), ''); talk.add('assistant', 'x', ''); }"
        "talk.add('user', 'last', ''); const sent = talk.toSend();"
        "const begins = sent.map((message) => message.content[0]).join('');"
        "tell([begins, new Blob([JSON.stringify(sent)]).size])"
    )
    begins, size = run(statements)
    assert begins == "4x5x6x7xl"
    assert size < 1_000_000


def test_a_conversation_is_kept_within_bounds_and_taken_up_again(run: Any) -> None:
    statements = (
        f"{STORE} for (let n = 0; n < 50; n += 1) talk.add('user', `${{n}}`.padEnd(10000), '');"
        "const kept = talk.save(); const next = new Conversation(store); next.load();"
        "tell([kept, next.turns.length, next.turns[0].content.trim()])"
    )
    assert run(statements) == [True, 40, "10"]


@pytest.mark.parametrize(
    "kept",
    [
        "null",
        "{}",
        "[null]",
        "x",
        '"x"',
        "[1]",
        '[{"role":"system","content":"x"}]',
        '[{"role":"user"}]',
    ],
)
def test_what_is_no_conversation_is_not_taken_up(run: Any, kept: str) -> None:
    statements = f"{STORE} store.kept['lucie.conversation'] = {json.dumps(kept)}; talk.load();"
    assert run(f"{statements} tell([talk.turns, talk.toSend()])") == [[], []]


def test_a_browser_that_keeps_nothing_is_told_of(run: Any) -> None:
    statements = (
        "const full = { getItem() { return null; }, setItem() { throw new Error('full'); } };"
        "tell([null, full].map((store) => { const talk = new Conversation(store);"
        "talk.load(); return talk.save(); }))"
    )
    assert run(statements) == [False, False]
