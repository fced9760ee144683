"""How a run reads its text: which column, what is left out, what is never counted; recorded, said, and part of who it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probekit.analysis import run_fingerprint
from probekit.analysis.inputs import AnalysisInputs, inputs_of_model
from probekit.analysis.reading import Reading
from probekit.analysis.settings import Settings, read_config
from probekit.errors import InputError
from probekit.evidence.pair_sampling import PairSampling
from probekit.followups.concepts import list_concepts
from probekit.model.harvest import harvest
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.report.methods import methods
from probekit.text.corpus import Corpus
from probekit.text.tokens import SKIP_FIRST

MARK = "<|endoftext|>"
N_ROWS = 120


@pytest.fixture(scope="module")
def hooked() -> HookedModel:
    return load_hooked_model("nano")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of docstrings; the first rows have none, every third has a start mark in its middle."""
    texts = [text for text, _ in zip(Corpus.docs().texts(), range(N_ROWS), strict=False)]
    texts = [f"{text[:40]}{MARK}{text[40:]}" if i % 3 == 0 else text for i, text in enumerate(texts)]
    held = [
        {"id": "rec-000", "text": None},
        {"id": "rec-001"},
        *({"id": f"r{i}", "text": t} for i, t in enumerate(texts)),
    ]
    path = tmp_path_factory.mktemp("rows") / "rows.ndjson"
    path.write_text("\n".join(map(json.dumps, held)))
    return path


def inputs_of(hooked: HookedModel, corpus: Any, **settings: Any) -> AnalysisInputs:
    chosen = Settings(
        **{"max_tokens": 3_000, "context": 40, "twins": 0, "min_support": 4, "max_pairs": 10, **settings}
    )
    return inputs_of_model(Reading(hooked.bridge, corpus, chosen, device="cpu"), None, [1], PairSampling())


@pytest.fixture(scope="module")
def analysis_inputs(hooked: HookedModel, rows: Path) -> AnalysisInputs:
    return inputs_of(hooked, rows, skip_first=2)


class TestSaid:
    def test_summary_holds_the_column_and_all_that_is_not_counted(
        self, analysis_inputs: AnalysisInputs
    ) -> None:
        held: Any = analysis_inputs.corpus
        tokens = analysis_inputs.tokens
        assert tokens is not None
        assert (held["column"], held["n_rows_left_out"], held["skip_first"]) == ("text", 2, 2)
        assert list(held["special_tokens"]) == [MARK]
        assert held["special_tokens"][MARK] == tokens.special_in_text()[tokens.bos_id or 0] > 20
        assert (
            "never counted: start mark, the first 2 after the start mark, special tokens wherever"
            in held["policy"]
        )

    def test_what_the_policy_says_is_true(self, analysis_inputs: AnalysisInputs) -> None:
        tokens, labels = analysis_inputs.tokens, analysis_inputs.labels
        assert tokens is not None
        assert labels is not None
        read = tokens.ids[labels.doc, labels.pos]
        assert tokens.bos_id not in read
        assert labels.pos.min() == 3
        n = analysis_inputs.corpus["n_tokens_fit"] + analysis_inputs.corpus["n_tokens_confirm"]
        assert n == len(read) == tokens.n_tokens
        control = replace(tokens, special=())
        assert control.n_tokens == n + sum(analysis_inputs.corpus.get("special_tokens", {}).values()) - sum(
            int((row[1:3] == tokens.bos_id).sum()) for row in tokens.ids
        )

    def test_notes_and_methods_say_so(self, analysis_inputs: AnalysisInputs) -> None:
        column, special = (
            note for note in analysis_inputs.notes if note.startswith(("The text is", "Special tokens"))
        )
        assert (
            column == "The text is column 'text' of rows.ndjson; 2 rows without a text there were left out."
        )
        assert special.startswith(f"Special tokens stand inside the documents ({MARK} ")
        summary = {"corpus": analysis_inputs.corpus, "layers": [{"n_twins": 0}]}
        said = methods(summary, {})[0][1]
        assert "The text is column “text”; 2 rows without a text there left out." in said
        assert "never counted: start mark, the first 2" in said

    def test_a_plain_text_has_nothing_to_say(self, hooked: HookedModel) -> None:
        plain = inputs_of(hooked, Corpus.docs(), skip_first=0)
        assert not [note for note in plain.notes if note.startswith(("The text is", "Special tokens"))]
        assert plain.corpus.get("column", "") is None
        assert "after the start mark" not in plain.corpus["policy"].split("never counted")[1]


class TestSkipped:
    def test_what_is_delivered_is_what_is_counted_and_otherwise_the_same(
        self, hooked: HookedModel, analysis_inputs: AnalysisInputs
    ) -> None:
        """Labels, sums and confirm see the same tokens; the model saw the skipped ones, so no activation moves."""
        tokens = analysis_inputs.tokens
        assert tokens is not None
        docs = np.arange(8)
        kept = tokens.counted[tokens.text][: tokens.text[:8].sum()]
        some = torch.cat([b.sites[1][1] for b in harvest(hooked, tokens, docs, [1], batch_docs=8)])
        whole = torch.cat([b.sites[1][1] for b in harvest(hooked, tokens.whole, docs, [1], batch_docs=8)])
        assert len(some) == kept.sum() < len(whole)
        assert torch.equal(some, whole[torch.from_numpy(kept)])
        for half in ("fit", "confirm"):
            delivered = sum(len(block[1][1]) for block in analysis_inputs.source.blocks(half, [1]))
            corpus: Any = analysis_inputs.corpus
            assert delivered == corpus[f"n_tokens_{half}"]

    def test_it_is_part_of_who_a_run_is(self) -> None:
        record = lambda **more: run_fingerprint.science(
            "m", "c", "d", Settings(**more), layers=None, pairs=None
        )["identity"]
        assert record(skip_first=0) != record(skip_first=1)
        assert record() == record(skip_first=SKIP_FIRST)

    def test_by_file_and_by_list(self, tmp_path: Path, rows: Path) -> None:
        config = tmp_path / "c.toml"
        config.write_text("[science]\nskip_first = 4\n")
        assert read_config(config) == {"skip_first": 4}
        first = lambda skip: list_concepts(
            "nano", str(rows), max_tokens=2_000, context=40, skip_first=skip
        ).set_index("name")
        n_tokens = [int(first(skip).at["pos:0-7", "n_tokens"]) for skip in (0, 3)]  # pyright: ignore[reportArgumentType]
        assert n_tokens[0] > n_tokens[1] > 0

    @pytest.mark.parametrize("value", [-1, True, 2**70])
    def test_what_is_no_number_of_positions_is_refused(self, value: Any) -> None:
        with pytest.raises(InputError, match=r"skip_first: got .*, wanted a whole number ≥ 0"):
            Settings(skip_first=value)

    def test_more_than_the_context_is_refused(self, hooked: HookedModel, rows: Path) -> None:
        with pytest.raises(
            InputError, match="context=40 leaves no room for a counted token behind skip_first=39; raise it"
        ):
            inputs_of(hooked, rows, skip_first=39)
