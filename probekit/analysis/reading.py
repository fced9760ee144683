"""What the parts of a call mean, looked at once: its model, its corpus, its tokens, and the labels that only functions know.

Whoever digests one of them here and whoever computes with it hold the same object, so nothing can change in between. What is
not needed is not made: of a model and a corpus given by name only their files are read.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from probekit.analysis import progress
from probekit.analysis.settings import Settings
from probekit.arguments import as_concepts
from probekit.errors import InputError
from probekit.model.hooked_model import HookedModel, Reader, load_hooked_model, load_reader
from probekit.storage.cache import cached_texts
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.files import parse_toml
from probekit.text.concepts.spelled import SpelledBlock
from probekit.text.corpus import Corpus, as_corpus, check_name
from probekit.text.tokenizers import of_tokenizer
from probekit.text.tokens import Tokens


class Reading:
    """A model and a corpus, opened when they are first asked for.

    Args:
        model: as in `analyze`, as all others.
        corpus: see there.
        tokenizer: see there.
        device: see there.
        dtype: see there.
        settings: what is read.
        report: called with the progress.
    """

    def __init__(
        self,
        model: Any,
        corpus: Any,
        settings: Settings,
        *,
        tokenizer: Any = None,
        device: str = "auto",
        dtype: str | None = None,
        report: progress.Report = progress.silent,
    ) -> None:
        self.model, self.settings, self.dtype, self.report = model, settings, dtype, report
        self._tokenizer, self._device = tokenizer, device
        named = isinstance(corpus, str | Path) and corpus != "docs"
        self._given: Any = check_name(corpus) if named else as_corpus(corpus).rereadable()

    @cached_property
    def hooked(self) -> HookedModel:
        """The model, loaded."""
        return load_hooked_model(self.model, device=self._device, dtype=self.dtype, tokenizer=self._tokenizer)

    @property
    def reader(self) -> HookedModel | Reader:
        """How the model reads text: of one given by name nothing but its tokenizer is loaded for that."""
        named = isinstance(self.model, str | Path) and "hooked" not in vars(self)
        return self._reader if named else self.hooked

    @cached_property
    def _reader(self) -> Reader:
        return load_reader(self.model)

    @property
    def corpus(self) -> Any:
        """What is digested of the corpus: a path or name as it is, of which no text is read; else its texts, at hand."""
        return self._given if isinstance(self._given, str | Path) else self.texts

    @cached_property
    def opened(self) -> Corpus:
        """The corpus, of which nothing need have been read."""
        return as_corpus(self._given)

    @cached_property
    def texts(self) -> Corpus:
        """The corpus with its texts at hand."""
        return cached(self.opened)

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens that a run reads."""
        reader, settings = self.reader, self.settings
        return self.texts.tokenize(
            reader.tokenizer, context=min(settings.context, reader.context), max_tokens=settings.max_tokens,
            bos_id=reader.bos_id, end_id=reader.end_id, skip_first=settings.skip_first,
            progress=lambda done, total: self.report("tokenizing", done, total),
        )  # fmt: skip

    def concepts(self, given: Any) -> Any:
        """What `analyze` was given as concepts, in a form that can be fingerprinted.

        A set that holds functions is labelled on the tokens of the run, and keeps its labels. A file that names a plug-in,
        or columns of a corpus that lies in memory, becomes the set it stands for.

        Args:
            given: None, "default", a TOML file or a set.
        """
        if isinstance(given, Concepts):
            spelled = any(isinstance(block, SpelledBlock) for block in given.blocks)
            read = given.for_tokenizer(self.reader.tokenizer) if spelled else given
            return read.settled(lambda: self.tokens)
        if given is None or not isinstance(given, str | Path) or str(given) == "default":
            return given
        named = parse_toml(Path(given))
        in_memory = isinstance(self.corpus, Corpus) and not self.corpus.files
        if not named.plugins and not (named.columns and in_memory):
            return given
        made = concepts_of(given, self.reader.tokenizer, self.tokens, self.texts)
        return made.settled(lambda: self.tokens)


def cached(corpus: Corpus) -> Corpus:
    """The same corpus with its texts in memory, which are kept in the cache folder where they are slow to gather."""
    if corpus.cache_key is None:
        return corpus
    return replace(corpus.with_texts(cached_texts(corpus.cache_key, corpus.texts)), cache_key=None)


def concepts_of(concepts: Any, tokenizer: Any, tokens: Tokens, corpus: Corpus) -> Concepts:
    """The set a user means: None or "default", a TOML file, or a `Concepts` itself.

    Raises:
        InputError: it is none of these, or the defaults are wanted without a tokenizer.
    """
    concepts = as_concepts(concepts)
    if concepts is None or (isinstance(concepts, str) and concepts == "default"):
        if tokenizer is None:
            raise InputError(
                "concepts: the defaults need a tokenizer and this model has none; pass concepts=Concepts.from_vocab(...)."
            )
        return Concepts.defaults(tokenizer, tokens)
    if isinstance(concepts, str | Path):
        return Concepts.from_toml(concepts, tokenizer, tokens, corpus)
    return concepts.for_tokenizer(tokenizer)


def of_given(model: Any, tokenizer: Any) -> str | None:
    """Digest of a tokenizer that is given beside a model or held by a bridge; None where the model's files hold it."""
    if isinstance(model, str | Path):
        return None
    return of_tokenizer(getattr(model, "tokenizer", None) if tokenizer is None else tokenizer)
