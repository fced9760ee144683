"""A file that is gone from a run or came into a model's folder, and a follow-up in another dtype than the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import CorruptError, InputError
from probekit.followups import causal as causal_module
from probekit.model.folder import NANO_FOLDER, model_files
from probekit.storage.contents import Contents


class TestGone:
    """Nothing is no table of nothing: `concepts` of a run on arrays is empty, that of any other run is not."""

    @pytest.fixture
    def run(self, planted_run: pk.Run, tmp_path: Path) -> Path:
        return Path(shutil.copytree(planted_run.path, tmp_path / "run"))

    @pytest.mark.parametrize(
        ("name", "look"),
        [
            ("concepts.parquet", lambda run: run.concepts),
            ("examples.json", lambda run: run.examples()),
            ("tokens.parquet", lambda run: run.pair(*run.pairs()[["a", "b"]].iloc[0])),
            ("surfaces.parquet", lambda run: run.pair(*run.pairs()[["a", "b"]].iloc[0])),
        ],
    )
    def test_a_file_of_a_run(self, name: str, look: Any, run: Path) -> None:
        look(pk.load(run))
        (run / name).unlink()
        with pytest.raises(CorruptError, match=f"{name}: the file is gone"):
            look(pk.load(run))

    def test_what_a_run_on_arrays_never_had(self, arrays: Any) -> None:
        neurons, labels, docs, _, _ = arrays
        run = pk.analyze_arrays(neurons, labels, docs, max_pairs=3, spikes=(), progress=False)
        assert run.concepts.empty
        assert set(run.pair("c0", "c1").contexts["before"]) == {""}


class TestNew:
    def test_a_file_that_comes_into_a_models_folder(self, tmp_path: Path) -> None:
        """A checkpoint that is still being written: what came after the digest may have been read as well."""
        folder = Path(shutil.copytree(NANO_FOLDER, tmp_path / "model"))
        held = Contents()
        held.of_folder(folder, model_files)
        held.require_unchanged()
        (folder / "checkpoint-1").mkdir()
        (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"x")
        held.require_unchanged()  # no file of the model's
        (folder / "added_tokens.json").write_text("{}")
        with pytest.raises(
            InputError, match=r"added_tokens\.json: came into its folder while the run was reading it"
        ):
            held.require_unchanged()
        held.require_unchanged(in_memory=True)  # everything had been read by then


@pytest.mark.sweep
def test_the_causal_check_computes_in_the_dtype_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    words = "the cat sat on a mat and then it saw that dog".split()  # noqa: SIM905
    corpus = pk.Corpus.from_texts([" ".join(rng.choice(words, 40)) for _ in range(120)])
    ids = np.arange(2_048)
    concepts = pk.Concepts.from_vocab({"a": ids % 2 == 0, "b": ids % 3 == 0})
    run = pk.analyze(
        "nano", corpus, concepts=concepts, layers=[0], twins=0, max_tokens=4_000, min_support=10, spikes=(), device="cpu",
        dtype="bfloat16", progress=False,
    )  # fmt: skip
    seen: list[torch.dtype] = []

    def load_hooked_model(*args: Any, **options: Any) -> Any:
        hooked = real(*args, **options)
        seen.append(hooked.dtype)
        return hooked

    real = causal_module.load_hooked_model
    monkeypatch.setattr(causal_module, "load_hooked_model", load_hooked_model)
    pk.causal(
        run, "nano", concepts=concepts, n_pairs=1, n_random=1, max_tokens=1_000, device="cpu", progress=False
    )
    assert run.summary["model"]["dtype"] == "bfloat16"
    assert seen == [torch.bfloat16]
