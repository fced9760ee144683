"""SAE latents as concepts: the encoder against the formula of its paper, the labels against the activations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import probekit as pk
from probekit.errors import InputError, ModelError, NonFiniteError, ShapeError
from probekit.model.host import Host
from probekit.model.latents import latents, read_sae, site_activations
from probekit.text.tokens import Tokens

D, N = 16, 40
SITE = "blocks.1.hook_resid_pre"


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "W_enc": (D, N), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,), "threshold": (N,), "b_gate": (N,), "r_mag": (N,),
        "b_mag": (N,),
    }  # fmt: skip
    made = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    made["threshold"] = np.abs(made["threshold"])
    return made


def saved(folder: Path, arrays: dict[str, np.ndarray] | None = None, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(arrays or weights(), folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"hook_name": SITE, "d_in": D, "d_sae": N} | config))
    return folder


def reference(x: np.ndarray, architecture: str, *, decentred: bool = True) -> np.ndarray:
    """The encoders, one token and latent at a time, in float64."""
    w = {name: array.astype(float) for name, array in weights().items()}
    out = np.zeros((len(x), N))
    for t, row in enumerate(x.astype(float)):
        row = row - w["b_dec"] if decentred else row
        pre = np.array([row @ w["W_enc"][:, j] for j in range(N)])
        if architecture == "gated":
            out[t] = [
                max(pre[j] * np.exp(w["r_mag"][j]) + w["b_mag"][j], 0) if pre[j] + w["b_gate"][j] > 0 else 0
                for j in range(N)
            ]
            continue
        pre = pre + w["b_enc"]
        if architecture == "jumprelu":
            out[t] = [max(p, 0) if p > w["threshold"][j] else 0 for j, p in enumerate(pre)]
        elif architecture == "topk":
            for j in sorted(range(N), key=lambda j: -pre[j])[:5]:
                out[t, j] = max(pre[j], 0)
        else:
            out[t] = np.maximum(pre, 0)
    return out


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("standard", {}),
        ("standard", {"architecture": "standard", "activation_fn_str": "relu"}),
        ("topk", {"architecture": "topk", "k": 5}),
        ("topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}}),
        ("jumprelu", {"architecture": "jumprelu"}),
        ("gated", {"architecture": "gated"}),
    ],
)
def test_encoders_follow_their_papers(tmp_path: Path, architecture: str, config: dict[str, object]) -> None:
    x = np.random.default_rng(1).normal(size=(30, D)).astype(np.float32)
    for decentred in (True, False):
        sae = read_sae(saved(tmp_path / "sae", **config, apply_b_dec_to_input=decentred))
        got = sae.encode(torch.from_numpy(x)).numpy()
        wanted = reference(x, architecture, decentred=decentred)
        # float32 sums of 16 terms of size 1, times a gain of at most e³
        np.testing.assert_allclose(got, wanted, atol=1e-4)
        assert 0.02 < (wanted > 0).mean() < 0.8


def test_inputs_rescaled_first(tmp_path: Path) -> None:
    x = torch.from_numpy(np.random.default_rng(2).normal(2.0, 3.0, size=(9, D)).astype(np.float32))
    plain = read_sae(saved(tmp_path / "plain"))
    normed = read_sae(saved(tmp_path / "norm", normalize_activations="constant_norm_rescale"))
    torch.testing.assert_close(normed.encode(x), normed.encode(5 * x))
    torch.testing.assert_close(normed.encode(x), plain.encode(4 * x / x.norm(dim=1, keepdim=True)))
    layer_norm = read_sae(saved(tmp_path / "ln", normalize_activations="layer_norm"))
    torch.testing.assert_close(layer_norm.encode(x), layer_norm.encode(5 * x + 7), atol=1e-3, rtol=1e-3)
    with pytest.raises(
        InputError, match="normalised by 'expected_average_only_in', whose factor is not in the files"
    ):
        read_sae(saved(tmp_path / "avg", normalize_activations="expected_average_only_in"))


def test_labels_are_where_the_latent_is_active(
    tmp_path: Path, model_host: Callable[[str], Host], ragged_tokens: Tokens
) -> None:
    """Against activations of the unhooked model, read with its own hidden states."""
    host = model_host("gpt2")
    chosen = [3, 17, 0]
    concepts = latents(host, saved(tmp_path / "sae"), chosen, above=0.1, names=["x", "y", "z"])
    labels = concepts.label(ragged_tokens)
    assert concepts.names == ("sae:3", "sae:17", "sae:0")
    assert set(concepts.kinds) == {"latent"}
    assert concepts.descriptions[1].endswith("exceeds 0.1: y")
    ids = torch.from_numpy(np.maximum(ragged_tokens.ids, 0).astype(np.int64))
    with torch.no_grad():
        hidden = host.bridge.original_model(ids, output_hidden_states=True).hidden_states[1]
    x = hidden[torch.from_numpy(ragged_tokens.counted)].numpy()
    wanted = reference(x, "standard")[:, chosen]
    clear = np.abs(wanted - 0.1) > 1e-4
    assert (labels.dense() == (wanted > 0.1))[clear].all()
    assert 0.1 < labels.dense().mean() < 0.9


def test_a_site_in_the_older_spelling_is_the_canonical_one(
    model_host: Callable[[str], Host], ragged_tokens: Tokens
) -> None:
    host = model_host("llama")
    pairs = zip(
        site_activations(host, ragged_tokens, "blocks.1.hook_mlp_out"),
        site_activations(host, ragged_tokens, "blocks.1.mlp.hook_out"),
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
    folder = saved(tmp_path / "sae", arrays, apply_b_dec_to_input=False)
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
    from probekit.model.host import load_reader

    return load_reader("nano").tokenizer


class TestRefused:
    def test_folders_that_hold_none(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"no autoencoder could be read .*wanted a folder with cfg\.json"
        ):
            read_sae(tmp_path)
        folder = saved(tmp_path / "sae", architecture="crosscoder")
        with pytest.raises(InputError, match="architecture 'crosscoder' is unknown"):
            read_sae(folder)
        with pytest.raises(InputError, match="names no hook_name"):
            read_sae(saved(tmp_path / "sae", hook_name=None))
        with pytest.raises(InputError, match="a top-k autoencoder with k = None"):
            read_sae(saved(tmp_path / "sae", architecture="topk"))
        arrays = weights()
        del arrays["threshold"]
        with pytest.raises(InputError, match="has no threshold; a jumprelu autoencoder needs it"):
            read_sae(saved(tmp_path / "sae", arrays, architecture="jumprelu"))

    def test_arrays_that_do_not_fit(self, tmp_path: Path) -> None:
        with pytest.raises(ShapeError, match=r"b_enc has shape \(39,\), wanted \(40,\)"):
            read_sae(saved(tmp_path / "sae", weights() | {"b_enc": np.zeros(39, np.float32)}))
        with pytest.raises(NonFiniteError, match="W_enc holds NaN"):
            read_sae(saved(tmp_path / "sae", weights() | {"W_enc": np.full((D, N), np.nan, np.float32)}))

    def test_another_model(
        self, tmp_path: Path, model_host: Callable[[str], Host], ragged_tokens: Tokens
    ) -> None:
        host = model_host("gpt2")
        folder = saved(tmp_path / "sae", hook_name="blocks.7.hook_resid_pre")
        with pytest.raises(
            ModelError, match=r"no hook 'blocks\.7\.hook_resid_pre'.*trained on another model"
        ):
            latents(host, folder, [0]).label(ragged_tokens)
        wide = {"W_enc": np.ones((24, 4), np.float32), "b_enc": np.zeros(4, np.float32)}
        with pytest.raises(ShapeError, match=r"reads 24 inputs, but 'blocks\.1\.hook_resid_pre' is 16 wide"):
            latents(host, saved(tmp_path / "wide", wide), [0]).label(ragged_tokens)
        with pytest.raises(InputError, match="latent 40 does not exist; there are 40"):
            latents(host, saved(tmp_path / "plain"), [40])
