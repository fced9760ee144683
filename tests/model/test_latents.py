"""Latents as concepts: the labels against the activations, and what is said of a dictionary that does not belong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dictionary_formula import SITE, D, encoded, saved, weights

import probekit as pk
from probekit.errors import InputError, ModelError, NonFiniteError, ShapeError
from probekit.model.hooked_model import HookedModel, load_hooked_model
from probekit.model.latents import latents, site_activations
from probekit.text.tokens import Tokens


def hidden_at_1(hooked: HookedModel, tokens: Tokens) -> np.ndarray:
    """What enters block 1, from the unhooked model."""
    ids = torch.from_numpy(np.maximum(tokens.ids, 0).astype(np.int64))
    with torch.no_grad():
        hidden = hooked.bridge.original_model(ids, output_hidden_states=True).hidden_states[1]
    return hidden[torch.from_numpy(tokens.counted)].numpy()


def agree(labels: np.ndarray, wanted: np.ndarray, above: float = 0.0) -> None:
    clear = np.abs(wanted - above) > 1e-4
    assert (labels == (wanted > above))[clear].all()
    assert 0.05 < labels.mean() < 0.9


class TestLabels:
    def test_are_where_the_latent_is_active(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        hooked = hooked_model("gpt2")
        chosen = [38, 17, 39]
        concepts = latents(hooked, saved(tmp_path / "sae"), chosen, above=0.1, names=["x", "y", "z"])
        labels = concepts.label(ragged_tokens)
        assert concepts.names == ("sae:38", "sae:17", "sae:39")
        assert set(concepts.kinds) == {"latent"}
        assert concepts.descriptions[1].endswith("exceeds 0.1: y")
        agree(labels.dense(), encoded(hidden_at_1(hooked, ragged_tokens))[:, chosen], 0.1)

    def test_follow_decoder_norms(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        """Top-k as SAELens trains it by default: most tokens have other latents without the norms."""
        hooked = hooked_model("gpt2")
        folder = saved(tmp_path / "sae", "topk", rescale_acts_by_decoder_norm=True)
        labels = latents(hooked, folder, range(40)).label(ragged_tokens).dense()
        x = hidden_at_1(hooked, ragged_tokens)
        agree(labels, encoded(x, "topk", rescaled=True))
        assert ((labels != (encoded(x, "topk") > 0)).any(axis=1)).mean() > 0.6

    def test_of_a_dictionary_of_the_centred_model(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        hooked = hooked_model("gpt2")
        x = hidden_at_1(hooked, ragged_tokens)
        arrays = weights()
        arrays["W_enc"] += 0.2  # sees the mean
        processing = {"center_writing_weights": True}
        folder = saved(tmp_path / "sae", arrays=arrays, model_from_pretrained_kwargs=processing)
        labels = latents(hooked, folder, range(40)).label(ragged_tokens).dense()

        def pre(x: np.ndarray) -> np.ndarray:
            return (x - arrays["b_dec"]) @ arrays["W_enc"] + arrays["b_enc"]

        agree(labels, pre(x - x.mean(1, keepdims=True)))
        assert (labels != (pre(x) > 0)).mean() > 0.05

    def test_of_one_head(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        hooked = hooked_model("gpt2")
        site = "blocks.1.attn.hook_z"
        whole = torch.cat(list(site_activations(hooked, ragged_tokens, site))).numpy()
        arrays = weights()
        arrays |= {
            "W_enc": arrays["W_enc"][:8],
            "b_dec": arrays["b_dec"][:8],
            "W_dec": arrays["W_dec"][:, :8],
        }
        folder = saved(tmp_path / "sae", arrays=arrays, hook_name=site, hook_head_index=1, d_in=8)
        got = latents(hooked, folder, range(40)).label(ragged_tokens).dense()
        pre = (whole[:, 8:] - arrays["b_dec"]) @ arrays["W_enc"] + arrays["b_enc"]
        agree(got, np.maximum(pre, 0))
        with pytest.raises(ShapeError, match=r"wanted \(doc, pos, head, input\) with more than 5 heads"):
            latents(hooked, saved(tmp_path / "sae", hook_name=site, hook_head_index=5), [0]).label(
                ragged_tokens
            )

    def test_at_a_site_that_is_given(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        hooked = hooked_model("gpt2")
        folder = saved(tmp_path / "sae", hook_name="transformer.h.0", model_class_name="AutoModelForCausalLM")
        with pytest.raises(InputError, match=r"its files name no hook of TransformerLens.*pass site="):
            latents(hooked, folder, [0])
        labels = latents(hooked, folder, range(40), site=SITE).label(ragged_tokens).dense()
        agree(labels, encoded(hidden_at_1(hooked, ragged_tokens)))


def test_a_site_in_the_older_spelling_is_the_canonical_one(
    hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
) -> None:
    hooked = hooked_model("llama")
    pairs = zip(
        site_activations(hooked, ragged_tokens, "blocks.1.hook_mlp_out"),
        site_activations(hooked, ragged_tokens, "blocks.1.mlp.hook_out"),
        strict=True,
    )
    for old, new in pairs:
        assert torch.equal(old, new)


def test_frequent_latents_are_chosen_on_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "W_enc": rng.normal(size=(128, 60)).astype(np.float32),
        "b_enc": rng.normal(-6, 4, 60).astype(np.float32),
    }
    folder = saved(tmp_path / "sae", arrays=arrays, apply_b_dec_to_input=False, d_in=128, d_sae=60)
    corpus = pk.Corpus.from_texts(
        ["Returns the value of the array as a list of numbers."] * 3 + ["def f(x): pass"] * 5
    )
    concepts = latents("nano", folder, corpus=corpus, most=10)
    tokens = corpus.tokenize(_nano_tokenizer(), context=64, max_tokens=10_000, bos_id=0)
    share = concepts.label(tokens).dense().mean(0)
    assert 0 < len(concepts) <= 10
    assert ((share >= 0.005) & (share <= 0.3)).all()
    with pytest.raises(InputError, match="none named and no Corpus given"):
        latents("nano", folder)


def _nano_tokenizer():
    from probekit.model.hooked_model import load_reader

    return load_reader("nano").tokenizer


class TestFingerprint:
    """What a run takes for the same concepts."""

    def test_another_training_in_the_same_folder(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel]
    ) -> None:
        hooked = hooked_model("gpt2")
        first = latents(hooked, saved(tmp_path / "sae"), [3])
        again = latents(hooked, saved(tmp_path / "sae"), [3])
        assert again.blocks[0].fingerprint == first.blocks[0].fingerprint  # pyright: ignore[reportAttributeAccessIssue]
        assert again.descriptions == first.descriptions
        arrays = weights()
        arrays["W_enc"][7, 20] += 0.001  # of another latent even: nothing tells what was changed
        trained = latents(hooked, saved(tmp_path / "sae", arrays=arrays), [3])
        assert trained.blocks[0].fingerprint != first.blocks[0].fingerprint  # pyright: ignore[reportAttributeAccessIssue]
        assert trained.names == first.names
        assert trained.descriptions != first.descriptions

    def test_whatever_else_decides_a_label(self, tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
        hooked = load_hooked_model(model_folder("gpt2"))

        def of(hooked: HookedModel = hooked, chosen: tuple[int, ...] = (3,), **options: Any) -> str:
            block: Any = latents(hooked, saved(tmp_path / "sae"), chosen, **options).blocks[0]
            return block.fingerprint

        seen = {of(), of(chosen=(4,)), of(above=0.5), of(site="blocks.0.hook_resid_pre")}
        other = load_hooked_model(model_folder("gpt2"))
        assert of(other) in seen
        with torch.no_grad():
            next(iter(other.bridge.original_model.parameters())).view(-1)[5] += 0.01
        seen.add(of(other))
        assert len(seen) == 5


class TestTold:
    """What a dictionary was trained on and this run is not."""

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            (
                {"model_name": "pythia-70m"},
                "sae: was trained on 'pythia-70m', and this model is called 'gpt2'",
            ),
            (
                {"prepend_bos": False},
                "trained on text without a start mark, and documents begin with one here",
            ),
            ({"seqpos_slice": [5, -5]}, r"trained on positions \[5:-5\] of its rows alone"),
            (
                {"model_from_pretrained_kwargs": {"revision": "step3"}},
                "trained on the weights revision='step3'",
            ),
        ],
    )
    def test_in_a_warning(
        self, config: dict[str, Any], said: str, tmp_path: Path, hooked_model: Callable[[str], HookedModel]
    ) -> None:
        with pytest.warns(UserWarning, match=said) as told:
            latents(hooked_model("gpt2"), saved(tmp_path / "sae", **config), [0])
        assert len(told) == 1

    def test_rows_longer_than_in_training(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        concepts = latents(hooked_model("gpt2"), saved(tmp_path / "sae", context_size=12), [0])
        with pytest.warns(UserWarning, match=r"rows of 12 tokens, and 'ragged' has rows of 20.*context=12"):
            concepts.label(ragged_tokens)

    def test_nothing_where_all_is_the_same(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        config = {
            "prepend_bos": True,
            "context_size": 20,
            "seqpos_slice": [None],
            "model_from_pretrained_kwargs": {},
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for name in ("gpt2", "gpt2-small", "openai-community/gpt2", None):
                folder = saved(tmp_path / "sae", model_name=name, **config)
                latents(hooked_model("gpt2"), folder, [0]).label(ragged_tokens)


class TestRefused:
    def test_another_model(
        self, tmp_path: Path, hooked_model: Callable[[str], HookedModel], ragged_tokens: Tokens
    ) -> None:
        hooked = hooked_model("gpt2")
        folder = saved(tmp_path / "sae", hook_name="blocks.7.hook_resid_pre")
        with pytest.raises(
            ModelError, match=r"no hook 'blocks\.7\.hook_resid_pre'.*trained on another model"
        ):
            latents(hooked, folder, [0]).label(ragged_tokens)
        wide = {"W_enc": np.ones((24, 4), np.float32), "b_enc": np.zeros(4, np.float32)}
        folder = saved(tmp_path / "wide", arrays=wide, apply_b_dec_to_input=False, d_in=24, d_sae=4)
        with pytest.raises(ShapeError, match=r"reads 24 inputs, but 'blocks\.1\.hook_resid_pre' is 16 wide"):
            latents(hooked, folder, [0]).label(ragged_tokens)
        with pytest.raises(InputError, match="latent 40 does not exist; there are 40"):
            latents(hooked, saved(tmp_path / "plain"), [40])
        with pytest.raises(InputError, match="above: got nan, wanted a finite activation"):
            latents(hooked, saved(tmp_path / "plain"), [0], above=float("nan"))
        assert hooked.d_model == D

    def test_activations_that_are_no_numbers(
        self, tmp_path: Path, model_folder: Callable[[str], Path], ragged_tokens: Tokens
    ) -> None:
        """They would compare as smaller than any threshold, and every latent would seem silent."""
        hooked = load_hooked_model(model_folder("gpt2"))
        concepts = latents(hooked, saved(tmp_path / "sae"), [0])
        with torch.no_grad():
            for parameter in hooked.bridge.original_model.parameters():
                parameter.fill_(torch.inf)
        with pytest.raises(
            NonFiniteError, match=r"activations at 'blocks\.1\.hook_resid_pre' hold NaN or infinity"
        ):
            concepts.label(ragged_tokens)
