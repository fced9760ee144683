"""A corpus is read more than once: to say what it is, and to be analysed. Both readings are of the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probekit as pk
from probekit.analysis import run_fingerprint as identity
from probekit.analysis.reading import Reading
from probekit.analysis.settings import Settings
from probekit.errors import InputError

WORDS = "the cat sat on a mat and then it saw that dog".split()  # noqa: SIM905


def texts(seed: int, n_docs: int = 30) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 20)) for _ in range(n_docs)]


def reading(corpus: Any) -> Reading:
    held = Reading("nano", corpus, Settings(max_tokens=400), device="cpu")
    identity.of_corpus(held.corpus, 400)
    return held


class TestFunctions:
    def test_that_gives_others_each_time(self) -> None:
        rng = np.random.default_rng(0)

        def drawn() -> Iterator[str]:
            return (" ".join(rng.choice(WORDS, 20)) for _ in range(30))

        held = reading(pk.Corpus("drawn", source=drawn))
        with pytest.raises(
            InputError, match="'drawn': gave another text for document 0 when it was read again"
        ):
            _ = held.tokens

    def test_that_is_exhausted(self) -> None:
        once = iter(texts(0))
        held = reading(pk.Corpus("once", source=lambda: once))
        with pytest.raises(InputError, match="'once': gave 30 documents first, and 0 when it was read again"):
            _ = held.tokens

    def test_that_gives_the_same(self) -> None:
        held = reading(pk.Corpus("same", source=lambda: iter(texts(0))))
        assert held.tokens.n_docs > 10
        assert len(set(held.tokens.texts.tolist())) == held.tokens.n_docs  # type: ignore[union-attr]

    def test_a_stream_without_end(self) -> None:
        long = [" ".join(text for text in texts(seed)) for seed in range(3)]

        def endless() -> Iterator[str]:
            while True:
                yield from long

        assert reading(pk.Corpus("endless", source=endless)).tokens.n_tokens <= 400

    def test_a_stream_of_short_texts_without_end(self) -> None:
        """None of them surely holds a token that counts, so that no number of them would be enough."""

        def endless() -> Iterator[str]:
            while True:
                yield "the cat sat"

        held = Reading("nano", pk.Corpus("endless", source=endless), Settings(max_tokens=40), device="cpu")
        assert identity.of_corpus(held.corpus, 40, skip_first=1)
        assert held.tokens.n_tokens <= 40

    def test_that_gives_more_the_second_time(self) -> None:
        rows = texts(0, 5)
        held = reading(pk.Corpus("grows", source=lambda: iter(rows)))
        assert held.tokens.n_docs == 5
        held = reading(pk.Corpus("grows", source=lambda: iter(rows)))
        rows += texts(1, 5)
        with pytest.raises(InputError, match="'grows': gave document 9, but only 5 documents were there"):
            _ = held.tokens

    def test_a_table_that_changed_between_two_runs_is_another_corpus(self) -> None:
        """Only within one run must the readings be the same."""
        rows = texts(0)
        corpus = pk.Corpus("list", source=lambda: rows)
        first = reading(corpus)
        assert first.tokens.n_docs
        rows[0] = "another text than before"
        second = reading(corpus)
        assert second.tokens.fingerprint != first.tokens.fingerprint

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (
                lambda: (text if place < 3 else 1 // 0 for place, text in enumerate(texts(0))),
                "raised ZeroDivisionError",
            ),
            (lambda: None, "raised TypeError"),
            (lambda: ["a text", b"bytes"], "document 1 is a bytes, wanted a str"),
        ],
    )
    def test_that_fails_is_not_our_defect(self, source: Any, message: str) -> None:
        with pytest.raises(InputError, match=f"corpus 'mine': .*{message}"):
            list(pk.Corpus("mine", source=source).texts())


class TestFolders:
    """A folder is what lies in it when it is read, whenever the corpus was made."""

    def test_a_file_that_came_later(self, tmp_path: Path) -> None:
        def write(name: str, seed: int) -> None:
            (tmp_path / name).write_text(
                "".join(json.dumps({"text": text}) + "\n" for text in texts(seed, 5))
            )

        write("a.jsonl", 0)
        early = pk.Corpus.from_dataset(str(tmp_path))
        assert list(early.texts()) == texts(0, 5)
        write("b.jsonl", 1)
        late = pk.Corpus.from_dataset(str(tmp_path))
        assert list(early.texts()) == list(late.texts()) == texts(0, 5) + texts(1, 5)
        assert identity.of_corpus(early, 100) == identity.of_corpus(late, 100)

    def test_a_dataset_that_was_replaced(self, tmp_path: Path) -> None:
        from datasets import Dataset

        here, other = tmp_path / "here", tmp_path / "other"
        Dataset.from_dict({"text": texts(0, 5)}).save_to_disk(str(here))
        Dataset.from_dict({"text": texts(1, 5)}).save_to_disk(str(other))
        corpus = pk.Corpus.from_dataset(str(here))
        before = identity.of_corpus(corpus, 100)
        assert list(corpus.texts()) == texts(0, 5)
        shutil.rmtree(here)
        other.rename(here)
        assert list(corpus.texts()) == texts(1, 5)
        assert identity.of_corpus(corpus, 100) != before


class TestTokenizers:
    """What no vocabulary shows decides the ids as well."""

    @staticmethod
    def slow(**options: Any) -> Any:
        from transformers import PreTrainedTokenizer

        class Split(PreTrainedTokenizer):
            def __init__(self, lower: bool = False, **more: Any) -> None:
                self.lower, self.ids = lower, {"the": 0, "The": 1, "<unk>": 2}
                super().__init__(unk_token="<unk>", **more)

            @property
            def vocab_size(self) -> int:
                return 3

            def get_vocab(self) -> dict[str, int]:
                return dict(self.ids)

            def _tokenize(self, text: str, **_: Any) -> list[str]:
                return (text.lower() if self.lower else text).split()

            def _convert_token_to_id(self, token: str) -> int:
                return self.ids.get(token, 2)

            def _convert_id_to_token(self, index: int) -> str:
                return list(self.ids)[index]

            def save_vocabulary(self, *_: Any, **__: Any) -> tuple[()]:
                return ()

        return Split(**options)

    def test_a_switch_of_a_slow_one(self) -> None:
        from probekit.text.tokenizers import of_tokenizer

        plain, lower = self.slow(), self.slow(lower=True)
        assert plain("The")["input_ids"] != lower("The")["input_ids"]
        assert of_tokenizer(plain) != of_tokenizer(lower)
        assert of_tokenizer(plain) == of_tokenizer(self.slow())
        before = of_tokenizer(plain)
        plain(["The the"], truncation=True, max_length=1)
        assert of_tokenizer(plain) == before

    def test_a_part_that_is_written_in_python(self) -> None:
        from tokenizers import pre_tokenizers

        from probekit.model.folder import NANO_FOLDER, read_tokenizer
        from probekit.text.tokenizers import of_tokenizer

        class Own:
            def pre_tokenize(self, pieces: Any) -> None:
                pieces.split(lambda _, piece: piece.split(" ", "removed"))

        tokenizer = read_tokenizer(NANO_FOLDER)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Own())
        with pytest.raises(InputError, match=r"cannot be written down .*so nobody can say which one it is"):
            of_tokenizer(tokenizer)
