"""dictionary_learning's format: encoders by the formula that its loader follows, both files checked against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probekit.errors import InputError, NonFiniteError, ShapeError
from probekit.model.dictionaries import read_dictionary

D, N, K = 16, 40, 5
X = (0.5 + np.random.default_rng(1).normal(size=(50, D))).astype(np.float32)
LINEAR = ("encoder.weight", "decoder.weight")
FLAT = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
HELD = {
    "AutoEncoder": (*LINEAR, "encoder.bias", "bias"),
    "AutoEncoderNew": (*LINEAR, "encoder.bias", "decoder.bias"),
    "GatedAutoEncoder": (*LINEAR, "decoder_bias", "r_mag", "gate_bias", "mag_bias"),
    "AutoEncoderTopK": (*LINEAR, "encoder.bias", "b_dec", "k", "threshold"),
    "BatchTopKSAE": (*LINEAR, "encoder.bias", "b_dec", "k", "threshold"),
    "MatryoshkaBatchTopKSAE": (*FLAT, "k", "group_sizes"),
    "JumpReluAutoEncoder": FLAT,
}


def arrays(kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "encoder.weight": (N, D), "decoder.weight": (D, N), "W_enc": (D, N), "W_dec": (N, D), "b_dec": (D,), "bias": (D,),
        "decoder.bias": (D,), "decoder_bias": (D,),
    }  # fmt: skip
    made = {name: 0.3 * torch.randn(shapes.get(name, (N,)), generator=generator) for name in HELD[kind]}
    if "decoder.weight" in made:
        made["decoder.weight"] *= torch.logspace(-0.5, 0.5, N)
    if "k" in made:
        made |= {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.4)}
    if "group_sizes" in made:
        made["group_sizes"] = torch.tensor([10, 30])
    if kind == "JumpReluAutoEncoder":
        made["threshold"] = made["threshold"].abs()
    return made


def saved(folder: Path, kind: str, held: dict[str, torch.Tensor] | None = None, **trainer: Any) -> Path:
    folder.mkdir(exist_ok=True)
    told = {
        "dict_class": kind, "activation_dim": D, "dict_size": N, "layer": 1, "lm_name": "gpt2",
        "submodule_name": "resid_post_layer_1", "lr": 1e-4,
    } | ({"k": K} if "k" in HELD[kind] else {}) | trainer  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"trainer": told, "buffer": {"ctx_len": 20}}))
    torch.save(arrays(kind) if held is None else held, folder / "ae.pt")  # noqa: TID251
    return folder


def encoded(kind: str) -> np.ndarray:
    """One token and latent at a time, float64."""
    w = {name: array.numpy().astype(float) for name, array in arrays(kind).items()}
    enc = w["W_enc"].T if "W_enc" in w else w["encoder.weight"]
    centre = w.get("bias", w.get("decoder_bias", w.get("b_dec", np.zeros(D))))
    centre = np.zeros(D) if kind == "JumpReluAutoEncoder" else centre
    norms = np.sqrt((w["decoder.weight"] ** 2).sum(0)) if kind == "AutoEncoder" else np.ones(N)
    bias = w.get("encoder.bias", w.get("b_enc", np.zeros(N)))
    out = np.zeros((len(X), N))
    for t, row in enumerate(X.astype(float)):
        pre = np.array([(row - centre) @ enc[j] for j in range(N)])
        if kind == "GatedAutoEncoder":
            active = pre + w["gate_bias"] > 0
            out[t] = active * np.maximum(np.exp(w["r_mag"]) * pre + w["mag_bias"], 0)
            continue
        pre = pre + bias
        if kind == "AutoEncoderTopK":
            for j in sorted(range(N), key=lambda j: -pre[j])[:K]:
                out[t, j] = max(pre[j], 0)
        else:
            bar = np.broadcast_to(w.get("threshold", np.zeros(N)), N)
            out[t] = [max(p, 0) if p > bar[j] else 0 for j, p in enumerate(pre)]
    return out * norms


@pytest.mark.parametrize("kind", HELD)
def test_encoders_follow_their_definitions(kind: str, tmp_path: Path) -> None:
    read = read_dictionary(saved(tmp_path / "ae", kind))
    wanted = encoded(kind)
    np.testing.assert_allclose(
        read.encode(torch.from_numpy(X)).numpy(), wanted, atol=2e-5
    )  # float32 sums of 16
    assert 0.05 < (wanted != 0).mean() < 0.8
    assert read.site == "blocks.1.hook_resid_post"
    assert (read.training.model, read.training.context) == ("gpt2", 20)


def test_the_april_update_calls_itself_by_the_older_name(tmp_path: Path) -> None:
    folder = saved(tmp_path / "ae", "AutoEncoder", arrays("AutoEncoderNew"))
    got = read_dictionary(folder).encode(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(got, encoded("AutoEncoderNew"), atol=2e-5)


def test_sites_are_taken_only_from_names_that_say_them(tmp_path: Path) -> None:
    def site(**trainer: Any) -> str | None:
        return read_dictionary(saved(tmp_path / "ae", "AutoEncoder", **trainer)).site

    assert site(submodule_name="mlp_out_layer_1") == "blocks.1.hook_mlp_out"
    assert site(submodule_name="attention_out_layer_1") == "blocks.1.hook_attn_out"
    assert site(submodule_name="resid_post_layer_2") is None  # contradicts layer
    assert site(submodule_name="mlp_in_layer_1") is None
    assert site(submodule_name=None) is None


class TestRefused:
    def test_kinds(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match="dict_class 'CrossCoder' is not read, wanted one of AutoEncoder,"
        ):
            read_dictionary(saved(tmp_path / "ae", "AutoEncoder", dict_class="CrossCoder"))
        (tmp_path / "ae" / "config.json").write_text("{}")
        with pytest.raises(InputError, match="no field 'trainer'"):
            read_dictionary(tmp_path / "ae")

    def test_two_files_that_disagree(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"k is 6, in ae\.pt 5; wanted one number up to 40 in both"):
            read_dictionary(saved(tmp_path / "ae", "AutoEncoderTopK", k=6))
        with pytest.raises(ShapeError, match=r"encoder.weight has shape \(40, 16\), wanted \(dict_size = 50"):
            read_dictionary(saved(tmp_path / "ae", "AutoEncoder", dict_size=50))
        with pytest.raises(InputError, match="array 'threshold' is not part of a AutoEncoder"):
            read_dictionary(
                saved(tmp_path / "ae", "AutoEncoder", arrays("AutoEncoder") | {"threshold": torch.ones(())})
            )

    @pytest.mark.parametrize("kind", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
    def test_a_threshold_that_was_never_estimated(self, kind: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="threshold is -1: it was never estimated"):
            read_dictionary(saved(tmp_path / "ae", kind, arrays(kind) | {"threshold": torch.tensor(-1.0)}))

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        held = arrays("AutoEncoder") | {"bias": torch.full((D,), torch.inf)}
        with pytest.raises(NonFiniteError, match=r"ae\.pt: bias holds NaN or infinity"):
            read_dictionary(saved(tmp_path / "ae", "AutoEncoder", held))
