"""The document rules of text files, tables of texts and datasets, and the errors of each."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import Corpus, as_corpus
from probekit.text.table_source import ROWS_SEEN
from probekit.text.text_files import MIN_DOCUMENT_CHARACTERS, split_documents

PARAGRAPH = "word " * 60  # 300 characters: four of them make a document


def written(tmp_path, text: str | bytes, name: str = "corpus.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_stories_are_documents_however_short(tmp_path) -> None:
    path = written(
        tmp_path, "\n<|endoftext|>\n".join(f"Story {i}.\n\nIt ends." for i in range(20)) + "<|endoftext|>\n"
    )
    assert list(Corpus.from_file(path).texts()) == [f"Story {i}.\n\nIt ends." for i in range(20)]


def test_paragraphs_are_merged_to_a_thousand_characters(tmp_path) -> None:
    path = written(tmp_path, "\n \n".join(f"{i:03} {PARAGRAPH}" for i in range(100)))
    documents = list(Corpus.from_file(path).texts())
    assert len(documents) == 25
    assert documents[0].count("\n \n") == 3  # the text between the pieces stays as it stands in the file
    assert [int(document[:3]) for document in documents] == list(range(0, 100, 4))


def test_lines_are_merged_where_there_is_no_blank_line(tmp_path) -> None:
    path = written(tmp_path, "\n".join(f"{i:03} {PARAGRAPH}" for i in range(101)) + "\n")
    documents = list(Corpus.from_file(path).texts())
    assert len(documents) == 25
    assert documents[-1].count("\n") == 4  # the rest of 300 characters joins the last document


def test_a_separator_of_ones_own_makes_every_piece_a_document(tmp_path) -> None:
    path = written(tmp_path, "\n---\n".join(f"piece {i}" for i in range(30)))
    assert list(Corpus.from_file(path, doc_sep="---").texts()) == [f"piece {i}" for i in range(30)]


PIECES = st.lists(st.text(st.characters(codec="ascii", exclude_characters="\r"), max_size=400), max_size=30)


@given(PIECES, st.sampled_from(["\n\n", "\n", "\n \n", "\n\n\n"]))
def test_merging_loses_no_text_and_leaves_no_short_document(pieces: list[str], separator: str) -> None:
    text = separator.join(pieces)
    documents, rule = split_documents(text)
    assert "".join("".join(documents).split()) == "".join(text.split())
    if rule != "<|endoftext|>" and len(documents) > 1:
        assert min(len(document.strip()) for document in documents) >= MIN_DOCUMENT_CHARACTERS


@pytest.mark.parametrize(
    ("text", "n_docs", "rule"),
    [
        ("<|endoftext|>".join("abcdef"), 6, r"<\|endoftext\|>"),
        (PARAGRAPH * 4 + "\n\nx", 1, "blank lines"),
        ("x\ny", 1, "newlines"),
    ],
)
def test_too_few_documents_name_doc_sep(tmp_path, text: str, n_docs: int, rule: str) -> None:
    with pytest.raises(
        InputError, match=rf"has {n_docs} documents when split at {rule}, wanted at least 20.*doc_sep="
    ):
        Corpus.from_file(written(tmp_path, text))


def test_line_ends_and_byte_order_marks_of_windows_are_read(tmp_path) -> None:
    path = written(
        tmp_path, b"\xef\xbb\xbf" + "\r\n\r\n".join(f"{i:03} {PARAGRAPH}" for i in range(100)).encode()
    )
    documents = list(Corpus.from_file(path).texts())
    assert len(documents) == 25
    assert documents[0].startswith("000 word")
    assert "\r" not in documents[0]


ROWS = [{"id": i, "text": f"row {i}", "note": "n"} for i in range(5)]


@pytest.fixture(params=[".jsonl", ".json", ".parquet", ".csv", ".arrow"])
def table(request, tmp_path):
    path = tmp_path / f"rows{request.param}"
    columns = pa.Table.from_pylist(ROWS)
    if request.param == ".parquet":
        pq.write_table(columns, path)
    elif request.param == ".arrow":
        with pa.ipc.new_stream(path, columns.schema) as sink:
            sink.write_table(columns)
    elif request.param == ".csv":
        path.write_text("id,text,note\n" + "".join(f"{r['id']},{r['text']},n\n" for r in ROWS))
    elif request.param == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return path


def test_tables_have_one_document_a_row(table) -> None:
    corpus = Corpus.from_file(table)
    assert list(corpus.texts()) == list(corpus.texts()) == [f"row {i}" for i in range(5)]
    assert list(Corpus.from_file(table, column="note").texts()) == ["n"] * 5
    with pytest.raises(
        InputError, match="has no column 'body'; it has id, text, note; name one with column="
    ):
        Corpus.from_file(table, column="body")
    with pytest.raises(InputError, match="is a table with one document a row; doc_sep= is for text files"):
        Corpus.from_file(table, doc_sep="x")


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "'a.jsonl' has no rows; wanted one document a row"),
        ("a.jsonl", "{broken", "'a.jsonl' cannot be read: Expecting property name"),
        ("a.jsonl", "[1]", r"'a.jsonl', line 1: got a list, not an object"),
        (
            "a.jsonl",
            lines({"x": "a", "y": "b"}),
            r"has 2 columns of strings \(x, y\) and none is called 'text'",
        ),
        ("a.jsonl", lines({"x": 1}), r"has 0 columns of strings \(x\)"),
        ("a.parquet", "no parquet", "'a.parquet' cannot be read"),
        ("a.txt", b"\xff\xfe\x00", "'a.txt' is not UTF-8 text"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Corpus.from_file(written(tmp_path, content, name))


def test_rows_that_hold_no_text_are_refused_where_they_stand(tmp_path) -> None:
    path = written(tmp_path, lines({"text": "a"}, {"text": None}, {"text": 3}), "a.jsonl")
    texts = Corpus.from_file(path).texts()
    assert next(texts) == "a"
    with pytest.raises(InputError, match="row 2: column 'text' holds a int, wanted text"):
        next(texts)


def test_paths_that_are_no_file(tmp_path) -> None:
    with pytest.raises(InputError, match=r"'.*missing\.txt' does not exist"):
        Corpus.from_file(tmp_path / "missing.txt")
    with pytest.raises(InputError, match=r"is a folder, wanted a file; use Corpus\.from_dataset"):
        Corpus.from_file(tmp_path)
    path = written(tmp_path, "x")
    with pytest.raises(InputError, match=r"column='text' given for 'corpus\.txt'; columns exist in \.arrow"):
        Corpus.from_file(path, column="text")
    with pytest.raises(InputError, match="doc_sep= is empty"):
        Corpus.from_file(path, doc_sep="")


def test_a_folder_of_data_files_is_a_dataset(tmp_path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), folder / "test.parquet")
    assert len(list(Corpus.from_dataset(str(folder)).texts())) == 5
    corpus = Corpus.from_dataset(str(folder), split="test", column="note")
    assert (corpus.name, list(corpus.texts())) == ("data", ["n", "n"])
    with pytest.raises(InputError, match=r"has no split 'dev'; it has .*train"):
        Corpus.from_dataset(str(folder), split="dev")
    with pytest.raises(InputError, match="has no column 'body'"):
        Corpus.from_dataset(str(folder), column="body")


def test_a_saved_dataset_is_read_from_its_folder(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert next(Corpus.from_dataset(str(tmp_path / "saved")).texts()) == "row 0"
    with pytest.raises(InputError, match="is a saved dataset without splits, but split='test' was asked for"):
        Corpus.from_dataset(str(tmp_path / "saved"), split="test")


def test_an_empty_folder_is_no_dataset(tmp_path) -> None:
    with pytest.raises(InputError, match="pass a local file"):
        Corpus.from_dataset(str(tmp_path))


def test_a_hub_that_cannot_be_reached_says_what_to_pass_instead(monkeypatch) -> None:
    from huggingface_hub import constants

    with pytest.raises(
        InputError, match=r"hub cannot be reached; pass a local file \(Corpus\.from_file\), a local folder"
    ):
        Corpus.from_dataset("someone/something")
    # with the offline switch off and nobody listening: one short request, not half a minute of trials
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="hub cannot be reached"):
        Corpus.from_dataset("someone/something")


LATE = [{"id": f"rec-{i:03}", "text": None if i < 3 else f"row {i}"} for i in range(8)]
TEXTS = [f"row {i}" for i in range(3, 8)]


def packed(path, content: str) -> None:
    """Write a file as its suffix says."""
    import bz2
    import gzip
    import lzma

    data = content.encode()
    if path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as sink:
            sink.write(data)
        return
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(data))


class TestColumn:
    """The column is chosen by what all rows seen hold, and said."""

    @pytest.fixture(
        params=[
            ".jsonl",
            ".json",
            ".csv",
            ".tsv",
            ".parquet",
            ".arrow",
            ".feather",
            "Dataset",
            "stream",
            "frame",
            "arrow table",
            "dict",
            "list",
        ]
    )
    def late(self, request, tmp_path) -> Corpus:
        """A table whose first three rows hold no text but an id, in every form it can come in."""
        datasets = pytest.importorskip("datasets")
        if request.param.startswith("."):
            path, columns = tmp_path / f"rows{request.param}", pa.Table.from_pylist(LATE)
            if request.param == ".parquet":
                pq.write_table(columns, path)
            elif request.param in (".arrow", ".feather"):
                with pa.ipc.new_stream(path, columns.schema) as sink:
                    sink.write_table(columns)
            elif request.param in (".csv", ".tsv"):
                comma = "," if request.param == ".csv" else "\t"
                path.write_text(
                    f"id{comma}text\n" + "".join(f"{r['id']}{comma}{r['text'] or ''}\n" for r in LATE)
                )
            else:
                path.write_text(lines(*LATE) if request.param == ".jsonl" else json.dumps(LATE))
            return Corpus.from_file(path)
        held = datasets.Dataset.from_list(LATE)
        return Corpus.from_dataset(
            {
                "Dataset": lambda: held, "stream": held.to_iterable_dataset, "frame": lambda: pd.DataFrame(LATE),
                "arrow table": lambda: pa.Table.from_pylist(LATE), "list": lambda: LATE,
                "dict": lambda: {key: [row[key] for row in LATE] for key in ("id", "text")},
            }[request.param]()
        )  # fmt: skip

    def test_text_is_read_although_the_first_rows_have_none(self, late: Corpus) -> None:
        assert late.column == "text"
        assert list(late.texts()) == TEXTS
        assert late.n_left_out == 3
        assert [row["id"] for row in late.rows()] == [f"rec-{i:03}" for i in range(3, 8)]

    def test_a_column_asked_for_may_be_missing_from_the_first_row(self, tmp_path) -> None:
        path = written(
            tmp_path,
            lines({"id": "a"}, *({"id": "a", "text": f"t{i}", "note": "n"} for i in range(3))),
            "a.jsonl",
        )
        assert (
            list(Corpus.from_file(path, column="text").texts())
            == list(Corpus.from_file(path).texts())
            == ["t0", "t1", "t2"]
        )
        assert (
            list(Corpus.from_file(path, column="id").texts()) == ["a"] * 4
        )  # control: another one, when asked for
        with pytest.raises(InputError, match="has no column 'body'; it has id, text, note"):
            Corpus.from_file(path, column="body")

    def test_the_only_column_of_strings_is_told_by_all_rows(self, tmp_path) -> None:
        rows = [{"body": None, "n": 1}, {"body": "b", "n": 2}, {"n": 3}]
        corpus = Corpus.from_file(written(tmp_path, lines(*rows), "a.jsonl"))
        assert (corpus.column, list(corpus.texts()), corpus.n_left_out) == ("body", ["b"], 2)
        two = written(tmp_path, lines({"id": "a"}, {"id": "b", "body": "c"}), "two.jsonl")
        with pytest.raises(
            InputError, match=r"has 2 columns of strings \(id, body\) and none is called 'text'"
        ):
            Corpus.from_file(two)  # by the first row alone the ids would have been read

    def test_a_text_that_begins_late_is_waited_for(self, tmp_path) -> None:
        rows = [{"id": f"rec-{i}", "text": None} for i in range(ROWS_SEEN + 5)] + [
            {"id": "last", "text": "at last"}
        ]
        assert list(Corpus.from_file(written(tmp_path, lines(*rows), "a.jsonl")).texts()) == ["at last"]

    def test_labels_of_documents_need_not_stand_in_the_first_row(self, tmp_path) -> None:
        rows = [{"text": "a b"}, {"text": "c d", "lang": "en"}, {"text": "e f", "lang": "fr"}]
        corpus = Corpus.from_file(written(tmp_path, lines(*rows), "a.jsonl"))
        assert Concepts.from_column(corpus, "lang").names == ("doc:lang=en", "doc:lang=fr")
        with pytest.raises(InputError, match="has no column 'year'; it has text, lang"):
            Concepts.from_column(corpus, "year")


class TestFiles:
    @pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".jsonlines", ".NDJSON"])
    @pytest.mark.parametrize("compressed", ["", ".gz", ".bz2", ".xz", ".zst"])
    def test_json_lines_by_any_name_and_packed(self, tmp_path, suffix: str, compressed: str) -> None:
        path = tmp_path / f"rows{suffix}{compressed}"
        packed(path, lines(*ROWS))
        for corpus in (Corpus.from_file(path), as_corpus(str(path))):
            assert list(corpus.texts()) == [f"row {i}" for i in range(5)]
            assert (corpus.column, corpus.name) == ("text", path.name)

    @pytest.mark.parametrize("compressed", [".gz", ".bz2", ".xz", ".zst"])
    def test_other_files_packed(self, tmp_path, compressed: str) -> None:
        packed(tmp_path / f"a.txt{compressed}", "\n---\n".join(f"piece {i}" for i in range(30)))
        corpus = Corpus.from_file(tmp_path / f"a.txt{compressed}", doc_sep="---")
        assert list(corpus.texts()) == [f"piece {i}" for i in range(30)]
        packed(tmp_path / f"a.csv{compressed}", "id,text\n" + "".join(f"{i},row {i}\n" for i in range(4)))
        packed(tmp_path / f"a.json{compressed}", json.dumps(ROWS))
        assert list(Corpus.from_file(tmp_path / f"a.csv{compressed}").texts()) == [
            f"row {i}" for i in range(4)
        ]
        assert list(Corpus.from_file(tmp_path / f"a.json{compressed}").texts()) == [
            f"row {i}" for i in range(5)
        ]

    @pytest.mark.parametrize(
        "name", ["a.jsonl.gz", "a.txt.bz2", "a.jsonl.xz", "a.txt.zst", "a.csv.gz", "a.txt.gz"]
    )
    def test_packed_in_name_only(self, tmp_path, name: str) -> None:
        with pytest.raises(InputError, match=f"corpus file '{name}' cannot be read"):
            list(Corpus.from_file(written(tmp_path, "no packed file at all", name)).texts())

    def test_cut_short_while_it_was_copied(self, tmp_path) -> None:
        path = tmp_path / "a.jsonl.gz"
        packed(path, lines(*({"text": f"row {i} {i**5}"} for i in range(2_000))))
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(InputError, match=r"'a\.jsonl\.gz' cannot be read: Compressed file ended"):
            list(Corpus.from_file(path).texts())

    def test_json_under_another_name_is_no_running_text(self, tmp_path) -> None:
        rows = lines(*({"text": f"row {i}"} for i in range(30)))
        path = written(tmp_path, rows, "rows.txt")
        with pytest.raises(
            InputError, match=r"'rows\.txt' holds JSON, one object a line, not running text; name it \.jsonl"
        ):
            Corpus.from_file(path)
        assert (
            len(list(Corpus.from_file(path, doc_sep="\n").texts())) == 30
        )  # control: said to be text, it is
        braces = written(tmp_path, "\n\n".join(f"{{ {i} is no JSON\n" + PARAGRAPH * 4 for i in range(25)))
        assert len(list(Corpus.from_file(braces).texts())) == 25

    def test_a_cache_that_cannot_be_written_does_not_matter_to_local_files(
        self, tmp_path, monkeypatch
    ) -> None:
        datasets = pytest.importorskip("datasets")
        blocked = written(tmp_path, "a file where the cache should be", "cache")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", blocked / "datasets")
        folder = tmp_path / "data"
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(ROWS), folder / "train.parquet")
        wanted = [f"row {i}" for i in range(5)]
        with pytest.raises(OSError, match="cache"):  # control: the library by itself
            datasets.load_dataset("parquet", data_files=str(folder / "train.parquet"), streaming=True)
        assert list(Corpus.from_file(folder / "train.parquet").texts()) == wanted
        assert list(Corpus.from_dataset(str(folder)).texts()) == wanted


class TestInMemory:
    @pytest.mark.parametrize("kind", [None, "arrow", "pandas", "numpy", "torch"])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_dataset_in_any_format(self, kind: str | None, streamed: bool) -> None:
        datasets = pytest.importorskip("datasets")
        held = datasets.Dataset.from_list(ROWS)
        held = (held.to_iterable_dataset() if streamed else held).with_format(kind)
        assert list(as_corpus(held).texts()) == [f"row {i}" for i in range(5)]

    def test_tables_and_lists_are_corpora(self) -> None:
        wanted = [f"row {i}" for i in range(5)]
        columns = {"id": list(range(5)), "text": wanted}
        for table in (
            pd.DataFrame(ROWS),
            pa.Table.from_pylist(ROWS),
            columns,
            {"text": np.array(wanted)},
            ROWS,
            wanted,
            tuple(wanted),
        ):
            assert list(as_corpus(table).texts()) == wanted
            assert list(as_corpus(table).texts()) == wanted
        assert list(Corpus.from_dataset(pd.DataFrame(ROWS), column="note").texts()) == ["n"] * 5
        assert Concepts.from_column(as_corpus(pd.DataFrame(ROWS)), "id").names[0] == "doc:id=0"
        missing = pd.DataFrame({"text": pd.Series(["a", None, np.nan, pd.NA, "b"], dtype="object")})
        corpus = as_corpus(missing)
        assert (list(corpus.texts()), corpus.n_left_out) == (["a", "b"], 3)
        assert list(as_corpus(pd.DataFrame({"text": pd.Series(["a", None], dtype="string")})).texts()) == [
            "a"
        ]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"text": ["a", "b"], "id": [1]}, r"its lists are not equally long \(text 2, id 1\)"),
            ({"text": "one text"}, "column 'text' is a str, wanted a list with one entry a document"),
            ({"n": [1, 2]}, r"has 0 columns of strings \(n\) and none is called 'text'"),
            (["a", 3], "from_texts: document 1 is a int, wanted a str"),
            ([{"text": "a"}, "b"], "got a list that holds a str, wanted a list of texts or one of rows"),
            ([3, 4], "got a list that holds a int, wanted a list of texts or one of rows"),
            (pd.DataFrame({"text": []}), "has no rows; wanted one document a row"),
            (3.5, "got a float, wanted a name, a path, a Corpus, a list of texts, or a table"),
            ("hello world this is text", "is no file on this machine and no name of a dataset; texts themselves go in"),
            ("Once upon a time, " * 30, "is no file on this machine and no name of a dataset"),
        ],
    )  # fmt: skip
    def test_what_is_no_corpus_is_refused_in_one_line(self, value, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            list(as_corpus(value).texts())
        assert "\n" not in str(caught.value)
