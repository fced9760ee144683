"""Compound words: does a layer tell "doc|string" or "default value" from its tokens better than other bigrams as frequent?

    python analyses/compounds.py                                          # nano on the docs corpus, some 10 minutes
    python analyses/compounds.py --model FOLDER --corpus FILE --name a,b  # any other model and text
    python analyses/compounds.py --quick --out -                          # few tokens and twins, printed

A known positive, if there is one: Gurnee et al. 2023 (arXiv:2305.01610) report that early layers combine the tokens of
compound words. Pairs are (previous token ∧ current token). *Word*: the second token continues the word that the first
begins. *Phrase*: two whole words, in the list PHRASES (or `--phrases FILE`, one a line). Each is matched with another
bigram of the text, no part of a word and no listed phrase, of like counts: n11 and both tokens' own, hence of like
association.
All go through `pk.analyze` as one list of pairs. The statistic of a layer is the mean standardised d′ of the compounds
less that of their matches, set beside the same difference of every twin. Adds a section to analyses/results/compounds.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import linear_sum_assignment

import probekit as pk
from probekit.evidence.nulls import compress, leave_one_out
from probekit.model.hooked_model import load_reader
from probekit.probes.pairs import MIN_DOCS
from probekit.storage import store
from probekit.text.concepts.blocks import VocabBlock
from probekit.text.concepts.phrases import phrase_ids
from probekit.text.concepts.tokens import identity_block
from probekit.text.concepts.vocabulary import Vocabulary, read_vocabulary
from probekit.text.corpus import as_corpus
from probekit.text.tokens import Tokens

RESULT = Path(__file__).parent / "results" / "compounds.md"
PHRASES = (
    # of documentation
    "for example", "default value", "such as", "at least", "as well", "instead of", "return value", "keyword argument",
    "keyword arguments", "data type", "file name", "based on", "in place", "same shape", "input array", "output array",
    "random state", "number of", "given axis", "one of", "according to", "rather than", "more than", "less than",
    "each other", "in order", "set of", "list of", "if not", "see also", "can be", "will be", "must be", "should be",
    "has been", "does not", "do not", "is not", "used to", "up to", "depending on", "regular expression", "base class",
    "time series", "data frame", "degrees of", "standard deviation", "probability density", "linear model",
    # of stories
    "once upon", "upon a", "one day", "little girl", "little boy", "ice cream", "best friend", "best friends",
    "happily ever", "ever after", "all day", "thank you", "a lot", "a little",
    "the end", "every day", "birthday party", "look at", "went to", "wanted to",
    "loved to", "there was",
    # of Gurnee et al.
    "social security", "high school", "credit card", "north america", "mental health", "human rights", "public health",
)  # fmt: skip
CALIPER = 0.7
"""Largest difference of a match in any of the three log₂ counts, in root mean square: a factor of 1.6."""
MOST = 60
"""Compounds of each kind at most, the most frequent ones."""


@dataclass(frozen=True)
class Bigrams:
    """The bigrams of a text that may be testable."""

    ids: np.ndarray
    """First and second token, int [bigram 2]."""
    log_counts: np.ndarray
    """log₂ of n11, of the first and of the second token's own count, [bigram 3]."""
    kind: np.ndarray
    """"word", "phrase", "inside" (other neighbours within a word, left out) or ""."""


def bigrams_of(
    tokens: Tokens, vocabulary: Vocabulary, phrases: set[tuple[int, int]], support: int
) -> Bigrams:
    """Every bigram whose four quadrants hold twice the support over the whole text, in documents enough."""
    both = tokens.counted[:, 1:] & tokens.counted[:, :-1]
    first, second = tokens.ids[:, :-1][both], tokens.ids[:, 1:][both]
    ids, n11 = np.unique(np.stack([first, second], axis=1), axis=0, return_counts=True)
    n_first = np.bincount(first, minlength=len(vocabulary))[ids[:, 0]]
    n_second = np.bincount(tokens.ids[tokens.counted], minlength=len(vocabulary))[ids[:, 1]]
    enough = np.minimum(n11, np.minimum(n_first - n11, n_second - n11)) >= 2 * support
    # both halves need MIN_DOCS documents of each: a fifth more than twice as many, as halves are not even
    docs = np.unique(np.stack([first, second, np.nonzero(both)[0]], axis=1), axis=0)
    n_docs = np.unique(docs[:, :2], axis=0, return_counts=True)[1]
    enough &= n_docs >= 2.4 * MIN_DOCS
    ids, counts = ids[enough], np.stack([n11, n_first, n_second], axis=1)[enough]
    words = [(vocabulary.surfaces[a], vocabulary.surfaces[b]) for a, b in ids.tolist()]
    kind = [
        "phrase" if (a, b) in phrases else "word" if continues(*pair) else "inside" if joined(*pair) else ""
        for (a, b), pair in zip(ids.tolist(), words, strict=True)
    ]
    usable = np.array([bool(a.strip() and b.strip()) for a, b in words])
    return Bigrams(ids[usable], np.log2(counts[usable]), np.array(kind)[usable])


