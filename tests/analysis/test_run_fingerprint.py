"""Change anything that can change a number, and the old result is never returned; change nothing, and it is.

Each case makes a call with `out=`, twice: the second one must load what the first left, without computing. Then one thing is
changed, and the same call must be refused; put back, the old result is returned again. What a run computes is left out here
(`quick`): a run counts as finished when its record lies in its folder. `TestWhole` goes through real runs.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import probekit as pk
from probekit.analysis import runner
from probekit.analysis.settings import Settings
from probekit.errors import InputError, ModelError, StaleError
from probekit.model.folder import NANO_FOLDER
from probekit.results.run import Run
from probekit.storage import contents, manifest, store

IDS = np.arange(2_048)
WORDS = "the cat sat on a mat and then it saw that the dog had been here before us ".split()  # noqa: SIM905


class Progress(Run):
    """A run that says whether it was computed or loaded, and nothing else."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __eq__(self, other: object) -> bool:
        return self.word == other

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that compute nothing: finished when their record is written."""

    def in_folder(job: Any, folder: Path, watch: Any, *, force: bool, temporary: Any = None) -> Run:
        if manifest.state_of(folder, job.record) == "other" and not force:
            manifest.require_same(folder, job.record)
        head = {"schema": manifest.RECORD_SCHEMA, "format": manifest.FORMAT}
        store.write_sealed(folder / manifest.RECORD, head | job.record)
        store.write_sealed(folder / manifest.COMMIT, head | {"schema": manifest.RESULTS_SCHEMA})
        (folder / manifest.REPORT).write_text("")
        return Progress("computed")

    monkeypatch.setattr(runner, "_in_folder", in_folder)
    monkeypatch.setattr(runner, "Run", lambda folder: Progress("loaded"))


@dataclass
class Case:
    """One thing that can be changed."""

    options: Callable[[], dict[str, Any]]
    """The call, built anew each time."""
    change: Callable[[], Any]
    """Changes the one thing."""
    restore: Callable[[], Any] | None = None
    """Puts it back, where that can be done."""


def require_told(case: Case, out: Path, call: Callable[..., Any] = pk.analyze) -> None:
    """Demand that the change is seen, and that nothing else is."""
    assert call(**case.options(), out=out, progress=False) == "computed"
    assert call(**case.options(), out=out, progress=False) == "loaded"
    case.change()
    with pytest.raises(StaleError, match="holds another run"):
        call(**case.options(), out=out, progress=False)
    if case.restore is not None:
        case.restore()
        assert call(**case.options(), out=out, progress=False) == "loaded"


def text(seed: int, n_docs: int = 40) -> str:
    rng = np.random.default_rng(seed)
    return "\n\n".join(" ".join(rng.choice(WORDS, 300)) + "." for _ in range(n_docs))


def masks(period: int = 2) -> pk.Concepts:
    return pk.Concepts.from_vocab({"a": IDS % period == 0, "b": IDS % 3 == 0})


def overwrite(path: Path, at: int, data: bytes) -> bytes:
    """Write into the middle of a file and put its time of writing back; returns what stood there."""
    held = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        before = file.read(len(data))
        file.seek(at)
        file.write(data)
    os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))
    assert path.stat().st_size == held.st_size
    assert path.stat().st_mtime_ns == held.st_mtime_ns
    return before


def edited(path: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """An edit in place of a file's middle, at the same size and time, and its undoing."""
    at, kept = path.stat().st_size // 2, []

    def change() -> None:
        with path.open("rb") as file:
            file.seek(at)
            kept.append(overwrite(path, at, bytes(byte ^ 1 for byte in file.read(4))))

    return change, lambda: overwrite(path, at, kept[0])


# ---------------------------------------------------------------------------------- settings

SETTINGS: dict[str, Any] = {
    "max_tokens": 6_001, "context": 100, "max_pairs": 7, "min_support": 11, "twins": 5, "q": 0.1, "seed": 1,
    "twin_ks": (4, 16), "controls": (), "spikes": (1.0,), "fdr": "by", "heldout_types": True,
}  # fmt: skip
OPTIONS: dict[str, Any] = {"layers": [0], "twins": 4, "max_tokens": 6_000, "min_support": 10, "device": "cpu"}


