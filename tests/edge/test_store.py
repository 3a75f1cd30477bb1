from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge.catalog
from edge.bundle import Bundle
from edge.catalog import Entry
from edge.errors import (
    DamagedModelError,
    LucieError,
    ModelError,
    StoreError,
    UnknownModelError,
    UsageError,
)
from edge.gguf_types import ValueType
from edge.manifest import File, Manifest, Parent
from edge.store import DEFAULT_MODEL, Model, Store
from tests.edge.gguf_files import Value, tiny
from tests.edge.hub_server import Hub, serving
from tests.namespaces import UNSHARE, namespaces


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    model = tiny("llama")
    model.set("general.license", ValueType.STRING, "mit")
    model.pairs["general.languages"] = Value(ValueType.ARRAY, ["fr", "en"], ValueType.STRING)
    return model.write(tmp_path / "My Model.Q4.gguf")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def hub(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as hub:
        hub.content = gguf.read_bytes()
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def entry(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The catalog with one entry, whose file the hub serves."""
    raw = gguf.read_bytes()
    entry = Entry(
        name="toy",
        title="Toy",
        sources=("hf:o/r/m.gguf@main",),
        licence="Apache-2.0",
        languages=("fr",),
        parameters=1,
        context=512,
        memory=1,
        notes={},
        data=({"name": "Gallica", "licence": "CC0-1.0"},),
        sha256=hashlib.sha256(raw).hexdigest(),
        size=len(raw),
    )
    catalog = {"toy": entry}
    for module in ("edge.catalog", "edge.adding"):
        monkeypatch.setattr(f"{module}.catalog", lambda: catalog)
    return entry


def left(store: Store) -> list[str]:
    """What is in the store besides bundles and locks."""
    paths = [path for path in store.root.rglob("*") if path.is_file()]
    names = [str(path.relative_to(store.root)) for path in paths]
    inside = (".locks/", *(f"{model.name}/" for model in store.list()))
    return sorted(name for name in names if not name.startswith(inside))


def refused(do: object, *args: object, **options: object) -> LucieError:
    assert callable(do)
    with pytest.raises(LucieError) as caught:
        do(*args, **options)
    assert str(caught.value)
    return caught.value


# --- finding --------------------------------------------------------------------------------


def test_an_empty_store_says_how_to_get_the_default_model(store: Store) -> None:
    error = refused(store.find)
    assert isinstance(error, UnknownModelError)
    assert f"lucie models add {DEFAULT_MODEL}" in str(error)
    assert store.list() == []


def test_a_name_that_nobody_knows_gets_the_names_that_are(store: Store, gguf: Path) -> None:
    store.add(str(gguf), name="mine")
    error = refused(store.find, "nothing")
    assert "mine" in str(error)
    assert DEFAULT_MODEL in str(error)


def test_the_setting_names_the_default(
    store: Store, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(str(gguf), name="mine")
    assert refused(store.find).code == "store.not-here"
    monkeypatch.setenv("LUCIE_MODEL", "mine")
    assert store.find().name == "mine"
    monkeypatch.setenv("LUCIE_MODEL", str(gguf))
    assert store.find().path == gguf


def test_a_plain_file_may_be_used_where_it_is(store: Store, gguf: Path) -> None:
    found = store.find(str(gguf))
    assert (found.name, found.path, found.manifest) == ("My Model.Q4", gguf, None)
    assert not store.root.exists()


def test_a_path_into_a_bundle_knows_its_manifest(store: Store, gguf: Path) -> None:
    added = store.add(str(gguf), name="mine")
    for path in (added.path, added.path.parent):
        assert store.find(str(path)) == added
    assert added.manifest is not None


def test_a_folder_from_elsewhere_is_the_one_model_in_it(
    store: Store, gguf: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    (folder / "onnx").mkdir(parents=True)
    shutil.copyfile(gguf, folder / "a.gguf")
    assert store.find(str(folder)) == Model("elsewhere", folder / "a.gguf", None)
    (folder / "onnx" / "model.onnx").touch()
    assert "2 files" in str(refused(store.find, str(folder)))
    (folder / "a.gguf").unlink()
    assert store.find(str(folder)).path == folder / "onnx" / "model.onnx"


def test_what_cannot_be_found(store: Store, tmp_path: Path) -> None:
    assert refused(store.find, "./none.gguf").code == "store.no-file"
    assert refused(store.find, "none.gguf").code == "store.no-file"
    assert refused(store.find, str(tmp_path)).code == "store.not-one-model"
    (tmp_path / "text").touch()
    assert refused(store.find, str(tmp_path / "text")).code == "store.wrong-suffix"
    for name in ("", "..", "../../etc", "a" * 5000, ".locks", "A", "a\0b", "é"):
        if name:
            assert isinstance(refused(store.find, name), UnknownModelError)
            assert isinstance(refused(store.get, name), UnknownModelError)


def test_finding_costs_no_heavy_import(store: Store, gguf: Path) -> None:
    store.add(str(gguf), name="mine")
    script = """
        import sys
        from edge.store import Store
        assert Store().find("mine").path.is_file()
        heavy = {"pydantic", "httpx", "numpy", "llama_cpp"} & set(sys.modules)
        assert not heavy, heavy
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


# --- adding ---------------------------------------------------------------------------------


def test_a_plain_file_becomes_a_bundle_of_unknown_provenance(store: Store, gguf: Path) -> None:
    told: list[int] = []
    model = store.add(str(gguf), progress=lambda done, _: told.append(done))
    assert model.name == "my-model.q4"
    assert store.find("my-model.q4") == model
    manifest = model.manifest
    assert manifest is not None
    assert manifest.provenance == "unknown"
    assert (manifest.licence, manifest.languages, manifest.data) == ("mit", ("fr", "en"), ())
    assert manifest.recipe == {"step": "import", "source": "file:My Model.Q4.gguf"}
    assert told[-1] == gguf.stat().st_size
    assert gguf.exists()
    assert model.path.name == "model.gguf"  # a name with a space is not kept
    assert store.verify(model.name).manifest == manifest
    assert left(store) == []


def test_a_model_of_the_catalog_comes_with_what_its_publisher_declares(
    store: Store, hub: Hub, entry: Entry
) -> None:
    model = store.add("toy")
    manifest = model.manifest
    assert manifest is not None
    assert (model.name, model.path.name) == ("toy", "m.gguf")
    assert manifest.provenance == "declared"
    assert manifest.data[0].name == "Gallica"
    assert manifest.files["m.gguf"].sha256 == entry.sha256
    assert left(store) == []
    store.add("toy")
    assert len(hub.seen) == 1  # it was there


def test_a_file_of_the_catalog_is_recognized_wherever_it_comes_from(
    store: Store, gguf: Path, entry: Entry
) -> None:
    model = store.add(str(gguf))
    manifest = model.manifest
    assert manifest is not None
    assert (model.name, manifest.licence, manifest.provenance) == ("toy", "Apache-2.0", "declared")


def test_a_hash_that_is_not_pinned_is_recorded(store: Store, hub: Hub) -> None:
    manifest = store.add("hf:o/r/m.gguf", name="hub").manifest
    assert manifest is not None
    digest = hashlib.sha256(hub.content).hexdigest()
    assert manifest.files == {"m.gguf": File(sha256=digest, size=len(hub.content))}
    assert manifest.provenance == "unknown"


def test_a_download_that_is_no_model_does_not_enter(store: Store, hub: Hub) -> None:
    hub.content = b"<html>Please log in</html>" * 100
    assert isinstance(refused(store.add, "hf:o/r/m.gguf"), ModelError)
    assert store.list() == []
    assert left(store) == []


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 64])
def test_a_file_that_is_no_model_is_not_copied(
    store: Store, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    assert isinstance(refused(store.add, str(path)), ModelError)
    assert not store.root.exists()


def test_an_interrupted_download_is_kept_and_taken_up(store: Store, hub: Hub, entry: Entry) -> None:
    def stop(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add("toy", progress=stop)
    assert left(store) == [".partial/toy/m.gguf.part", ".partial/toy/m.gguf.part.json"]
    assert store.list() == []
    store.add("toy")
    assert hub.starts()[-1] is not None
    assert left(store) == []


def test_a_name_that_is_taken_is_not_overwritten(store: Store, gguf: Path, hub: Hub) -> None:
    store.add(str(gguf), name="mine")
    assert refused(store.add, str(gguf), name="mine").code == "store.taken"
    assert refused(store.add, "hf:o/r/m.gguf", name="mine").code == "store.taken"
    assert hub.seen == []


@pytest.mark.parametrize("name", ["../x", "X", "a b", "", ".x", "-x", "x/y", "x" * 200])
def test_names_that_could_lead_elsewhere_are_refused(store: Store, gguf: Path, name: str) -> None:
    if name:
        error = refused(store.add, str(gguf), name=name)
        assert isinstance(error, UsageError)
        assert not store.root.exists()


def test_a_name_of_the_catalog_is_for_that_model_alone(store: Store, gguf: Path) -> None:
    for name in ("lucie-7b-instruct-v1.1", DEFAULT_MODEL):
        with pytest.raises(UsageError, match="name of a model of the catalog"):
            store.add(str(gguf), name=name)
    with pytest.raises(UsageError, match="cannot be called “”"):
        store.add(str(gguf), name="")
    assert store.list() == []


def test_what_is_neither_name_nor_source(store: Store, tmp_path: Path) -> None:
    assert refused(store.add, "nothing").code == "store.unknown"
    assert refused(store.add, "./nothing.gguf").code == "store.no-file"
    assert refused(store.add, str(tmp_path)).code == "store.not-a-model"
    assert isinstance(refused(store.add, "hf:nothing"), UsageError)


def test_two_adds_of_one_model_wait_for_each_other(store: Store, hub: Hub, entry: Entry) -> None:
    script = """
        from edge.store import Store
        with Store().locked("toy"):
            print("held", flush=True)
            input()
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        told: list[str] = []

        def notice(code: str, facts: dict[str, str]) -> None:
            told.append(code)
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()

        store.add("toy", notice=notice)
    assert told == ["store.waiting"]
    assert [model.name for model in store.list()] == ["toy"]


def test_the_second_of_two_adds_finds_the_model_of_the_first(
    store: Store, hub: Hub, entry: Entry
) -> None:
    """The line between them is held by the first until the second waits."""
    first = Store()

    def meanwhile(done: int, total: int | None) -> None:
        if done == total and not waiting:
            waiting.append(
                subprocess.Popen(
                    [sys.executable, "-c", _SECOND, hub.url, str(entry.sha256), str(entry.size)],
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            assert waiting[0].stderr
            assert waiting[0].stderr.readline() == "store.waiting\n"

    waiting: list[subprocess.Popen[str]] = []
    first.add("toy", progress=meanwhile)
    with waiting[0] as second:
        assert second.wait(30) == 0
    assert len(hub.seen) == 1


_SECOND = textwrap.dedent("""
    import sys
    import edge.adding, edge.catalog
    from edge.catalog import Entry
    from edge.store import Store
    entry = Entry("toy", "Toy", ("hf:o/r/m.gguf",), "x", (), 1, 1, 1, {}, (), sys.argv[2],
                  int(sys.argv[3]))
    edge.catalog.catalog = edge.adding.catalog = lambda: {"toy": entry}
    model = Store().add("toy", notice=lambda code, _: print(code, file=sys.stderr, flush=True))
    assert model.path.is_file()
    """)


def test_what_a_pulled_plug_left_is_swept_away(store: Store, gguf: Path) -> None:
    for name in (".tmp-mine-01234567", ".tmp-mine-removed", ".tmp-mine-too-01234567"):
        (store.root / name).mkdir(parents=True)
        (store.root / name / "half.gguf").touch()
    store.add(str(gguf), name="mine")
    assert left(store) == [".tmp-mine-too-01234567/half.gguf"]  # of another model, perhaps at work


def test_a_bundle_keeps_its_manifest_and_with_it_its_provenance(
    store: Store, gguf: Path, tmp_path: Path
) -> None:
    made = Bundle.write(
        tmp_path / "made",
        Manifest(
            kind="gguf",
            name="ours",
            provenance="recorded",
            parents=(Parent(name="teacher", sha256="0" * 64),),
        ),
        {"ours.gguf": gguf},
    )
    model = store.add(str(made.path))
    assert model.name == "ours"
    assert Bundle.open(store.root / "ours", verify=True).sha256 == made.sha256


def test_a_damaged_bundle_does_not_enter(store: Store, gguf: Path, tmp_path: Path) -> None:
    manifest = Manifest(kind="gguf", name="ours", provenance="recorded")
    made = Bundle.write(tmp_path / "made", manifest, {"ours.gguf": gguf})
    with (made.path / "ours.gguf").open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"?")
    assert isinstance(refused(store.add, str(made.path)), DamagedModelError)
    assert not store.root.exists()


def test_a_hugging_face_folder_is_kept_but_not_run(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "Some_Model"
    (folder / ".git").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "evil.py", "w.bin"):
        (folder / name).write_text("{}")
    model = store.add(str(folder))
    manifest = model.manifest
    assert manifest is not None
    assert (model.name, manifest.kind, manifest.provenance) == ("some_model", "model", "unknown")
    assert set(manifest.files) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert refused(store.find, "some_model").code == "store.not-runnable"
    store.verify("some_model")


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"config.json": "{}", "pytorch_model.bin": "x"}, "store.no-safetensors"),
        ({"config.json": "{", "model.safetensors": "x"}, "store.not-a-model"),
        ({"config.json": "[" * 99_999, "model.safetensors": "x"}, "store.not-a-model"),
    ],
)
def test_folders_that_are_no_model(
    store: Store, tmp_path: Path, files: dict[str, str], code: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert refused(store.add, str(tmp_path)).code == code


# --- verifying and removing -----------------------------------------------------------------


def test_verifying_finds_a_damaged_model(store: Store, gguf: Path) -> None:
    model = store.add(str(gguf), name="mine")
    store.verify("mine")
    with model.path.open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        handle.write(b"?")
    assert refused(store.verify, "mine").code == "bundle.wrong-hash"
    os.truncate(model.path, 100)
    assert refused(store.verify, "mine").code == "bundle.wrong-size"
    assert refused(store.verify, "other").code == "store.unknown"


def test_a_removed_model_stays_with_who_has_it_loaded(store: Store, gguf: Path) -> None:
    model = store.add(str(gguf), name="mine")
    content = gguf.read_bytes()
    with model.path.open("rb") as handle:
        loaded = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    with loaded:
        store.remove("mine")
        assert loaded[:] == content
    assert store.list() == []
    assert left(store) == []
    store.add(str(gguf), name="mine")


def test_removing_takes_what_had_come_of_it_and_damaged_ones_too(
    store: Store, gguf: Path, hub: Hub
) -> None:
    store.add(str(gguf), name="mine")
    store.partial("mine").mkdir()
    (store.partial("mine") / "m.gguf.part").touch()
    (store.root / "mine" / "manifest.json").write_text("{")
    store.remove("mine")
    assert left(store) == []
    shutil.copytree(gguf.parent, store.root / "strange")
    store.remove("strange")
    assert not (store.root / "strange").exists()


@pytest.mark.parametrize("name", ["mine", "../store", ".locks", ".partial", "", "/etc", "a/b"])
def test_only_models_can_be_removed(store: Store, gguf: Path, name: str) -> None:
    store.add(str(gguf), name="other")
    before = sorted(store.root.rglob("*"))
    assert isinstance(refused(store.remove, name), UnknownModelError)
    assert {*store.root.rglob("*")} - {*before} <= {store.root / ".locks" / "mine"}


def test_a_damaged_manifest_does_not_keep_the_model_from_being_listed(
    store: Store, gguf: Path
) -> None:
    model = store.add(str(gguf), name="mine")
    (store.root / "mine" / "manifest.json").write_text(json.dumps({"format": 1}))
    assert store.list() == [model]
    assert refused(lambda: model.manifest).code == "bundle.bad-manifest"


# --- disks ----------------------------------------------------------------------------------


def test_a_store_that_cannot_be_made_is_an_error_with_its_path(tmp_path: Path, gguf: Path) -> None:
    (tmp_path / "file").touch()
    error = refused(Store(tmp_path / "file" / "models").add, str(gguf))
    assert isinstance(error, StoreError)
    assert error.code == "store.io"
    assert str(tmp_path / "file") in str(error)


_FULL = textwrap.dedent("""
    import os, sys
    import edge.download
    from edge.errors import StoreError
    from edge.store import Store
    from pathlib import Path
    # The check before would find that there is no room; here the disk fills up meanwhile.
    edge.download.SPARE = -(1 << 40)
    store = Store(Path(sys.argv[1]))
    try:
        store.add(sys.argv[2], name="mine")
    except StoreError as error:
        assert error.code == "store.disk-full", error
        print(sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file()))
    else:
        print("added")
    """)


@namespaces
@pytest.mark.parametrize("source", ["file", "hub"])
def test_a_disk_that_fills_up_leaves_only_what_can_be_continued(
    tmp_path: Path, hub: Hub, source: str
) -> None:
    big = tiny("llama", n_layer=40).write(tmp_path / "big.gguf")
    assert big.stat().st_size > 1_200_000
    hub.content = big.read_bytes()
    disk = tmp_path / "disk"
    disk.mkdir()
    text = str(big) if source == "file" else "hf:o/r/m.gguf"
    shell = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    command = [*UNSHARE, "sh", "-c", shell, str(disk)]
    command += [sys.executable, "-c", _FULL, str(disk / "models"), text]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    part = ".partial/mine/m.gguf.part"
    expected = [".locks/mine"] if source == "file" else [".locks/mine", part, f"{part}.json"]
    assert ran.stdout.strip() == str(expected)


def test_the_real_default_model_enters_from_a_file(store: Store, model_path: Path) -> None:
    if model_path.stat().st_size != edge.catalog.catalog()[DEFAULT_MODEL].size:
        pytest.skip("another model was chosen for the tests")
    model = store.add(str(model_path))
    assert model.name == DEFAULT_MODEL
    assert store.find() == model
    assert model.manifest is not None
    assert model.manifest.provenance == "declared"