def continues(first: str, second: str) -> bool:
    """Whether the second token goes on with the word that the first one begins."""
    begins = first[:1].isspace() and first.strip().isalpha()
    return begins and second.isalpha() and second.islower()


def joined(first: str, second: str) -> bool:
    """Whether the two stand within one word."""
    return first[-1:].isalnum() and second[:1].isalnum()


def matched(bigrams: Bigrams, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Compounds of one kind and their matches, each used once, within the caliper."""
    mine, others = np.flatnonzero(bigrams.kind == kind), np.flatnonzero(bigrams.kind == "")
    mine = mine[np.argsort(-bigrams.log_counts[mine, 0], kind="stable")]
    if not len(mine) or not len(others):
        return mine[:0], others[:0]
    apart = bigrams.log_counts[mine][:, None] - bigrams.log_counts[others][None]
    distance = np.sqrt((apart**2).mean(2))
    rows, columns = linear_sum_assignment(distance)
    near = distance[rows, columns] <= CALIPER
    return mine[rows[near]][:MOST], others[columns[near]][:MOST]


def concepts_of(vocabulary: Vocabulary, ids: np.ndarray) -> pk.Concepts:
    """Identities of all second tokens at lag 0 and of all first tokens at lag 1."""
    blocks: tuple[VocabBlock, ...] = (
        identity_block(vocabulary, np.unique(ids[:, 1]).tolist(), (0,)),
        identity_block(vocabulary, np.unique(ids[:, 0]).tolist(), (1,)),
    )
    return pk.Concepts(blocks)


def named(concepts: pk.Concepts, ids: np.ndarray) -> list[tuple[str, str]]:
    """The bigrams as pairs of concept names."""
    n_second = len(np.unique(ids[:, 1]))
    seconds = dict(zip(np.unique(ids[:, 1]).tolist(), concepts.names[:n_second], strict=True))
    firsts = dict(zip(np.unique(ids[:, 0]).tolist(), concepts.names[n_second:], strict=True))
    return [(seconds[b], firsts[a]) for a, b in ids.tolist()]


@dataclass(frozen=True)
class Difference:
    """Compounds less matches in one layer."""

    n: int
    """Couples tested."""
    value: float
    """Mean difference of the standardised d′."""
    se: float
    """Its standard error over couples."""
    low: float
    """Twins' prediction interval, Bonferroni over the layers."""
    high: float
    d_prime: tuple[float, float]
    """Median d′ of the compounds and of their matches."""
    computed: tuple[int, int]
    """Compounds and matches computed."""
    above: tuple[int, int]
    """Compounds and matches above their twins."""


def difference(run: pk.Run, layer: int, couples: list[tuple[Any, Any]], n_layers: int) -> Difference:
    """The statistic of one layer beside its twins."""
    table = run.pairs(layer)
    place = {pair: i for i, pair in enumerate(zip(table["a"], table["b"], strict=True))}
    detail = store.read_table(run.path / "pair_details" / f"layer-{layer:02d}.parquet")
    twins = np.stack(detail["d_prime_twins"].to_list(), axis=1)
    z = leave_one_out(*compress(table["d_prime"].to_numpy(), twins))
    kept = [(place[a], place[b]) for a, b in couples if a in place and b in place]
    mine, theirs = (np.array(side, int) for side in zip(*kept, strict=True))
    own = z.layer[mine] - z.layer[theirs]
    null = (z.twins[:, mine] - z.twins[:, theirs]).mean(1)
    n_twins = len(null)
    reach = stats.t.ppf(1 - 0.025 / n_layers, n_twins - 1) * null.std(ddof=1) * np.sqrt(1 + 1 / n_twins)
    flags = {name: table[name].fillna(False).to_numpy(bool) for name in ("computed", "above_twins")}
    d_prime = table["d_prime"].to_numpy()
    return Difference(
        n=len(kept),
        value=float(own.mean()),
        se=float(own.std(ddof=1) / np.sqrt(len(own))),
        low=float(null.mean() - reach),
        high=float(null.mean() + reach),
        d_prime=(float(np.median(d_prime[mine])), float(np.median(d_prime[theirs]))),
        computed=(int(flags["computed"][mine].sum()), int(flags["computed"][theirs].sum())),
        above=(int(flags["above_twins"][mine].sum()), int(flags["above_twins"][theirs].sum())),
    )


def section(options: argparse.Namespace) -> Iterator[str]:
    """One model on one text."""
    reader = load_reader(options.model)
    corpus = as_corpus(options.corpus)
    model_name, _, corpus_name = options.name.partition(",")
    tokens = corpus.tokenize(
        reader.tokenizer, context=min(128, reader.context), max_tokens=options.tokens, bos_id=reader.bos_id
    )
    vocabulary = read_vocabulary(reader.tokenizer)
    listed = PHRASES if options.phrases is None else tuple(options.phrases.read_text().splitlines())
    phrases = {tuple(ids) for phrase in listed if len(ids := phrase_ids(reader.tokenizer, phrase)) == 2}
    bigrams = bigrams_of(tokens, vocabulary, phrases, options.support)
    chosen = {kind: matched(bigrams, kind) for kind in ("word", "phrase")}
    every = np.unique(np.concatenate([side for couple in chosen.values() for side in couple]))
    yield f"## {model_name} on {corpus_name}\n"
    if not len(every):
        yield f"No compound has {2 * options.support} tokens in every quadrant and a match: not looked for.\n"
        return
    concepts = concepts_of(vocabulary, bigrams.ids[every])
    names = dict(zip(every.tolist(), named(concepts, bigrams.ids[every]), strict=True))
    run = pk.analyze(
        options.model, corpus, concepts=concepts, pairs=list(names.values()), max_tokens=options.tokens,
        min_support=options.support, twins=options.twins, controls=(), spikes=(), seed=options.seed, out=options.run,
    )  # fmt: skip
    held, n_layers = run.summary["corpus"], len(run.summary["layers"])
    tested = set(zip(run.pairs()["a"], run.pairs()["b"], strict=True))
    yield (
        f"{held['n_tokens_fit']:,} tokens to fit, {held['n_tokens_confirm']:,} to confirm, {held['n_docs']:,} documents, "
        f"{options.twins} twins, seed {options.seed}, quadrants of {options.support} tokens or more; "
        f"{len(tested)} of {len(every)} bigrams testable.\n"
    )
    for kind, (mine, theirs) in chosen.items():
        couples = [(names[a], names[b]) for a, b in zip(mine.tolist(), theirs.tolist(), strict=True)]
        couples = [couple for couple in couples if couple[0] in tested and couple[1] in tested]
        if len(couples) < 2:
            yield f"**{kind.capitalize()}s**: {len(couples)} testable couples, too few: neither found nor missed.\n"
            continue
        yield from of_kind(run, kind, couples, n_layers)


def of_kind(run: pk.Run, kind: str, couples: list[tuple[Any, Any]], n_layers: int) -> Iterator[str]:
    """The table of one kind of compound, and what it comes to."""
    said = ", ".join(f"`{told(a)}` ({told(b)})" for a, b in couples[:8])
    table = run.pairs(run.summary["layers"][0]["layer"]).set_index(["a", "b"])
    n11 = [np.median([table.loc[pair]["n11"] for pair in side]) for side in zip(*couples, strict=True)]
    yield (
        f"**{kind.capitalize()}s**: {len(couples)} couples, such as {said}, matches in brackets; median n11 of the confirm "
        f"half {n11[0]:.0f} and {n11[1]:.0f}.\n"
    )
    yield (
        "| layer | difference of z ± s.e. over couples | twins' interval | found | median d′: compounds / matches | above "
        "twins | computed |"
    )
    yield "|---|---|---|---|---|---|---|"
    for row in run.summary["layers"]:
        found = difference(run, row["layer"], couples, n_layers)
        verdict = "yes" if found.value > found.high else "reversed" if found.value < found.low else "no"
        yield (
            f"| {row['layer']} | {found.value:+.2f} ± {found.se:.2f} | {found.low:+.2f} to {found.high:+.2f} | {verdict} | "
            f"{found.d_prime[0]:.2f} / {found.d_prime[1]:.2f} | {found.above[0]} / {found.above[1]} | "
            f"{found.computed[0]} / {found.computed[1]} |"
        )
    yield ""


def told(pair: tuple[str, str]) -> str:
    """A bigram as it reads."""
    second, first = (name.partition("=")[2].strip('"') for name in pair)
    return f"{first}|{second}".replace("|", "·").replace("`", "'").strip()


HEAD = """# Compound words against bigrams of like frequency

Written by `python analyses/compounds.py`; each section is one model and text. *Words*: the second token continues the word
that the first begins; *phrases*: two whole words of the list in the script. Each is matched with another bigram, no part
of a word and no listed phrase, of like n11 and like counts of both tokens, hence of like association. "Difference of z":
mean standardised d′ of the compounds less that of their matches; the interval is where the same difference of a further
PC-sign twin would lie, at 95 % over all layers together (Bonferroni). *Found*: above it.
"""


def main() -> None:
    """Run the study and put its section into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--corpus", default=None)
    parser.add_argument("--name", default="nano,the docs corpus", help="what the page calls model and text")
    parser.add_argument("--phrases", type=Path, default=None, help="a file with one phrase a line")
    parser.add_argument("--tokens", type=int, default=600_000)
    parser.add_argument("--support", type=int, default=20)
    parser.add_argument("--twins", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=None, help="where the run is kept")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default=str(RESULT), help="page that the section is added to; - prints it")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.twins, options.support = 60_000, 5, 10
    lines: list[str] = []
    for line in section(options):
        lines.append(line)
        print(line, flush=True)
    if options.out != "-":
        page = Path(options.out)
        before = page.read_text() if page.exists() else HEAD
        # a section of the same name is replaced
        parts = [part for part in before.split("\n## ") if not part.startswith(lines[0][3:].strip())]
        store.write_text(page, "\n## ".join(parts).rstrip() + "\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