def in_settings() -> dict[str, Any]:
    """One other value for each field of `Settings`; a field that is added must be given one here."""
    ours = {field.name for field in fields(Settings)}
    others = {name: value for name, value in {"skip_first": 3}.items() if name in ours}
    assert ours == set(SETTINGS) | set(others), "a setting without a case in this test"
    return SETTINGS | others | {"layers": [1], "pairs": "support", "dtype": "bfloat16"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", in_settings())
def test_a_setting(name: str, tmp_path: Path) -> None:
    options = {"model": "nano", "corpus": pk.Corpus.from_texts([text(0)]), "concepts": masks()} | OPTIONS
    require_told(
        Case(lambda: dict(options), lambda: options.update({name: in_settings()[name]})), tmp_path / "run"
    )


# ------------------------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """nano in a folder of its own."""
    return Path(shutil.copytree(NANO_FOLDER, tmp_path / "model"))


@pytest.mark.usefixtures("quick")
class TestModelFiles:
    def case(self, folder: Path, change: Any, restore: Any = None) -> Case:
        options = {"corpus": pk.Corpus.from_texts([text(0)]), "concepts": masks(), **OPTIONS}
        return Case(lambda: {"model": folder, **options}, change, restore)

    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
    def test_the_middle_of_a_file(self, folder: Path, tmp_path: Path, name: str) -> None:
        require_told(self.case(folder, *edited(folder / name)), tmp_path / "run")

    def test_the_weights_of_one_layer(self, folder: Path, tmp_path: Path) -> None:
        file = folder / "model.safetensors"

        def change() -> None:
            weights = load_file(file)
            name = next(name for name in weights if "2.mlp.c_fc.weight" in name)
            save_file(
                weights | {name: 1.3 * weights[name].flip(0).contiguous()}, file, metadata={"format": "pt"}
            )

        require_told(self.case(folder, change), tmp_path / "run")

    def test_a_further_file(self, folder: Path, tmp_path: Path) -> None:
        more = folder / "adapter_config.json"
        require_told(self.case(folder, lambda: more.write_text("{}"), more.unlink), tmp_path / "run")

    def test_a_part_that_an_index_names(self, folder: Path, tmp_path: Path) -> None:
        part = folder / "parts" / "model-1.safetensors"
        part.parent.mkdir()
        part.write_bytes(bytes(100))
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"w": "parts/model-1.safetensors"}})
        )
        require_told(self.case(folder, *edited(part)), tmp_path / "run")

    def test_other_checkpoints_below_it_do_not_matter(self, folder: Path, tmp_path: Path) -> None:
        call = self.case(folder, lambda: None).options
        assert pk.analyze(**call(), out=tmp_path / "run", progress=False) == "computed"
        (folder / "checkpoint-1").mkdir()
        (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"x")
        assert pk.analyze(**call(), out=tmp_path / "run", progress=False) == "loaded"

    def test_a_hub_name_stands_for_the_files_in_the_cache(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache, commit = tmp_path / "cache", "0" * 40
        snapshot = cache / "models--me--tiny" / "snapshots" / commit
        shutil.copytree(folder, snapshot)
        (cache / "models--me--tiny" / "refs").mkdir()
        (cache / "models--me--tiny" / "refs" / "main").write_text(commit)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        options = {"corpus": pk.Corpus.from_texts([text(0)]), "concepts": masks(), **OPTIONS}
        case = Case(lambda: {"model": "me/tiny", **options}, *edited(snapshot / "model.safetensors"))
        require_told(case, tmp_path / "run")


class TestRememberedDigests:
    """Digests of large files are kept with their stamps; what changes a file changes its stamp."""

    @pytest.fixture(autouse=True)
    def large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROBEKIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(contents, "REMEMBERED_FROM", 1)
        monkeypatch.setattr(contents, "SETTLED_NS", -1)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "weights.bin"
        path.write_bytes(np.random.default_rng(0).bytes(100_000))
        return path

    def test_a_file_is_read_once(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = contents.Contents().of_file(file)
        monkeypatch.setattr(contents, "of_file", lambda path, progress=None: pytest.fail("read again"))
        assert contents.Contents().of_file(file) == first

    def test_an_edit_in_place_is_seen_though_size_and_time_of_writing_are_the_same(self, file: Path) -> None:
        first, inode = contents.Contents().of_file(file), file.stat().st_ino
        time.sleep(0.02)  # clocks of file systems tick every few milliseconds; SETTLED_NS waits for that
        overwrite(file, 50_000, b"other")
        assert file.stat().st_ino == inode
        assert contents.Contents().of_file(file) != first

    def test_a_file_that_was_written_a_moment_ago_is_not_remembered(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Within one tick of the clock a second write leaves the same stamp."""
        monkeypatch.setattr(contents, "SETTLED_NS", 60 * 10**9)
        first, held = contents.Contents().of_file(file), contents.Stamp.of(file)
        file.write_bytes(bytes(100_000))
        monkeypatch.setattr(contents.Stamp, "of", classmethod(lambda cls, path: held))
        assert contents.Contents().of_file(file) != first

    def test_a_damaged_note_is_not_believed(self, file: Path, tmp_path: Path) -> None:
        first = contents.Contents().of_file(file)
        (note,) = (tmp_path / "cache" / "digests").iterdir()
        note.write_bytes(note.read_bytes().replace(first.encode(), b"0" * 32))
        assert contents.Contents().of_file(file) == first

    def test_progress_is_told_in_bytes(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contents, "TOLD_FROM", 1)
        told: list[tuple[str, int, int]] = []
        contents.Contents(lambda what, done, total: told.append((what, done, total))).of_file(file)
        assert told == [("hashing files", 100_000, 100_000)]


@pytest.mark.usefixtures("quick")
class TestText:
    def case(self, corpus: Callable[[], Any], change: Any, restore: Any = None) -> Case:
        options = {"model": "nano", "concepts": masks(), **OPTIONS}
        return Case(lambda: {"corpus": corpus(), **options}, change, restore)

    def test_the_middle_of_a_text_file(self, tmp_path: Path) -> None:
        file = tmp_path / "corpus.txt"
        file.write_text(text(0, n_docs=3_000))
        assert file.stat().st_size > 2 * 2**20
        require_told(self.case(lambda: file, *edited(file)), tmp_path / "run")

    @pytest.mark.parametrize("how", ["path", "corpus", "folder"])
    def test_a_table(self, how: str, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        file = folder / "rows.jsonl"
        file.write_text("".join(json.dumps({"text": text(n, 1)}) + "\n" for n in range(30)))
        given = {
            "path": lambda: str(file),
            "corpus": lambda: pk.Corpus.from_file(file),
            "folder": lambda: str(folder),
        }[how]
        where = file.read_text().index("cat", file.stat().st_size // 2)

        def change() -> None:
            overwrite(file, where, b"dog")

        require_told(self.case(given, change, lambda: overwrite(file, where, b"cat")), tmp_path / "run")

    def test_another_column_of_a_table(self, tmp_path: Path) -> None:
        file, column = tmp_path / "rows.jsonl", ["one"]
        file.write_text(
            "".join(json.dumps({"one": text(n, 1), "two": text(99 + n, 1)}) + "\n" for n in range(30))
        )
        case = self.case(
            lambda: pk.Corpus.from_file(file, column=column[0]),
            lambda: column.__setitem__(0, "two"),
            lambda: column.__setitem__(0, "one"),
        )
        require_told(case, tmp_path / "run")

    def test_a_file_read_before_it_was_edited_is_what_it_was(self, tmp_path: Path) -> None:
        """The texts in memory are analysed, so they are what counts, not the file they came from."""
        file = tmp_path / "corpus.txt"
        file.write_text(text(0))
        held, out = pk.Corpus.from_file(file), tmp_path / "run"
        options = self.case(lambda: held, None).options
        assert pk.analyze(**options(), out=out, progress=False) == "computed"
        file.write_text(text(1))
        assert pk.analyze(**options(), out=out, progress=False) == "loaded"
        with pytest.raises(StaleError, match="it differs in corpus"):
            pk.analyze(**options() | {"corpus": pk.Corpus.from_file(file)}, out=out, progress=False)

    def test_one_character_in_memory(self, tmp_path: Path) -> None:
        texts = [text(n, 1) for n in range(10)]
        case = self.case(
            lambda: pk.Corpus.from_texts(texts),
            lambda: texts.__setitem__(9, texts[9].replace("cat", "car", 1)),
            lambda: texts.__setitem__(9, texts[9].replace("car", "cat", 1)),
        )
        require_told(case, tmp_path / "run")

    def test_where_one_text_ends(self, tmp_path: Path) -> None:
        texts = ["the cat sat", "on a mat"]
        case = self.case(
            lambda: pk.Corpus.from_texts(texts),
            lambda: texts.__setitem__(slice(None), ["the cat", " saton a mat"]),
        )
        require_told(case, tmp_path / "run")

    def test_one_id(self, tmp_path: Path) -> None:
        ids = np.random.default_rng(0).integers(1, 2_000, (50, 30))
        case = self.case(
            lambda: pk.Corpus.from_tokens(ids),
            lambda: ids.__setitem__((25, 15), ids[25, 15] + 1),
            lambda: ids.__setitem__((25, 15), ids[25, 15] - 1),
        )
        require_told(case, tmp_path / "run")

    def test_a_dataset_in_memory(self, tmp_path: Path) -> None:
        from datasets import Dataset

        rows = [text(n, 1) for n in range(10)]
        case = self.case(
            lambda: Dataset.from_dict({"text": rows}), lambda: rows.reverse(), lambda: rows.reverse()
        )
        require_told(case, tmp_path / "run")

    def test_the_offline_corpus_is_told_by_its_texts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PROBEKIT_CACHE", str(tmp_path / "cache"))
        rows = ["A documented function does what it says, and this one says nothing.", "Another."]
        monkeypatch.setattr("probekit.text.corpus.docstrings", lambda split: iter(rows))
        case = self.case(lambda: None, lambda: (rows.pop(), shutil.rmtree(tmp_path / "cache")))
        require_told(case, tmp_path / "run")

    def test_a_stream_without_end_has_a_digest(self, tmp_path: Path) -> None:
        """Only what a run can read is looked at: as many documents as it reads tokens."""

        def endless() -> Any:
            while True:
                yield text(0, 1)

        corpus = pk.Corpus(name="endless", source=endless)
        options = self.case(lambda: corpus, None).options() | {"max_tokens": 100}
        assert pk.analyze(**options, out=tmp_path / "run", progress=False) == "computed"
        assert pk.analyze(**options, out=tmp_path / "run", progress=False) == "loaded"


# ---------------------------------------------------------------------------------- concepts

MODULE_PERIOD = [2]


@pytest.mark.usefixtures("quick")
class TestConcepts:
    def case(self, concepts: Callable[[], Any], change: Any, restore: Any = None, corpus: Any = None) -> Case:
        held = pk.Corpus.from_texts([text(n, 1) for n in range(10)]) if corpus is None else corpus
        return Case(
            lambda: {"model": "nano", "corpus": held, "concepts": concepts(), **OPTIONS}, change, restore
        )

    def test_masks_of_the_same_names(self, tmp_path: Path) -> None:
        period = [2]
        case = self.case(
            lambda: masks(period[0]), lambda: period.__setitem__(0, 5), lambda: period.__setitem__(0, 2)
        )
        require_told(case, tmp_path / "run")

    def test_one_id_of_a_mask(self, tmp_path: Path) -> None:
        mask = IDS % 2 == 0
        case = self.case(
            lambda: pk.Concepts.from_vocab({"a": mask, "b": IDS % 3 == 0}),
            lambda: mask.__setitem__(1_999, True),
            lambda: mask.__setitem__(1_999, False),
        )
        require_told(case, tmp_path / "run")

    @pytest.mark.parametrize("what", ["closure", "global", "code"])
    def test_what_a_function_says(self, what: str, tmp_path: Path) -> None:
        """Neither its name nor its code decides, but the labels it gives on the tokens of the run."""
        period = [2]
        functions: dict[str, Callable[[Any], Any]] = {
            "closure": lambda ids: ids % period[0] == 0,
            "global": lambda ids: ids % MODULE_PERIOD[0] == 0,
            "code": lambda ids: ids % 2 == 0,
        }

        def change() -> None:
            period[0] = MODULE_PERIOD[0] = 5
            functions["code"] = lambda ids: ids % 5 == 0

        def restore() -> None:
            period[0] = MODULE_PERIOD[0] = 2
            functions["code"] = lambda ids: ids % 2 == np.zeros(1)

        def concepts() -> pk.Concepts:
            return pk.Concepts.from_function("f", lambda ids: functions[what](ids)) + masks()

        require_told(self.case(concepts, change, restore), tmp_path / "run")

    def test_a_function_is_asked_once(self, tmp_path: Path) -> None:
        """Its labels are digested and used, so one that says something else each time cannot slip through."""
        from probekit.analysis.reading import Reading
        from probekit.text.concepts.blocks import SettledBlock

        calls: list[int] = []

        def fickle(ids: np.ndarray) -> np.ndarray:
            calls.append(1)
            return ids % (len(calls) + 1) == 0

        reading = Reading("nano", pk.Corpus.from_texts([text(0)]), Settings(max_tokens=500), device="cpu")
        settled = reading.concepts(pk.Concepts.from_function("f", fickle) + masks())
        assert isinstance(settled.blocks[0], SettledBlock)
        told = settled.fingerprint
        labels = [settled.label(reading.tokens) for _ in range(2)]
        assert len(calls) == 1
        assert labels[0].where("f").tolist() == labels[1].where("f").tolist()
        assert settled.fingerprint == told

    @pytest.mark.parametrize("what", ["names", "lags", "kind"])
    def test_what_a_set_is_called(self, what: str, tmp_path: Path) -> None:
        held: dict[str, Any] = {"names": "ab", "lags": (0,), "kind": "user"}
        other = {"names": "ac", "lags": (1,), "kind": "class"}

        def concepts() -> pk.Concepts:
            first, second = held["names"]
            sets = {first: IDS % 2 == 0, second: IDS % 3 == 0}
            return pk.Concepts.from_vocab(sets, held["lags"], kind=held["kind"])

        require_told(self.case(concepts, lambda: held.update({what: other[what]})), tmp_path / "run")

    def rows(self, file: Path, languages: str) -> pk.Corpus:
        rows = ({"text": text(n, 1), "language": language} for n, language in enumerate(languages))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return pk.Corpus.from_file(file)

    def test_a_corrected_label_in_a_column(self, tmp_path: Path) -> None:
        """The texts stay what they are, and lie in memory: only the column changes."""
        corpus = pk.Corpus.from_texts([text(n, 1) for n in range(10)], name="rows.jsonl")
        languages = ["xxxxxyyyyy"]
        case = self.case(
            lambda: pk.Concepts.from_column(self.rows(tmp_path / "rows.jsonl", languages[0]), "language"),
            lambda: languages.__setitem__(0, "xxxxxyyyyx"),
            lambda: languages.__setitem__(0, "xxxxxyyyyy"),
            corpus,
        )
        require_told(case, tmp_path / "run")

    def test_a_span(self, tmp_path: Path, nano_tokenizer: Any) -> None:
        texts = [text(n, 1) for n in range(10)]
        spans = {"a": [(0, 0, 9)], "b": [(1, 2, 5)]}
        case = self.case(
            lambda: pk.Concepts.from_spans(spans, texts, nano_tokenizer),
            lambda: spans["b"].__setitem__(0, (1, 2, 6)),
            lambda: spans["b"].__setitem__(0, (1, 2, 5)),
            pk.Corpus.from_texts(texts),
        )
        require_told(case, tmp_path / "run")

    def test_a_file_of_concepts(self, tmp_path: Path) -> None:
        file = tmp_path / "concepts.toml"
        file.write_text('[[class]]\nname = "mine"\npattern = "^ t"\n')
        case = self.case(
            lambda: file,
            lambda: file.write_text('[[class]]\nname = "mine"\npattern = "^ s"\n'),
            lambda: file.write_text('[[class]]\nname = "mine"\npattern = "^ t"\n'),
        )
        require_told(case, tmp_path / "run")

    def test_the_spans_that_a_file_names(self, tmp_path: Path) -> None:
        file, spans = tmp_path / "concepts.toml", tmp_path / "spans.jsonl"
        file.write_text('spans = "spans.jsonl"\n')

        def write(end: int) -> None:
            spans.write_text(json.dumps({"name": "a", "document": 0, "start": 0, "end": end}))

        write(5)
        require_told(self.case(lambda: file, lambda: write(6), lambda: write(5)), tmp_path / "run")

    def test_a_column_that_a_file_names_of_a_dataset_in_memory(self, tmp_path: Path) -> None:
        from datasets import Dataset

        file, languages = tmp_path / "concepts.toml", list("xxxxxyyyyy")
        file.write_text('columns = ["language"]\n')

        def options() -> dict[str, Any]:
            rows = {"text": [text(n, 1) for n in range(10)], "language": languages}
            return {"model": "nano", "corpus": Dataset.from_dict(rows), "concepts": file, **OPTIONS}

        case = Case(options, lambda: languages.__setitem__(9, "x"), lambda: languages.__setitem__(9, "y"))
        require_told(case, tmp_path / "run")

    @pytest.mark.parametrize("how", ["file", "set"])
    def test_the_data_of_a_lexicon(
        self, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nano_tokenizer: Any
    ) -> None:
        package = tmp_path / "wordlist"
        package.mkdir()
        (package / "moods.txt").write_text("good 1.9\n")
        fake = SimpleNamespace(__file__=str(package / "__init__.py"))
        monkeypatch.setattr("probekit.text.concepts.lexicon._package", lambda family: fake)
        file = tmp_path / "concepts.toml"
        file.write_text('lexicon = ["sentiment"]\n')
        given = {"file": lambda: file, "set": lambda: pk.Concepts.lexicon(nano_tokenizer, ["sentiment"])}[how]
        case = self.case(
            given,
            lambda: (package / "moods.txt").write_text("good 0.9\n"),
            lambda: (package / "moods.txt").write_text("good 1.9\n"),
        )
        require_told(case, tmp_path / "run")

    def test_what_a_plug_in_makes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        period = [2]
        monkeypatch.setattr(
            "probekit.text.concepts.concepts.load_plugin", lambda name: lambda _, tokens: masks(period[0])
        )
        file = tmp_path / "concepts.toml"
        file.write_text('plugins = ["mine"]\n')
        case = self.case(lambda: file, lambda: period.__setitem__(0, 5), lambda: period.__setitem__(0, 2))
        require_told(case, tmp_path / "run")

    def test_a_block_of_somebody_elses(self, tmp_path: Path) -> None:
        """It inherits the fingerprint of ours and labels otherwise: its labels count."""
        from probekit.text.concepts.blocks import VocabBlock

        first = [0]

        class Late(VocabBlock):
            def label(self, tokens: Any) -> Any:
                return [found[first[0] :] for found in super().label(tokens)]

        def concepts() -> pk.Concepts:
            block: Any = masks().blocks[0]
            return pk.Concepts((Late(block.columns, block.masks, block.mask_of_column),))

        case = self.case(concepts, lambda: first.__setitem__(0, 7), lambda: first.__setitem__(0, 0))
        require_told(case, tmp_path / "run")

    @pytest.mark.parametrize(
        "what", ["weights", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("above", "model"))]
    )
    def test_latents(self, what: str, tmp_path: Path, bridge: Any) -> None:
        folder, above = tmp_path / "sae", [0.0]
        folder.mkdir()
        width = bridge.cfg.d_model
        (folder / "cfg.json").write_text(
            json.dumps({"architecture": "standard", "hook_name": "blocks.1.hook_resid_mid", "d_in": width, "d_sae": 8,
                        "apply_b_dec_to_input": False})
        )  # fmt: skip

        def train(seed: int) -> None:
            generator = torch.Generator().manual_seed(seed)
            shapes = {"W_enc": (width, 8), "b_enc": (8,), "W_dec": (8, width), "b_dec": (width,)}
            held = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
            save_file(held, folder / "sae_weights.safetensors")

        train(0)
        weight = bridge.blocks[0].mlp.out.original_component.weight
        changes = {
            "weights": lambda: train(1),
            "above": lambda: above.__setitem__(0, 0.5),
            "model": lambda: weight.data.mul_(2),
        }
        undone = {
            "weights": lambda: train(0),
            "above": lambda: above.__setitem__(0, 0.0),
            "model": lambda: weight.data.div_(2),
        }
        case = self.case(
            lambda: pk.latents(bridge, folder, [0, 1, 2], above=above[0]), changes[what], undone[what]
        )
        require_told(case, tmp_path / "run")

    def test_the_defaults_are_the_defaults_however_they_are_asked_for(self, tmp_path: Path) -> None:
        options = self.case(lambda: None, None).options()
        assert pk.analyze(**options, out=tmp_path / "run", progress=False) == "computed"
        again = options | {"concepts": "default", "dtype": "float32"}
        assert pk.analyze(**again, out=tmp_path / "run", progress=False) == "loaded"


# ----------------------------------------------------------------------------------- objects


@pytest.fixture
def nano_tokenizer() -> Any:
    from probekit.model.folder import read_tokenizer

    return read_tokenizer(NANO_FOLDER)


@pytest.fixture(scope="module")
def nano_bridge() -> Any:
    """nano as a TransformerBridge."""
    from probekit.model.hooked_model import load_hooked_model

    return load_hooked_model("nano", device="cpu").bridge


@pytest.fixture
def bridge(nano_bridge: Any) -> Any:
    """The same, which must be left as it was found."""
    from probekit.model.state import of_object

    before = of_object(nano_bridge)
    yield nano_bridge
    nano_bridge.reset_hooks(including_permanent=True)
    assert of_object(nano_bridge) == before


def plain_model() -> Any:
    """A small model of transformers, the same each time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():  # transformers draws from the global generator
        model: Any = LlamaForCausalLM(
            LlamaConfig(vocab_size=2_048, hidden_size=16, intermediate_size=48, num_hidden_layers=2,
                        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64)
        )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


IN_PLACE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any] | None]] = {
    "a parameter": (
        lambda m: m.model.layers[1].mlp.up_proj.weight.data[3, 3].mul_(2),
        lambda m: m.model.layers[1].mlp.up_proj.weight.data[3, 3].div_(2),
    ),
    "a buffer that no file keeps": (
        lambda m: m.model.rotary_emb.inv_freq.mul_(2),
        lambda m: m.model.rotary_emb.inv_freq.div_(2),
    ),
    "a number of a module": (
        lambda m: setattr(m.model.layers[0].self_attn, "scaling", 1.0),
        lambda m: setattr(m.model.layers[0].self_attn, "scaling", 8**-0.5),
    ),
    "the configuration": (
        lambda m: setattr(m.config, "hidden_act", "gelu"),
        lambda m: setattr(m.config, "hidden_act", "silu"),
    ),
    "a module's class": (
        lambda m: setattr(m.model.layers[0].mlp, "act_fn", torch.nn.GELU()),
        lambda m: setattr(m.model.layers[0].mlp, "act_fn", plain_model().model.layers[0].mlp.act_fn),
    ),
    "the dtype": (lambda m: m.bfloat16(), None),
}


