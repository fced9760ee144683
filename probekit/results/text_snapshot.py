"""What a run keeps of its text, so that tokens can be shown in context later without model or tokenizer.

`tokens.parquet` has one row a document (its ids, and which half it fell into), `surfaces.parquet` the bytes that each
used id adds to the text. Axes: doc pos; token (counted tokens in document order).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int32

from probekit.errors import StoreError
from probekit.storage import store
from probekit.storage.digest import Digest
from probekit.storage.manifest import SURFACES, TOKENS
from probekit.text.concepts.vocabulary import read_vocabulary
from probekit.text.tokens import PADDING, Tokens

WINDOW = 12
"""Tokens shown before and after."""


@dataclass(frozen=True)
class TextSnapshot:
    """A token block and the surface of each of its ids."""

    tokens: Tokens
    """The documents."""
    surfaces: dict[int, bytes]
    """What each id adds to the text, UTF-8; an id nobody can spell stands as its number."""

    @classmethod
    def of(cls, tokens: Tokens, tokenizer: Any | None) -> TextSnapshot:
        """Spell every id that occurs.

        Args:
            tokens: the documents.
            tokenizer: a `transformers` tokenizer; None leaves numbers.
        """
        used = np.unique(tokens.ids[tokens.ids >= 0]).tolist()
        if tokenizer is None:
            return cls(tokens, {index: f"{index} ".encode() for index in used})
        known = read_vocabulary(tokenizer).surfaces
        spelt = {
            index: known[index].encode("utf-8", "surrogateescape") if index < len(known) else f"⟨{index}⟩".encode()
            for index in used
        }  # fmt: skip
        return cls(tokens, spelt)

    @classmethod
    def read(cls, folder: Path, digests: Mapping[str, Digest]) -> TextSnapshot | None:
        """What a run kept; None where its activations came from arrays, which have no text."""
        if TOKENS not in digests and not (folder / TOKENS).exists():
            return None
        rows, spelt = (store.read_table(folder / name, digests.get(name)) for name in (TOKENS, SURFACES))
        lengths = rows["ids"].map(len).to_numpy(np.int64)
        ids = np.full((len(rows), int(lengths.max(initial=0))), PADDING, np.int32)
        ids[np.arange(ids.shape[1]) < lengths[:, None]] = np.concatenate(rows["ids"].to_list())
        bos = int(rows["bos_id"].iloc[0]) if len(rows) else -1
        # runs of earlier versions counted every position of the text
        skipped = int(rows["skip_first"].iloc[0]) if "skip_first" in rows and len(rows) else 0
        special = tuple(rows["special"].iloc[0].tolist()) if "special" in rows and len(rows) else ()
        bos_id = None if bos < 0 else bos
        end = int(rows["end_id"].iloc[0]) if "end_id" in rows and len(rows) else -1
        tokens = Tokens(
            ids,
            lengths,
            bos_id,
            folder.name,
            skip_first=skipped,
            special=special,
            end_id=None if end < 0 else end,
        )
        return cls(tokens, dict(zip(spelt["id"].tolist(), spelt["surface"], strict=True)))

    def write(self, folder: Path) -> None:
        """Put both tables into a run directory."""
        rows = [row[:n].tolist() for row, n in zip(self.tokens.ids, self.tokens.lengths, strict=True)]
        bos = -1 if self.tokens.bos_id is None else self.tokens.bos_id
        special = [np.array(self.tokens.special, np.int32)] * len(rows)
        table = pd.DataFrame(
            {
                "ids": rows,
                "bos_id": np.int32(bos),
                "skip_first": np.int32(self.tokens.skip_first),
                "special": special,
            }
        )
        if self.tokens.end_id is not None:
            table["end_id"] = np.int32(self.tokens.end_id)
        store.write_table(folder / TOKENS, table)
        store.write_table(
            folder / SURFACES,
            pd.DataFrame({"id": list(self.surfaces), "surface": list(self.surfaces.values())}),
        )

    def text(self, ids: Int32[np.ndarray, " token"]) -> str:
        """The text of some tokens; half a character at either end becomes �."""
        return b"".join(self.surfaces.get(index, b"") for index in ids.tolist()).decode("utf-8", "replace")

    def in_context(self, token: int, window: int = WINDOW) -> dict[str, str]:
        """One counted token with what stands around it in its document: before, token, after.

        Raises:
            StoreError: the text has no such token, so it belongs to another run.
        """
        if not 0 <= token < self.tokens.n_tokens:
            raise StoreError(
                f"token {token} of {self.tokens.n_tokens:,}: the kept text is not that of this run; run it again."
            )
        doc, pos = int(self.tokens.doc_of_token[token]), int(self.tokens.pos_of_token[token])
        row = self.tokens.ids[doc, : int(self.tokens.lengths[doc])]
        first = self.tokens.first_pos
        return {
            "before": self.text(row[max(first, pos - window) : pos]),
            "token": self.text(row[pos : pos + 1]),
            "after": self.text(row[pos + 1 : pos + 1 + window]),
        }
