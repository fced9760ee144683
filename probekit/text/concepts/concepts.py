"""A set of boolean base concepts and the labels it gives to a block of tokens.

Source: base concepts c_i(t) on tokens: token identity, token class and context by default; next tokens, n-grams, columns of
the documents, spans marked by hand, lexicons, latents, plug-ins and functions of the user's own on request.
Axes: concept, doc, pos, token (counted tokens in document order).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from probekit.errors import ConfigError, InputError, ShapeError, guarded, require_unmasked, shown
from probekit.fingerprint import of_parts
from probekit.text.concepts.blocks import (
    Block,
    Column,
    FunctionBlock,
    Kind,
    VocabBlock,
    fingerprint_of,
    labels_of,
    place,
    settled,
)
from probekit.text.concepts.defaults import DEFAULT_FREQUENT, default_blocks
from probekit.text.concepts.documents import MOST_VALUES, Span, column_block, span_block
from probekit.text.concepts.files import parse_toml, read_spans, toml_blocks
from probekit.text.concepts.labels import Labels
from probekit.text.concepts.lexicon import FAMILIES, lexicon_block
from probekit.text.concepts.phrases import ngram_blocks, phrase_blocks, two_token_compounds
from probekit.text.concepts.plugins import load_plugin
from probekit.text.concepts.spelled import (
    Spelled,
    SpelledBlock,
    as_lags,
    set_columns,
    some_of,
    spelled_pattern,
    spelled_words,
)
from probekit.text.concepts.tokens import class_block, frequent_ids, identity_block
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.corpus import Corpus
from probekit.text.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Concepts:
    """Boolean base concepts; sets add with `+`."""

    blocks: tuple[Block, ...]
    """The concepts in order, in groups that are labelled together."""

    def __post_init__(self) -> None:
        """Refuse an empty set and two concepts of one name."""
        if not self.columns:
            raise InputError("the set of concepts is empty; wanted at least one")
        twice = [name for name, n_times in Counter(self.names).items() if n_times > 1]
        if twice:
            raise InputError(
                f"{len(twice)} concept names stand twice, first {twice[0]!r}; rename one of the two"
            )

    @classmethod
    @guarded
    def defaults(
        cls,
        tokenizer: Any,
        corpus: Corpus | Tokens,
        *,
        n_frequent: int = DEFAULT_FREQUENT,
        context: int = 128,
    ) -> Concepts:
        """Identity of the most frequent tokens and token classes at lags 0, 1 and 2, and context at lag 0.

        Args:
            tokenizer: a `transformers` tokenizer.
            corpus: the tokens to be labelled, or a corpus, of which the first 100,000 tokens are read.
            n_frequent: tokens whose identity is a concept.
            context: longest row when a corpus is given.
        """
        tokens = _read(corpus, tokenizer, context)
        return cls(default_blocks(tokenizer, tokens, n_frequent=n_frequent))

    @classmethod
    @guarded
    def from_vocab(
        cls, masks: Mapping[str, Any], lags: Sequence[int] = (0,), *, kind: Kind = "user"
    ) -> Concepts:
        """Sets of token ids as concepts.

        The concept bears the set's name at lag 0, and `prev:name`, `prev2:name` at lags 1 and 2.

        >>> Concepts.from_vocab({"red": np.array([True, False, True])}, lags=(0, 1)).names
        ('red', 'prev:red')

        Args:
            masks: name → bool[vocab].
            lags: places back at which each set is looked up, each a concept of its own.
            kind: what the concepts are reported as.
        """
        if not masks:
            raise InputError("from_vocab: no mask given; wanted at least one name → bool[vocab]")
        arrays = {name: _as_mask(name, mask) for name, mask in masks.items()}
        lengths = {name: len(mask) for name, mask in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ShapeError(
                f"from_vocab: masks of different lengths {lengths}, wanted one entry a vocabulary id"
            )
        columns = set_columns(list(arrays), lags, kind)
        places = tuple(range(len(arrays))) * len(lags)
        return cls((VocabBlock(columns, np.stack(list(arrays.values())), places),))

    @classmethod
    @guarded
    def from_words(cls, words: Any, lags: Any = (0,)) -> Concepts:
        """Words as concepts: each where the token is that word, with or without a space before it.

        >>> Concepts.from_words(["cat", "dog"], lags=(0, 1)).names
        ('cat', 'dog', 'prev:cat', 'prev:dog')
        >>> Concepts.from_words({"pet": ["cat", "dog", 464]}).names
        ('pet',)

        Which ids they are is looked up once the model is known.

        Args:
            words: a list of words, each a concept (kind "token"); or name → words, each name a concept that holds at any of
                its words (kind "class"). A word that begins with white space is meant exactly; a number is a token id.
            lags: places back at which each is looked up, each a concept of its own; one number or several.
        """
        if isinstance(words, Mapping):
            sets = [spelled_words(str(name), held) for name, held in words.items()]
            return cls((SpelledBlock.of(some_of(sets, "from_words"), as_lags(lags), "class"),))
        held = [words] if isinstance(words, str | int) else words
        if isinstance(held, bytes | bytearray) or not isinstance(held, Iterable):
            raise InputError(
                f"from_words: got {shown(words)} ({type(words).__name__}), wanted a list of words"
            )
        sets = [spelled_words(word if isinstance(word, str) else f"#{shown(word)}", [word]) for word in held]
        return cls((SpelledBlock.of(some_of(sets, "from_words"), as_lags(lags), "token"),))

    @classmethod
    @guarded
    def from_regex(cls, patterns: Mapping[str, Any], lags: Any = (0,)) -> Concepts:
        """Sets of tokens by a regular expression, searched in the string of every token of the vocabulary; kind "class".

        >>> Concepts.from_regex({"plural": r"[a-z]s$"}).names
        ('plural',)

        Which ids they are is looked up once the model is known. The string of a token holds the space before a word.

        Args:
            patterns: name → expression, as text or compiled.
            lags: places back at which each is looked up, each a concept of its own; one number or several.
        """
        if not isinstance(cast(Any, patterns), Mapping):
            raise InputError(f"from_regex: got {shown(patterns)}, wanted name → regular expression")
        sets = [spelled_pattern(str(name), pattern) for name, pattern in patterns.items()]
        return cls((SpelledBlock.of(some_of(sets, "from_regex"), as_lags(lags), "class"),))

    @classmethod
    @guarded
    def next_token(
        cls, tokenizer: Any, corpus: Corpus | Tokens, *, n_frequent: int = DEFAULT_FREQUENT
    ) -> Concepts:
        """What comes next: identity of the most frequent tokens and token classes of the token after.

        A decoder sees no later token, so such a concept is a prediction; an encoder has read it. Never among the defaults.

        Args:
            tokenizer: a `transformers` tokenizer.
            corpus: the tokens to be labelled, or a corpus, of which the first 100,000 tokens are read.
            n_frequent: tokens whose identity is a concept.
        """
        tokens, vocabulary = _read(corpus, tokenizer), read_vocabulary(tokenizer)
        ids = [int(index) for index in frequent_ids(tokens, vocabulary, n_frequent)]
        blocks = (
            identity_block(vocabulary, ids, (-1,), kind="next") if ids else None,
            class_block(vocabulary, tokens, (-1,), kind="next"),
        )
        return cls(tuple(block for block in blocks if block is not None))

    @classmethod
    @guarded
    def ngrams(
        cls, tokenizer: Any, corpus: Corpus | Tokens, *, n_first: int = 30, n_second: int = 30
    ) -> Concepts:
        """A grid of bigrams: tokens at lag 1 that begin, and tokens at lag 0 that end, the most frequent bigrams.

        `analyze(..., pairs="token × token, lag 1")` then tests the grid.

        Args:
            tokenizer: a `transformers` tokenizer.
            corpus: the tokens to be labelled, or a corpus, of which the first 100,000 tokens are read.
            n_first: tokens at lag 1.
            n_second: tokens at lag 0.
        """
        vocabulary = read_vocabulary(tokenizer)
        return cls(ngram_blocks(vocabulary, _read(corpus, tokenizer), n_first=n_first, n_second=n_second))

    @classmethod
    @guarded
    def phrases(cls, tokenizer: Any, phrases: Sequence[str] | None = None) -> Concepts:
        """Phrases of two tokens or more: the identity of the last one at lag 0, of the one before at lag 1, and so on.

        Args:
            tokenizer: a `transformers` tokenizer.
            phrases: such as "social security"; None takes the compound words of Gurnee et al. 2023 that are two tokens of
                this tokenizer.
        """
        vocabulary = read_vocabulary(tokenizer)
        chosen = two_token_compounds(tokenizer) if phrases is None else phrases
        return cls(phrase_blocks(vocabulary, tokenizer, chosen))

    @classmethod
    @guarded
    def from_column(
        cls, corpus: Corpus, column: str, *, values: Sequence[Any] | None = None, most: int = MOST_VALUES
    ) -> Concepts:
        """Labels of whole documents from a column of their table; kind "document".

        Args:
            corpus: the corpus that is analysed, read from a table or dataset.
            column: its name.
            values: values that become concepts; None takes the most frequent ones, or quarters of many numbers.
            most: values at most, when none are given.
        """
        return cls((column_block(corpus, column, values=values, most=most),))

    @classmethod
    @guarded
    def from_spans(
        cls, spans: Mapping[str, Iterable[Span]], texts: Sequence[str], tokenizer: Any
    ) -> Concepts:
        """Labels marked by hand on characters; a token is labelled where its ink overlaps a span; kind "span".

        Args:
            spans: name → (document, first character, character after the last), documents counted from 0.
            texts: the documents, as the corpus has them.
            tokenizer: the fast `transformers` tokenizer that is analysed.
        """
        return cls((span_block(spans, texts, tokenizer),))

    @classmethod
    @guarded
    def lexicon(cls, tokenizer: Any, families: Sequence[str] = FAMILIES) -> Concepts:
        """Part of speech, frequency and sentiment of English words; needs the extra `lexicon`; kind "lexicon".

        Args:
            tokenizer: a `transformers` tokenizer.
            families: any of pos, frequency, sentiment.
        """
        return cls((lexicon_block(read_vocabulary(tokenizer), families),))

    @classmethod
    @guarded
    def plugin(cls, name: str, tokenizer: Any, tokens: Tokens) -> Concepts:
        """Concepts of an installed package that registers an entry point in the group `probekit.concepts`.

        Args:
            name: of the entry point, which is a function of (tokenizer, tokens) that returns a `Concepts` set.
            tokenizer: a `transformers` tokenizer.
            tokens: the tokens to be labelled.
        """
        made = load_plugin(name)(tokenizer, tokens)
        if not isinstance(made, cls):
            raise InputError(f"plug-in {name!r} returned a {type(made).__name__}, wanted a Concepts set")
        return made

    @classmethod
    @guarded
    def from_function(
        cls,
        name: str | Mapping[str, Any],
        f: Callable[[Any], Any] | None = None,
        *,
        over: Literal["ids", "strings"] = "ids",
        lags: Any = (0,),
        description: str = "",
    ) -> Concepts:
        """Concepts computed by functions: of the whole block of ids, or of the string of one token.

        >>> Concepts.from_function({"capital": lambda text: text.strip().istitle()}, over="strings").names
        ('capital',)

        Args:
            name: of the one concept; or name → function, for several.
            f: the function of the one concept. Over ids it is given int[doc pos] and returns bool[doc pos]; it sees the
                beginning-of-sequence tokens and -1 for padding, and what it says there is left out. Over strings it is given
                the string of each token of the vocabulary, its space included, and returns True or False.
            over: "ids" or "strings".
            lags: places back at which a set of strings is looked up, one number or several; over ids the function itself can
                look back.
            description: when the one concept holds, in words.
        """
        given: Any = name
        functions: dict[Any, Any] = dict(given) if isinstance(given, Mapping) else {given: f}
        wrong = [held for held, one in functions.items() if not isinstance(held, str) or not callable(one)]
        if wrong or not functions or (isinstance(given, Mapping) and f is not None):
            raise InputError(
                f"from_function: got {shown(name)} and {shown(f)}, wanted a name and a function, or name → function"
            )
        told = {held: description or f"the user's function {held!r}" for held in functions}
        if over == "strings":
            sets = [Spelled(held, function=one) for held, one in functions.items()]
            made = SpelledBlock.of(sets, as_lags(lags), "user")
            at = zip(made.columns, made.set_of_column, strict=True)
            columns = [replace(one, description=f"{place(one.lag)} {told[sets[i].name]}") for one, i in at]
            return cls((replace(made, columns=tuple(columns)),))
        if over != "ids" or as_lags(lags) != (0,):
            raise InputError(
                f"from_function: got over={shown(over)} and lags={shown(lags)}, wanted over='strings', or over='ids' "
                "without lags, where the function looks back itself"
            )
        return cls(
            tuple(
                FunctionBlock((Column(held, "user", 0, told[held]),), one) for held, one in functions.items()
            )
        )

    @classmethod
    @guarded
    def from_toml(
        cls, path: str | Path, tokenizer: Any, tokens: Tokens | None = None, corpus: Corpus | None = None
    ) -> Concepts:
        """Concepts listed in a file; its keys are described in `probekit.text.concepts.files`.

        Args:
            path: the TOML file.
            tokenizer: a `transformers` tokenizer.
            tokens: the tokens to be labelled; only needed for `defaults`, `next`, `ngrams` and `plugins`.
            corpus: the corpus that is analysed; only needed for `columns` and `spans`.
        """
        parsed = parse_toml(Path(path))
        blocks = list(toml_blocks(Path(path), parsed, tokenizer, tokens))
        parts: list[Concepts] = [cls(tuple(blocks))] if blocks else []
        name = Path(path).name
        if (parsed.next or parsed.ngrams or parsed.plugins) and tokens is None:
            raise ConfigError(
                f"{name}: next, ngrams and plugins need the corpus; pass the tokens to be labelled"
            )
        if (parsed.columns or parsed.spans) and corpus is None:
            raise ConfigError(f"{name}: columns and spans need the corpus; pass corpus=")
        if parsed.next and tokens is not None:
            parts.append(cls.next_token(tokenizer, tokens))
        if parsed.ngrams is not None and tokens is not None:
            parts.append(
                cls.ngrams(tokenizer, tokens, n_first=parsed.ngrams.first, n_second=parsed.ngrams.second)
            )
        if parsed.phrases:
            parts.append(cls.phrases(tokenizer, parsed.phrases))
        if parsed.compounds:
            parts.append(cls.phrases(tokenizer))
        if parsed.lexicon:
            parts.append(cls.lexicon(tokenizer, parsed.lexicon))
        if tokens is not None:
            parts += [cls.plugin(plugin, tokenizer, tokens) for plugin in parsed.plugins]
        if corpus is not None:
            parts += [cls.from_column(corpus, column) for column in parsed.columns]
            if parsed.spans is not None:
                spans = read_spans(Path(path).parent / parsed.spans)
                parts.append(cls.from_spans(spans, list(corpus.texts()), tokenizer))
        if not parts:
            raise InputError("the set of concepts is empty; wanted at least one")
        return sum(parts[1:], parts[0])

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Name, kind, lag and description of each concept."""
        return tuple(column for block in self.blocks for column in block.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each concept."""
        return tuple(column.name for column in self.columns)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each concept: token, class, context, user, …"""
        return tuple(column.kind for column in self.columns)

    @property
    def lags(self) -> tuple[int, ...]:
        """How many tokens back each concept looks."""
        return tuple(column.lag for column in self.columns)

    @property
    def by_token(self) -> tuple[bool, ...]:
        """Whether each concept is decided by the one token it looks at: a set of token types, whatever stands around it."""
        sets = VocabBlock | SpelledBlock
        return tuple(isinstance(block, sets) for block in self.blocks for _ in block.columns)

    @property
    def descriptions(self) -> tuple[str, ...]:
        """When each concept holds, in words."""
        return tuple(column.description for column in self.columns)

    def __len__(self) -> int:
        """Concepts."""
        return len(self.columns)

    def __add__(self, other: Concepts) -> Concepts:
        """Both sets, this one first; a concept of single tokens that stands in both is taken once."""
        mine = [block for block in self.blocks if isinstance(block, VocabBlock)]
        added: list[Block] = []
        for block in other.blocks:
            if isinstance(block, VocabBlock):
                block = block.without([index for held in mine for index in held.repeats(block)])  # noqa: PLW2901
            if block is not None:
                added.append(block)
        return Concepts((*self.blocks, *added))

    def for_tokenizer(self, tokenizer: Any) -> Concepts:
        """The same set with what is given by its spelling looked up in a tokenizer's vocabulary; `analyze` does so itself.

        Args:
            tokenizer: a `transformers` tokenizer; None where there is none.

        Raises:
            InputError: a word that is no single token of it, a pattern that no token matches; no tokenizer where one is
                needed.
        """
        spelled = [block for block in self.blocks if isinstance(block, SpelledBlock)]
        if not spelled:
            return self
        if tokenizer is None:
            raise InputError(
                f"concept {spelled[0].columns[0].name!r} is given by its spelling, and this model has no tokenizer; give "
                "sets of ids (Concepts.from_vocab)"
            )
        return Concepts(
            tuple(b.read_by(tokenizer) if isinstance(b, SpelledBlock) else b for b in self.blocks)
        )

    def settled(self, tokens: Callable[[], Tokens]) -> Concepts:
        """The same set, with the labels of functions and of foreign blocks asked for once and kept.

        Args:
            tokens: gives the tokens that are analysed; called only if the set holds such a block.
        """
        mine = next((name for name in ("label", "columns") if _is_other(type(self), name)), None)
        if mine is not None:
            raise InputError(
                f"concepts: {type(self).__qualname__} has a `{mine}` of its own, which nobody would ask; write it as a "
                "block, a class with `columns` and `label(tokens)`, and pass Concepts((block,))."
            )
        return Concepts(tuple(settled(block, tokens) for block in self.blocks))

    @property
    def fingerprint(self) -> str | None:
        """Digest of all that decides the labels; None where only the labels tell, until they are `settled`."""
        parts = [fingerprint_of(block) for block in self.blocks]
        return None if None in parts else of_parts(str(part) for part in parts)

    @guarded
    def label(self, tokens: Tokens) -> Labels:
        """Labels of every counted token.

        Blocks read the whole text, positions that are not counted included: a lag looks back at what stands there.

        Args:
            tokens: the token block.
        """
        whole = tokens.whole
        where = [found for block in self.blocks for found in labels_of(block, whole)]
        if whole is not tokens:
            counted = tokens.counted[tokens.text]
            place = (np.cumsum(counted) - 1).astype(np.int32)
            where = [place[found[counted[found]]] for found in where]
        indptr = np.concatenate([[0], np.cumsum([len(found) for found in where])]).astype(np.int64)
        return Labels(
            names=self.names,
            kinds=self.kinds,
            lags=self.lags,
            doc=tokens.doc_of_token,
            pos=tokens.pos_of_token,
            indptr=indptr,
            tokens=np.concatenate(where),
            n_docs=tokens.n_docs,
            by_token=self.by_token,
        )

    def __repr__(self) -> str:
        """How many of each kind, and the first names."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(self.kinds).items())
        shown_names = ", ".join(map(repr, self.names[:3])) + (", …" if len(self) > 3 else "")
        return f"Concepts({len(self)}: {kinds}; {shown_names})"


def _is_other(kind: type[Concepts], name: str) -> bool:
    """Whether a subclass has something of its own in the place of what the class has."""
    return next(cls for cls in kind.__mro__ if name in vars(cls)) is not Concepts


def _read(corpus: Corpus | Tokens, tokenizer: Any, context: int = 128) -> Tokens:
    if isinstance(corpus, Tokens):
        return corpus
    return corpus.tokenize(tokenizer, context=context, max_tokens=100_000, bos_id=None)


def _as_mask(name: str, mask: Any) -> np.ndarray:
    """One boolean entry a vocabulary id."""
    require_unmasked(mask, f"from_vocab: mask {name!r}")
    array = np.asarray(mask.detach().cpu().numpy() if hasattr(mask, "detach") else mask)
    if array.ndim != 1 or array.dtype != np.bool_:
        raise ShapeError(
            f"from_vocab: mask {name!r} has shape {array.shape} of {array.dtype}, wanted bool[vocab]"
        )
    return array