@pytest.mark.usefixtures("quick")
class TestObjects:
    def case(self, model: Any, change: Any, restore: Any = None, **more: Any) -> Case:
        ids = np.random.default_rng(0).integers(1, 2_000, (50, 30))
        options = {"corpus": pk.Corpus.from_tokens(ids), "concepts": masks(), **OPTIONS, "device": "auto"}
        return Case(lambda: {"model": model, **options, **more}, change, restore)

    @pytest.mark.parametrize("what", IN_PLACE)
    def test_a_model_changed_in_place(self, what: str, tmp_path: Path) -> None:
        model = plain_model()
        change, restore = IN_PLACE[what]
        case = self.case(model, lambda: change(model), restore and (lambda: restore(model)))
        require_told(case, tmp_path / "run")

    def test_the_same_model_built_again_is_the_same(self, tmp_path: Path) -> None:
        for wanted in ("computed", "loaded"):
            options = self.case(plain_model(), None).options()
            assert pk.analyze(**options, out=tmp_path / "run", progress=False) == wanted

    @pytest.mark.parametrize("what", ["weight", "copy", "buffer", "cfg"])
    def test_a_bridge_changed_in_place(self, what: str, tmp_path: Path, bridge: Any) -> None:
        block = bridge.blocks[1]
        tensors = {
            "weight": lambda: block.mlp.out.original_component.weight,
            "copy": lambda: (
                block.attn.q.original_component.weight
            ),  # the bridge's own, split from a fused one
            "buffer": lambda: next(bridge.buffers()),
        }
        if what == "cfg":
            case = self.case(
                bridge,
                lambda: setattr(bridge.cfg, "eps", 1e-3),
                lambda: setattr(bridge.cfg, "eps", 1e-5),
            )
        else:
            tensor = tensors[what]().data
            held = tensor.clone()
            case = self.case(bridge, lambda: tensor.add_(1), lambda: tensor.copy_(held))
        require_told(case, tmp_path / "run")

    def test_the_tokenizer_given_with_a_model(self, tmp_path: Path, nano_tokenizer: Any) -> None:
        case = self.case(
            plain_model(), lambda: nano_tokenizer.add_tokens(["zyzzyva"]), tokenizer=nano_tokenizer
        )
        require_told(case, tmp_path / "run")

    def test_the_tokenizer_of_a_bridge(self, tmp_path: Path, bridge: Any) -> None:
        other = copy.deepcopy(bridge.tokenizer)
        other.add_tokens(["zyzzyva"])
        held = bridge.tokenizer
        case = self.case(
            bridge, lambda: setattr(bridge, "tokenizer", other), lambda: setattr(bridge, "tokenizer", held)
        )
        require_told(case, tmp_path / "run")

    def test_a_call_leaves_a_tokenizer_what_it_was(self, nano_tokenizer: Any) -> None:
        """Cutting and padding are set by each call anew: they are no part of it."""
        from probekit.text.tokenizers import of_tokenizer

        before = of_tokenizer(nano_tokenizer)
        nano_tokenizer(["the cat"], truncation=True, max_length=2)
        assert of_tokenizer(nano_tokenizer) == before
        nano_tokenizer.split_special_tokens = True
        assert of_tokenizer(nano_tokenizer) != before

    @pytest.mark.sweep
    def test_in_another_process_the_same_objects_are_the_same(self, tmp_path: Path, bridge: Any) -> None:
        script = (
            "import numpy as np, probekit as pk; from probekit.model.hooked_model import load_hooked_model\n"
            "from probekit.model.state import of_object; from probekit.text.tokenizers import of_tokenizer\n"
            "b = load_hooked_model('nano', device='cpu').bridge\n"
            "print(of_object(b), of_tokenizer(b.tokenizer))"
        )
        from probekit.model.state import of_object
        from probekit.text.tokenizers import of_tokenizer

        other = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "7"},
        )  # fmt: skip
        assert other.stdout.split() == [of_object(bridge), of_tokenizer(bridge.tokenizer)]


