"""What stands in a table is what is read: words that look like nothing, codes that look like numbers, a transform."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import probekit as pk
from probekit.errors import InputError
from probekit.text.corpus import as_corpus

TEXTS = [f"the cat sat on mat {place}" for place in range(40)]


def written(path: Path, column: str, values: list[str], separator: str = ",") -> pk.Corpus:
    rows = [separator.join(("text", column)), *map(separator.join, zip(TEXTS, values, strict=False))]
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(rows) + "\n")
    return pk.Corpus.from_file(path)


def labels(corpus: pk.Corpus, column: str) -> dict[str, list[int]]:
    """Documents in which each value of a column holds."""
    block: Any = pk.Concepts.from_column(corpus, column).blocks[0]
    return {
        name.name.removeprefix(f"doc:{column}").removeprefix("="): np.flatnonzero(row).tolist()
        for name, row in zip(block.columns, block.doc_labels, strict=True)
    }


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv.gz", ",")])
class TestSeparatedValues:
    def test_words_that_pandas_takes_for_nothing(self, name: str, separator: str, tmp_path: Path) -> None:
        values = ["None", "NA", "null", "happy"]
        found = labels(written(tmp_path / name, "mood", values * 10, separator), "mood")
        assert found == {value: list(range(place, 40, 4)) for place, value in enumerate(values)}

    def test_codes_that_look_like_numbers(self, name: str, separator: str, tmp_path: Path) -> None:
        values = ["007", "7", "1e1", "10"]
        found = labels(written(tmp_path / name, "code", values * 10, separator), "code")
        assert found == {value: list(range(place, 40, 4)) for place, value in enumerate(values)}

    def test_a_value_does_not_hang_on_the_other_rows(self, name: str, separator: str, tmp_path: Path) -> None:
        found = labels(written(tmp_path / name, "stars", ["1", "2", "", "1"] * 10, separator), "stars")
        assert found == {"1": sorted([*range(0, 40, 4), *range(3, 40, 4)]), "2": list(range(1, 40, 4))}

    def test_many_numbers_are_bands(self, name: str, separator: str, tmp_path: Path) -> None:
        found = labels(
            written(tmp_path / name, "size", [str(place) for place in range(40)], separator), "size"
        )
        assert list(found.values()) == [list(range(first, first + 10)) for first in range(0, 40, 10)]

    def test_texts_that_pandas_takes_for_nothing(self, name: str, separator: str, tmp_path: Path) -> None:
        path = tmp_path / name
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "wt", encoding="utf-8") as file:
            file.write(
                "text"
                + separator
                + "n\n"
                + "".join(f"{word}{separator}1\n" for word in ("None", "NA", "word", ""))
            )
        corpus = pk.Corpus.from_file(path)
        assert list(corpus.texts()) == ["None", "NA", "word"]
        assert corpus.n_left_out == 1

    def test_the_column_of_texts_is_the_one_that_is_no_number(
        self, name: str, separator: str, tmp_path: Path
    ) -> None:
        path = tmp_path / name
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "wt", encoding="utf-8") as file:
            file.write(separator.join(("id", "story", "ok")) + "\n")
            file.writelines(f"{place}{separator}{text}{separator}True\n" for place, text in enumerate(TEXTS))
        assert pk.Corpus.from_file(path).column == "story"


def test_another_separator_than_the_name_says(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;text\n" + "".join(f"{place};{text}\n" for place, text in enumerate(TEXTS)))
    with pytest.raises(InputError, match=r"has one column, 'id;text', and looks separated by ';'"):
        pk.Corpus.from_file(path)
    path.write_text("text\n" + "".join(f"{text}; and more\n" for text in TEXTS))
    assert next(pk.Corpus.from_file(path).texts()).endswith("; and more")


class TestInMemory:
    def test_whole_numbers_in_a_column_with_gaps(self) -> None:
        """pandas makes floats of them; their names stay."""
        table = pd.DataFrame({"text": TEXTS, "stars": [1, 2, None, 2] * 10})
        assert labels(as_corpus(table), "stars") == {
            "2": sorted([*range(1, 40, 4), *range(3, 40, 4)]), "1": list(range(0, 40, 4))
        }  # fmt: skip

    def test_numbers_with_gaps_are_bands(self) -> None:
        """A missing number is in none of them, however it is written down."""
        sizes = [float("nan") if place % 10 == 0 else float(place) for place in range(40)]
        found = labels(as_corpus(pa.table({"text": TEXTS, "size": sizes})), "size")
        assert found == labels(as_corpus(pd.DataFrame({"text": TEXTS, "size": sizes})), "size")
        assert sorted(doc for docs in found.values() for doc in docs) == [d for d in range(40) if d % 10]
        assert not any("nan" in name for name in found)

    def test_a_transform_of_the_users_own_is_what_is_read(self) -> None:
        from datasets import Dataset

        table = Dataset.from_dict({"text": ["abc", "def"]})
        loud = table.with_transform(lambda rows: {"text": [text.upper() for text in rows["text"]]})
        assert list(as_corpus(loud).texts()) == ["ABC", "DEF"]
        assert list(as_corpus(table.with_format("numpy")).texts()) == ["abc", "def"]

    @pytest.mark.parametrize("kind", ["frame", "arrow"])
    def test_two_columns_of_one_name(self, kind: str) -> None:
        table: Any = (
            pd.DataFrame([["one", "two"]], columns=["text", "text"])
            if kind == "frame"
            else pa.table([["one"], ["two"]], names=["text", "text"])
        )
        with pytest.raises(InputError, match="has two columns that are called 'text'"):
            as_corpus(table)
