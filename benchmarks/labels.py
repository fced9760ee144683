"""Tokens labelled a second on one core, for the default concepts and for a thousand.

    python benchmarks/labels.py [--tokens 300000] [--corpus docs]      # half a minute; add --json for one line of JSON

Text is tokenized beforehand; what is measured is `Concepts.label` alone, the best of five. A thousand concepts are the
defaults and token identities at lags 0, 1 and 2 up to that number.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"  # said before the libraries ask

import numpy as np

from probekit.analysis.reading import cached
from probekit.model.hooked_model import load_reader
from probekit.text.concepts.concepts import Concepts
from probekit.text.corpus import as_corpus


def best_of(concepts: Concepts, tokens, n_times: int = 5) -> float:
    """Seconds of the fastest of some runs; the first warms up."""
    seconds: list[float] = []
    for _ in range(n_times):
        start = time.perf_counter()
        concepts.label(tokens)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def processor_seconds(concepts: Concepts, tokens) -> float:
    """Processor time of one run: what it costs on a machine shared with others."""
    start = time.process_time()
    concepts.label(tokens)
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--corpus", default="docs")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    reader = load_reader(options.model)
    tokens = cached(as_corpus(options.corpus)).tokenize(
        reader.tokenizer, context=128, max_tokens=options.tokens, bos_id=reader.bos_id
    )
    default = Concepts.defaults(reader.tokenizer, tokens)
    n_more = (1_000 - len(default)) // 3 + 20
    thousand = Concepts.defaults(reader.tokenizer, tokens, n_frequent=n_more)
    rows = []
    for name, concepts in (("default", default), ("thousand", thousand)):
        labels = concepts.label(tokens)
        rows.append(
            {
                "set": name,
                "n_concepts": len(concepts),
                "n_tokens": tokens.n_tokens,
                "labels_a_token": round(len(labels.tokens) / tokens.n_tokens, 1),
                "tokens_a_second": round(tokens.n_tokens / best_of(concepts, tokens)),
                "tokens_a_processor_second": round(
                    tokens.n_tokens / np.min([processor_seconds(concepts, tokens) for _ in range(5)])
                ),
            }
        )
    for row in rows:
        print(json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