def raising(value: Any, hook: Any) -> Any:
    raise RuntimeError("mine")


class TestHooks:
    """A model with hooks is another model, which nobody can write down: it is refused, for the true cause."""

    REFUSED = (
        r"carries hooks that change or watch what it computes, at .*{}.*Remove them \(bridge.reset_hooks"
    )

    def refused(self, model: Any, where: str, **more: Any) -> None:
        ids = np.random.default_rng(0).integers(1, 2_000, (50, 30))
        options = {"corpus": pk.Corpus.from_tokens(ids), "concepts": masks(), **OPTIONS} | more
        with pytest.raises(ModelError, match=self.REFUSED.format(where)):
            pk.analyze(model, progress=False, **options)

    @pytest.mark.parametrize(
        "hook",
        [lambda value, hook: 0 * value, lambda value, hook: None, raising],
        ids=["ablates", "watches", "raises"],
    )
    def test_at_a_hook_point(self, bridge: Any, hook: Any) -> None:
        """One that ablates, one that only watches, and one whose exception nobody ever sees."""
        bridge.add_hook("blocks.1.hook_resid_mid", hook)
        self.refused(bridge, "blocks.1.")
        bridge.reset_hooks()
        self.refused_no_more(bridge)

    def refused_no_more(self, model: Any) -> None:
        from probekit.model.user_hooks import require_unhooked

        require_unhooked(model, "control")

    def test_a_permanent_one(self, bridge: Any) -> None:
        bridge.add_perma_hook("blocks.0.hook_resid_post", lambda value, hook: value)
        self.refused(bridge, "blocks.0")

    def test_one_of_torch_on_a_module(self) -> None:
        model = plain_model()
        handle = model.model.layers[1].register_forward_hook(lambda module, given, made: made)
        self.refused(model, r"model\.layers\.1", device="auto")
        handle.remove()
        self.refused_no_more(model)

    def test_one_of_torch_on_every_module(self) -> None:
        model = plain_model()
        handle = torch.nn.modules.module.register_module_forward_hook(lambda module, given, made: None)
        try:
            self.refused(model, "every torch module", device="auto")
        finally:
            handle.remove()

    def test_a_forward_that_was_replaced(self) -> None:
        model = plain_model()
        mlp = model.model.layers[0].mlp
        mlp.forward = lambda x: 2 * type(mlp).forward(mlp, x)
        self.refused(model, r"layers\.0\.mlp\.forward, which was replaced", device="auto")

    def test_what_the_libraries_hook_themselves_is_no_hook_of_the_user(self, bridge: Any) -> None:
        model = plain_model()
        model(torch.arange(5)[None], output_hidden_states=True)  # installs hooks of its own
        self.refused_no_more(model)
        self.refused_no_more(bridge)

    def test_latents_are_not_read_through_hooks(self, bridge: Any, tmp_path: Path) -> None:
        bridge.add_hook("blocks.1.hook_resid_mid", lambda value, hook: 0 * value)
        with pytest.raises(ModelError, match="carries hooks"):
            pk.latents(bridge, tmp_path, [0])


