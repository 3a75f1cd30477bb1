"""The page of a server: what it is made of, in which language, and what it lets a browser do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from edge.messages import LANGUAGES, entries
from edge.server.page import files
from tests.edge.servers import Running, read_all, running, scripted

FOLDER = Path(files.__file__).parent
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".css", ".js", ".svg"))
PROGRAM = "import sys; from edge.program import main; sys.exit(main())"
MOST = 30_000
"""Bytes of the page with all that it is made of."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with scripted(tmp_path_factory.mktemp("s")) as running:
        yield running


def get(server: Running, path: str, **headers: str) -> httpx.Response:
    with server.http() as http:
        return http.get(path, headers={name.replace("_", "-"): v for name, v in headers.items()})


class Elements(HTMLParser):
    """Tags with their attributes, and what stands in the element of the texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][1].get("id") == "texts":
            self.texts += data

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.found if (value := attributes.get(name))]


@pytest.mark.parametrize(
    ("path", "accepted", "lang"),
    [
        ("/", "fr-FR,fr;q=0.9,en;q=0.8", "fr"),
        ("/", "de-DE,de;q=0.9", "en"),
        ("/?lang=fr", "en", "fr"),
        ("/?lang=en", "fr", "en"),
        ("/?lang=<b>", "fr", "fr"),
    ],
)
def test_the_page_speaks_the_language_that_is_asked_for(
    server: Running, path: str, accepted: str, lang: str
) -> None:
    response = get(server, path, accept_language=accepted)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-language"] == lang
    assert response.headers["vary"] == "accept-language"
    elements = Elements(response.text)
    assert elements.found[0] == ("html", {"lang": lang})
    assert {"en": "Français", "fr": "English"}[lang] in response.text
    assert f"?lang={'fr' if lang == 'en' else 'en'}" in elements.values("href")
    assert json.loads(elements.texts) == entries("talk", lang)
    assert "{{" not in response.text


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in NAMES)])
def test_a_browser_is_told_to_run_and_load_nothing_else(server: Running, path: str) -> None:
    response = get(server, path)
    assert response.status_code == 200
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", "": "text/html"}
    kind = f"{kinds[Path(path).suffix]}; charset=utf-8"
    assert response.headers["content-type"] == kind
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in response.headers
    policy = dict(
        part.partition(" ")[::2] for part in response.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert {value for name, value in policy.items() if name.endswith("-src")} <= {
        "'none'",
        "'self'",
    }


def test_the_page_names_no_other_server_and_holds_no_script(server: Running) -> None:
    page = Elements(get(server, "/").text)
    loaded = [
        *page.values("src"),
        *(h for h in page.values("href") if not h.startswith(("?", "#"))),
    ]
    assert sorted(loaded) == ["page/chat.css", "page/chat.js", "page/icon.svg"]
    assert not [
        attributes for _, attributes in page.found if {"style", "onclick"} & set(attributes)
    ]
    scripts = [attributes for tag, attributes in page.found if tag == "script"]
    assert [script.get("type") for script in scripts] == ["module", "application/json"]
    for name in NAMES:
        source = (FOLDER / name).read_text(encoding="utf-8")
        shown = re.sub(r"//.*|/\*[^*]*\*/", "", source) if name != "icon.svg" else ""
        assert not re.search(r"https?:|innerHTML|outerHTML|insertAdjacent|document\.write", shown)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_it_is_small(server: Running, lang: str) -> None:
    page = get(server, f"/?lang={lang}").content
    assert len(page) + sum(len(get(server, f"/page/{name}").content) for name in NAMES) <= MOST


def test_what_a_browser_has_is_not_sent_again(server: Running) -> None:
    for path in ("/", "/page/chat.js"):
        first = get(server, path)
        assert first.headers["cache-control"] == "no-cache"
        again = get(server, path, if_none_match=f'W/"x", {first.headers["etag"]}')
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert get(server, path, if_none_match='"other"').status_code == 200
    tags = {get(server, f"/?lang={lang}").headers["etag"] for lang in LANGUAGES}
    assert len(tags) == len(LANGUAGES)


def test_a_class_that_opens_the_page_leaves_no_idle_connections(server: Running) -> None:
    with server.connect() as opened:
        opened.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = read_all(opened).partition(b"\r\n\r\n")[0]
    assert b"connection: close" in head.lower().splitlines()


@pytest.mark.parametrize("name", ["chat.html", "files.py", "..%2fapp.py", "__init__.py", "x"])
def test_nothing_else_is_given_out(server: Running, name: str) -> None:
    response = get(server, f"/page/{name}")
    assert response.status_code == 404
    assert response.json()["lucie"]["code"] == "server.wrong-path"


def test_only_reading_is_allowed(server: Running) -> None:
    assert server.post("/", {}).status_code == 405
    with server.http() as http:
        assert http.head("/").status_code == 200


def test_behind_a_forwarder_the_page_answers_to_any_name(server: Running) -> None:
    for host in ("10.42.0.1", "lucie.local", "10.42.0.1:8080"):
        assert get(server, "/", host=host).status_code == 200


def test_a_page_of_another_origin_gets_no_answer(server: Running) -> None:
    """A browser sends JSON elsewhere only where the answer to its question allows it."""
    asked = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    hello = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    with server.http() as http:
        preflight = http.options("/v1/chat/completions", headers=asked)
        responses = [preflight, http.get("/about", headers=asked), http.get("/", headers=asked)]
        assert preflight.status_code == 405
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            plain = {**asked, "Content-Type": kind}
            sent = http.post("/v1/chat/completions", content=json.dumps(hello), headers=plain)
            assert sent.status_code == 415
            responses.append(sent)
    allowed = [name for each in responses for name in each.headers if name.startswith("access-")]
    assert allowed == []


def test_the_page_is_there_before_the_model(tmp_path: Path) -> None:
    with scripted(tmp_path, "--load-s", "20", ready=False) as server:
        assert get(server, "/").status_code == 200
        assert get(server, "/page/chat.js").status_code == 200
        refused = get(server, "/about", accept_language="fr")
        assert refused.status_code == 503
        assert "chargement" in refused.json()["error"]["message"]


def test_what_is_known_of_the_model_is_told(model_path: Path, home: Path) -> None:
    from edge.store import Store

    Store().add(f"file:{model_path}", name="smollm2-135m-instruct")
    path = home / "s.sock"
    with running(
        path, "-c", PROGRAM, "serve", "--socket", str(path), "--ctx-size", "512"
    ) as server:
        told = {
            fact["label"]: fact["value"]
            for fact in get(server, "/about", accept_language="fr").json()["facts"]
        }
    assert told["Paramètres"] == "134\u00a0515\u00a0008"
    assert told["Contexte"] == "512 jetons"
    assert told["Licence"] == "Apache-2.0"
    assert "FineWeb-Edu (ODC-By-1.0)" in told["Entraîné sur"]
    assert "Selon les déclarations" in told["Entraîné sur"]


def test_that_nothing_is_known_is_told(model_path: Path, home: Path) -> None:
    path, plain = home / "s.sock", home / "plain.gguf"
    shutil.copy(model_path, plain)  # a link would lead to what is known
    options = ("--socket", str(path), "--model", str(plain), "--ctx-size", "512")
    with running(path, "-c", PROGRAM, "serve", *options) as server:
        facts = get(server, "/about").json()["facts"]
    assert facts[0] == {"label": "Name", "value": "plain"}
    assert facts[-1]["value"].startswith("Nothing more is known")


def test_every_text_of_the_page_is_said_somewhere() -> None:
    html = (FOLDER / "chat.html").read_text(encoding="utf-8")
    assert set(re.findall(r"\{\{page\.([a-z-]+)\}\}", html)) == set(entries("page", "en"))
    script = (FOLDER / "chat.js").read_text(encoding="utf-8")
    literals = set(re.findall(r'"([a-z-]+)"', script))
    # A turn’s role, and the reason of an answer’s end.
    built = {"user", "assistant", "length"}
    assert set(entries("talk", "en")) - built <= literals
    calls = re.findall(r"say\(([^()]*)[,)]", script)
    said = {name for call in calls for name in re.findall(r'"([a-z-]+)"', call)}
    assert said <= set(entries("talk", "en"))


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", css))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5; 1.4.11: of 3 for what marks a control or a state."""
    css = (FOLDER / "chat.css").read_text(encoding="utf-8")
    light, _, dark = css.partition("@media (prefers-color-scheme: dark)")
    found = colours(light) if scheme == "light" else colours(dark)
    pairs = {
        4.5: [
            *((text, on) for text in ("text", "muted", "accent", "error") for on in ("ground",)),
            ("text", "raised"), ("muted", "raised"), ("text", "said"), ("on-accent", "accent"),
        ],
        3: [("ready", "ground"), ("busy", "ground"), ("muted", "ground")],
    }  # fmt: skip
    for least, those in pairs.items():
        for front, back in those:
            one, other = sorted((luminance(found[front]), luminance(found[back])))
            assert (other + 0.05) / (one + 0.05) >= least, (front, back)
