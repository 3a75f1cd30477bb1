"""The command `lucie`: what it lists, what it imports, how it ends."""

from __future__ import annotations

import gettext
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po

from edge import cli
from edge.errors import (
    CheckpointError,
    InterruptedByUserError,
    LucieError,
    UnknownModelError,
    UsageError,
)

CATALOGUE = Path(cli.__file__).parent / "locale/fr/LC_MESSAGES"
OTHERS = """
import click

@click.command()
def good():
    click.echo("done")

@click.command()
@click.argument("number", type=int)
def number(number):
    click.get_current_context().exit(number)

@click.command()
def heavy():
    import not_installed_anywhere

word = "not a command"
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution of somebody else that adds commands."""
    (tmp_path / "others_commands.py").write_text(OTHERS, encoding="utf-8")
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        "[lucie.commands]\n"
        "good = others_commands:good\nnumber = others_commands:number\n"
        "heavy = others_commands:heavy [train]\nbare = others_commands:heavy\n"
        "word = others_commands:word\ngone = others_commands_gone:x [images]\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("others_commands", None)


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes `lucie fail` raise."""
    build = cli.group

    def set_up(error: BaseException) -> None:
        @click.command()
        def fail() -> None:
            raise error

        def group() -> click.Group:
            lucie = build()
            lucie.add_command(fail)
            return lucie

        monkeypatch.setattr(cli, "group", group)

    return set_up


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_help_lists_commands_and_imports_none(
    others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("chat", "doctor", "models", "run", "serve"):
        assert f"\n  {name} " in out
    assert "Talk with a model in the terminal." in out
    assert re.search(r"\n  good +good\n", out), "a command without a text of ours shows its name"
    assert "others_commands" not in sys.modules


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edge.cli import main; main(['--help'])\n"
        "heavy = {'numpy', 'httpx', 'pydantic', 'textual', 'starlette', 'llama_cpp', 'jinja2',"
        " 'logging', 'importlib.metadata', 'asyncio', 'json', 'subprocess'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lucie, version {cli.__version__}\n"


def test_without_a_command_it_chats(monkeypatch: pytest.MonkeyPatch) -> None:
    build = cli.group
    called = []

    def group() -> click.Group:
        lucie = build()
        lucie.add_command(click.Command("chat", callback=lambda: called.append("chat")))
        return lucie

    monkeypatch.setattr(cli, "group", group)
    assert cli.main([]) == 0
    assert called == ["chat"]


def test_options_of_the_chat_need_not_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for args in (["chat", "--server", "x:y"], ["--server", "x:y"], ["-v", "--server=x:y"]):
        assert cli.main(args) == 2
        said.append(capsys.readouterr().err)
    assert said == [said[0]] * 3
    assert "No such option" not in said[0]


def test_runs_a_command_and_passes_its_exit_code_on(
    others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["good"]) == 0
    assert capsys.readouterr().out == "done\n"
    assert cli.main(["number", "7"]) == 7


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["heavy"], "`lucie heavy` needs: pip install 'lucie-edge[train]'"),
        (["gone"], "`lucie gone` needs: pip install 'lucie-edge[images]'"),
        (["bare"], "not_installed_anywhere is missing"),
        (["word"], "others_commands holds no command"),
    ],
)
def test_says_what_a_command_lacks(
    others: Path, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("lucie: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["modls"], "No such command 'modls'. Did you mean 'models'? Try 'lucie --help' for help."),
        (["--nonsense"], "No such option '--nonsense'. Try 'lucie --help' for help."),
        (["number"], "Missing argument 'NUMBER'. Try 'lucie number --help' for help."),
        (["number", "x"], "'x' is not a valid int"),
    ],
)
def test_wrong_use_is_one_line_with_a_hint(
    others: Path, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (LucieError("cli.broken-install", module="x"), 1, "lucie: The Python module x is missing"),
        (UnknownModelError("cli.broken-install", module="x"), 1, "lucie: The Python module x"),
        (UsageError("cli.broken-install", module="x"), 2, "lucie: The Python module x is missing"),
        (click.ClickException("so it is"), 1, "lucie: so it is\n"),
        (PermissionError(13, "Permission denied", "a/b"), 1, "lucie: a/b: Permission denied. Give"),
        (OSError(36, "File name too long", "a" * 300), 1, "lucie: aaa"),
        (NotADirectoryError(20, "Not a directory", b"a/b"), 1, "lucie: a/b: Not a directory. Name"),
        (InterruptedByUserError("cli.broken-install", module="x"), 130, ""),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_an_error_is_shown_once_with_its_exit_code(
    raising: Callable[[BaseException], None],
    error: BaseException,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(error)
    assert cli.main(["fail"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == bool(said)


def test_an_import_that_ctrl_c_has_broken_asks_for_no_package() -> None:
    code = (
        "import os, signal, sys; from edge import cli, interrupt\n"
        "interrupt.end_as_by_ctrl_c()\n"
        "try: os.kill(os.getpid(), signal.SIGINT)\n"
        "except BaseException: sys.modules['distill.commands.plan'] = None\n"
        "sys.exit(cli.main(['distill', 'plan', '1b']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_an_error_steers_no_terminal(
    raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(CheckpointError("checkpoint.no-file", path="a\x1b[31m\x07\x9b\rb/é\u202f😀"))
    assert cli.main(["fail"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("lucie: a\ufffd[31m\ufffd\ufffd\ufffdb/é\u202f😀 is missing. ")
    assert err.count("\n") == 1


def test_a_mistake_of_ours_is_not_hidden(raising: Callable[[BaseException], None]) -> None:
    raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["fail"])


def test_a_closed_pipe_is_no_news() -> None:
    code = "import sys; from edge.cli import main; sys.stdin.read(); sys.exit(main(['--help']))"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(b"go")
    assert err == b""
    assert child.returncode == 1


def test_verbose_logs_to_stderr() -> None:
    code = (
        "import click, logging, sys\nfrom edge import cli\nbuild = cli.group\n"
        "def group():\n lucie = build()\n"
        " talk = lambda: logging.getLogger('x').info('hello')\n"
        " lucie.add_command(click.Command('talk', callback=talk))\n"
        " return lucie\n"
        "cli.group = group\nsys.exit(cli.main(sys.argv[1:]))"
    )
    quiet, loud = (
        subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
        for args in (["talk"], ["-v", "talk"])
    )
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert loud.stdout == ""
    assert loud.stderr.endswith("INFO x: hello\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["--help"],
            [
                "Utilisation : lucie",
                "Commandes\u00a0:",
                "Afficher cette aide et quitter.",
                "Dialoguer",
            ],
        ),
        (
            ["chta"],
            ["Commande inconnue : 'chta'. Vouliez-vous dire 'chat' ?", "Aide : « lucie --help »."],
        ),
        (["--nonsense"], ["Option inconnue : '--nonsense'."]),
    ],
)
def test_speaks_french(
    args: list[str],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    monkeypatch.setenv("LANGUAGE", "de")  # restored afterwards, as main() sets it
    cli.main(args)
    out, err = capsys.readouterr()
    for words in said:
        assert words in out + err


def test_the_compiled_catalogue_is_that_of_its_source() -> None:
    with (CATALOGUE / "click.mo").open("rb") as compiled:
        french = gettext.GNUTranslations(compiled)
    for message in po_messages():
        if message.pluralizable:
            read = tuple(french.ngettext(*message.id, n) for n in (1, 2))
        else:
            read = french.gettext(message.id)
        assert read == message.string, "pybabel compile -i click.po -o click.mo"


def po_messages() -> list[Message]:
    with (CATALOGUE / "click.po").open("rb") as source:
        return [message for message in read_po(source) if message.id]


def test_the_catalogue_translates_words_that_click_says() -> None:
    """A new click may say something else; then the catalogue is to be mended."""
    sources = "".join(path.read_text("utf-8") for path in Path(click.__file__).parent.glob("*.py"))
    for message in po_messages():
        first = message.id[0] if message.pluralizable else message.id
        said = first.encode("unicode_escape").decode()
        assert said in sources, said


def test_stdout_stays_clean_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["chta"])
    assert capsys.readouterr().out == ""


_INTERRUPTED = """
import os, signal, sys
fatal = sys.argv[1]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == fatal:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from edge.program import main
sys.argv[1:] = ["models", "list"]
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["edge.cli", "click", "edge.streams"])
def test_ctrl_c_while_it_is_being_imported_says_nothing(module: str) -> None:
    command = [sys.executable, "-c", _INTERRUPTED, module]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


_ENDING = """
import os, signal, sys, threading
from edge.program import main
class Last(threading.Thread):
    def join(self, timeout=None):
        os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
threading._register_atexit(Last().join)
sys.argv[1:] = ["models", "list"]
sys.exit(main())
"""


def test_ctrl_c_while_python_ends_says_nothing() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ENDING], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