# ------------------------------------------------------------------------------------ arrays


def array_options() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    inputs, weights = rng.standard_normal((60, 4)), (rng.standard_normal((5, 4)), np.zeros(5))
    gated = (*weights, rng.standard_normal((5, 4)), np.zeros(5))
    w_in, b_in, w_gate, b_gate = gated
    gate = inputs @ w_gate.T + b_gate
    return {
        "neurons": gate / (1 + np.exp(-gate)) * (inputs @ w_in.T + b_in),
        "labels": rng.random((60, 3)) < 0.5, "docs": np.repeat(np.arange(6), 10), "inputs": inputs, "weights": gated,
        "activation": "silu", "names": ["a", "b", "c"], "types": rng.integers(0, 9, 60), "twins": 4, "min_support": 2,
    }  # fmt: skip


ARRAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "neurons": lambda o: o["neurons"].__setitem__((0, 0), o["neurons"][0, 0] * (1 + 1e-6)),
    "labels": lambda o: np.logical_not(o["labels"], out=o["labels"]),
    "docs": lambda o: o["docs"].__setitem__(9, 1),
    "types": lambda o: o["types"].__setitem__(9, 77),
    "names": lambda o: o["names"].__setitem__(0, "z"),
    "no types": lambda o: o.pop("types"),
    "no inputs": lambda o: o.pop("inputs"),
    "no weights": lambda o: o.pop("weights"),
    "seed": lambda o: o.update(seed=1),
}


