"""The document rules of text files, tables of texts and datasets, and the errors of each."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.text.corpus import Corpus
from probekit.text.readers import MIN_DOCUMENT_CHARACTERS, split_documents

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
