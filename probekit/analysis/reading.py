"""What the parts of a call mean, looked at once: its model, its corpus, its tokens, and the labels that only functions know.

Whoever digests one of them here and whoever computes with it hold the same object, so nothing can change in between. What is
not needed is not made: of a model and a corpus given by name only their files are read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from probekit.analysis import progress
from probekit.analysis.inputs import cached, concepts_of, read_tokens
from probekit.analysis.settings import Settings
from probekit.model.hooked_model import HookedModel, Reader, load_hooked_model, load_reader
from probekit.text.concepts.concepts import Concepts
from probekit.text.concepts.files import parse_toml
from probekit.text.concepts.spelled import SpelledBlock
from probekit.text.corpus import Corpus, as_corpus
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
        self._model, self._tokenizer, self._device, self._dtype = model, tokenizer, device, dtype
        self._settings, self._report = settings, report
        self.corpus: Any = _opened(corpus)

    @cached_property
    def hooked(self) -> HookedModel:
        """The model, loaded."""
        return load_hooked_model(
            self._model, device=self._device, dtype=self._dtype, tokenizer=self._tokenizer
        )

    @property
    def loaded(self) -> HookedModel | None:
        """The model where it had to be loaded; None where nobody needed it yet."""
        return vars(self).get("hooked")

    @property
    def reader(self) -> HookedModel | Reader:
        """How the model reads text: of one given by name nothing but its tokenizer is loaded."""
        return self._reader if isinstance(self._model, str | Path) else self.hooked

    @cached_property
    def _reader(self) -> Reader:
        return load_reader(self._model)

    @cached_property
    def texts(self) -> Corpus:
        """The corpus itself."""
        return cached(as_corpus(self.corpus))

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens that a run reads."""
        return read_tokens(self.texts, self.reader, self._settings, self._report)

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


def _opened(corpus: Any) -> Any:
    """A corpus with its texts at hand where they come from no file; a path or name as it is."""
    if corpus is None or (isinstance(corpus, str) and corpus == "docs"):
        return cached(as_corpus(corpus))
    if isinstance(corpus, str | Path):
        return corpus
    return as_corpus(corpus).rereadable()


def of_given(model: Any, tokenizer: Any) -> str | None:
    """Digest of a tokenizer that is given beside a model or held by a bridge; None where the model's files hold it."""
    if isinstance(model, str | Path):
        return None
    return of_tokenizer(getattr(model, "tokenizer", None) if tokenizer is None else tokenizer)