@pytest.mark.usefixtures("quick")
class TestArrays:
    @pytest.mark.parametrize("what", ARRAYS)
    def test_what_is_given(self, what: str, tmp_path: Path) -> None:
        options = array_options()
        require_told(
            Case(lambda: options, lambda: ARRAYS[what](options)), tmp_path / "run", pk.analyze_arrays
        )

    def test_where_a_token_was_left_out(self, tmp_path: Path) -> None:
        """The rows that are left are the same: only their places in the document differ, and those deal the samples."""
        row, given = np.ones(5), {}
        for name, place in (("one", 3), ("two", 6)):
            options: dict[str, Any] = array_options() | {
                "nonfinite": "drop_tokens",
                "weights": None,
                "inputs": None,
            }
            neurons = np.concatenate([np.tile(row, (10, 1)), options["neurons"][10:]])
            neurons[place] = np.nan
            labels = np.concatenate([np.ones((10, 3), bool), options["labels"][10:]])
            given[name] = options | {"neurons": neurons, "labels": labels, "types": np.zeros(60, int)}
        now = ["one"]
        case = Case(
            lambda: given[now[0]], lambda: now.__setitem__(0, "two"), lambda: now.__setitem__(0, "one")
        )
        require_told(case, tmp_path / "run", pk.analyze_arrays)


