"""circuit-tracer's cross-layer transcoders: a layer's encoder by its formula, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import probekit as pk
from probekit.errors import InputError, NonFiniteError, ShapeError
from probekit.model.dictionaries import read_dictionary

D, N, LAYER = 16, 40, 3
X = 0.5 + torch.randn(50, D, generator=torch.Generator().manual_seed(1))


def arrays(*, jump: bool, d: int = D) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (N, d), "b_enc": (N,), "b_dec": (d,)} | ({"threshold": (N,)} if jump else {})
    made = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if jump:
        made["threshold"] = made["threshold"].abs()
    return {f"{name}_{LAYER}": array for name, array in made.items()}


def saved(folder: Path, held: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"W_enc_{LAYER}.safetensors"
    save_file(held, path)
    return path


@pytest.mark.parametrize("jump", [False, True])
def test_a_latent_by_its_formula(jump: bool, tmp_path: Path) -> None:
    """Float64, one latent at a time."""
    held = arrays(jump=jump)
    read = read_dictionary(saved(tmp_path / "clt", held))
    assert (read.name, read.site, read.n_inputs, read.n_latents) == ("clt layer 3", None, D, N)
    for latent in range(N):
        pre = X.double() @ held["W_enc_3"][latent].double() + float(held["b_enc_3"][latent])
        floor = float(held["threshold_3"][latent]) if jump else 0.0
        wanted = torch.where(pre > floor, pre, 0.0)
        torch.testing.assert_close(read.encode(X)[:, latent].double(), wanted, rtol=1e-5, atol=1e-6)
    assert 0.01 < float((read.encode(X) > 0).float().mean()) < 0.9  # neither dead nor always on


def test_the_threshold_counts(tmp_path: Path) -> None:
    held = arrays(jump=True)
    both = [
        read_dictionary(saved(tmp_path / name, arrays_)).encode(X)
        for name, arrays_ in (("a", held), ("b", {k: v for k, v in held.items() if "threshold" not in k}))
    ]
    assert not torch.equal(*both)


def test_its_latents_are_concepts(tmp_path: Path) -> None:
    path = saved(tmp_path / "clt", arrays(jump=True, d=128))
    found = pk.latents("nano", path, [3, 17], site="blocks.1.hook_resid_mid")
    assert found.names == ("sae:3", "sae:17")
    with pytest.raises(InputError, match="clt layer 3: its files name no hook of TransformerLens"):
        pk.latents("nano", path, [3])


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            (lambda held: held.pop("b_enc_3"), InputError, "no array 'b_enc_3', which a cross-layer transcoder needs"),
            (lambda held: held.update(W_skip_3=torch.eye(D)), InputError, "array 'W_skip_3' is not part of a cross-layer"),
            (lambda held: held["W_enc_3"].fill_(float("nan")), NonFiniteError, "W_enc_3 holds NaN or infinity"),
            (lambda held: held.update(b_dec_3=torch.zeros(D + 1)), ShapeError, r"b_dec_3 has shape \(17,\), wanted"),
            (lambda held: held["threshold_3"].neg_(), InputError, "threshold_3 holds -.*: a latent would be active below 0"),
        ],
    )  # fmt: skip
    def test_a_file(self, change: object, error: type[Exception], match: str, tmp_path: Path) -> None:
        held = arrays(jump=True)
        read_dictionary(saved(tmp_path / "control", held))
        assert callable(change)
        change(held)
        with pytest.raises(error, match=match):
            read_dictionary(saved(tmp_path / "clt", held))

    def test_a_damaged_one(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "clt", arrays(jump=True))
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match="no weights could be read"):
            read_dictionary(path)
        with pytest.raises(InputError, match="no weights could be read"):
            read_dictionary(tmp_path / "none" / "W_enc_0.safetensors")

    def test_all_layers_at_once(self, tmp_path: Path) -> None:
        save_file({"W_enc_0": torch.zeros(2, 2)}, tmp_path / "W_enc_0.safetensors")
        with pytest.raises(
            InputError, match="holds a cross-layer transcoder, which has an encoder for each layer"
        ):
            read_dictionary(tmp_path)


def test_both_kinds_of_rows_are_read(tmp_path: Path) -> None:
    read = read_dictionary(saved(tmp_path / "clt", arrays(jump=False)))
    np.testing.assert_allclose(read.encode(X.double()).numpy(), read.encode(X).numpy())