# ------------------------------------------------------------------------------- whole runs


WHOLE: dict[str, Any] = {
    "layers": [0], "twins": 4, "max_pairs": 4, "max_tokens": 4_000, "context": 40, "min_support": 10, "spikes": (),
    "controls": (), "device": "cpu",
}  # fmt: skip


class TestWhole:
    """Real runs, from `analyze` to the tables."""

    def test_a_corrected_label_is_another_run(self, tmp_path: Path) -> None:
        """The fault that was seen: the same names, other ids, the old numbers in 0.0 s."""
        corpus, out, seen = pk.Corpus.from_texts([text(n, 1) for n in range(120)]), tmp_path / "run", []

        def watch(what: str, done: int, total: int) -> None:
            seen.append(what)

        def call(period: int, **more: Any) -> pk.Run:
            return pk.analyze(
                "nano", corpus, concepts=masks(period), out=out, progress=watch, **WHOLE, **more
            )

        first = call(2)
        counts = first.pairs()[["n11", "n10"]].to_numpy().tolist()
        n_steps = len(seen)
        assert call(2).pairs()[["n11", "n10"]].to_numpy().tolist() == counts
        assert len(seen) == n_steps, "what was finished was computed again"
        with pytest.raises(StaleError, match="it differs in concepts"):
            call(5)
        assert call(5, force=True).pairs()[["n11", "n10"]].to_numpy().tolist() != counts
        assert pk.load(out).record["science"]["concepts"] != first.record["science"]["concepts"]

    def test_a_model_that_is_written_to_during_the_run_leaves_nothing(
        self, folder: Path, tmp_path: Path
    ) -> None:
        out, change = tmp_path / "run", edited(folder / "model.safetensors")[0]
        done: list[str] = []

        def watch(what: str, n: int, total: int) -> None:
            if what == "confirm" and not done:
                done.append(what)
                change()

        corpus = pk.Corpus.from_texts([text(n, 1) for n in range(120)])
        call: dict[str, Any] = {"corpus": corpus, "concepts": masks(), "out": out, **WHOLE}
        with pytest.raises(InputError, match="changed while the run was reading it"):
            pk.analyze(folder, progress=watch, **call)
        assert done
        assert not out.exists()

    def test_a_file_that_was_only_touched_costs_nothing(self, folder: Path, tmp_path: Path) -> None:
        file = folder / "model.safetensors"
        held = contents.Contents()
        held.of_file(file)
        file.touch()
        held.require_unchanged()
        other = folder / "other"
        other.write_bytes(bytes(file.stat().st_size))
        other.replace(file)
        held.require_unchanged(in_memory=True)  # whoever has the old file open keeps what it held
        with pytest.raises(InputError, match="changed while the run was reading it"):
            held.require_unchanged()


def test_spikes_that_would_become_one_are_refused() -> None:
    from probekit.analysis.settings import as_spikes

    with pytest.raises(InputError, match=r"of which 1\.0000002 is named 1 as another one is"):
        as_spikes((1.0000001, 1.0000002))
    assert as_spikes((1.0, 1.00001)) == (1.0, 1.00001)
    with pytest.raises(InputError, match=r"of which 1\.0000002 is named 1 as another one is"):
        pk.analyze("nano", spikes=(1.0000001, 1.0000002))
    with pytest.raises(InputError, match="wanted sizes that differ in their first six digits"):
        pk.analyze_arrays(**array_options(), spikes=(2.0, 2.0))
