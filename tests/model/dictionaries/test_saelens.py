"""SAELens' format: encoders by the formula of their papers, every field honoured or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dictionary_formula import NEEDED, D, K, N, encoded, saved, weights
from safetensors.numpy import save_file

from probekit.errors import InputError, NonFiniteError, ShapeError
from probekit.model.dictionaries import read_dictionary

X = (0.5 + np.random.default_rng(1).normal(size=(50, D))).astype(np.float32)


def encode(folder: Path, x: np.ndarray = X) -> np.ndarray:
    return read_dictionary(folder).encode(torch.from_numpy(x.astype(np.float32))).numpy()


def close(got: np.ndarray, wanted: np.ndarray) -> None:
    """float32 sums of 16 terms, times norms of at most 20: a rounding of 1e-7 each."""
    np.testing.assert_allclose(got, wanted, atol=3e-5)
    assert 0.02 < (wanted != 0).mean() < 0.8


class TestEncoders:
    @pytest.mark.parametrize("architecture", sorted(set(NEEDED) - {"transcoder", "jumprelu_skip_transcoder"}))
    @pytest.mark.parametrize("decentred", [True, False])
    def test_follow_their_papers(self, architecture: str, decentred: bool, tmp_path: Path) -> None:
        folder = saved(tmp_path / "sae", architecture, apply_b_dec_to_input=decentred)
        close(encode(folder), encoded(X, architecture, decentred=decentred))

    @pytest.mark.parametrize("architecture", ["topk", "abstopk", "batchtopk", "matryoshka_batchtopk"])
    def test_rescaled_by_decoder_norms(self, architecture: str, tmp_path: Path) -> None:
        """The default of SAELens' top-k training; without it other latents win."""
        rescaled = encode(saved(tmp_path / "sae", architecture, rescale_acts_by_decoder_norm=True))
        close(rescaled, encoded(X, architecture, rescaled=True))
        plain = encode(saved(tmp_path / "sae", architecture, rescale_acts_by_decoder_norm=False))
        assert ((rescaled != 0) != (plain != 0)).any(axis=1).mean() > 0.9

    @pytest.mark.parametrize("architecture", ["transcoder", "jumprelu_skip_transcoder"])
    def test_transcoders_read_their_input_site(self, architecture: str, tmp_path: Path) -> None:
        arrays = weights(architecture)
        arrays |= {"W_dec": np.ones((N, 24), np.float32), "b_dec": np.ones(24, np.float32)}
        if "W_skip" in arrays:
            arrays["W_skip"] = np.ones((24, D), np.float32)
        folder = saved(
            tmp_path / "t", architecture, arrays=arrays, d_out=24, hook_name_out="blocks.1.hook_mlp_out"
        )
        close(encode(folder), encoded(X, architecture, decentred=False))
        read = read_dictionary(folder)
        assert (read.site, read.output_site) == ("blocks.1.hook_resid_pre", "blocks.1.hook_mlp_out")

    def test_inputs_normalised_first(self, tmp_path: Path) -> None:
        x = X.astype(float)
        normed = encode(saved(tmp_path / "s", normalize_activations="constant_norm_rescale"))
        close(normed, encoded(4 * x / np.linalg.norm(x, axis=1, keepdims=True)))
        normed = encode(saved(tmp_path / "s", normalize_activations="layer_norm"))
        centred = x - x.mean(1, keepdims=True)
        close(normed, encoded(centred / (x.std(1, ddof=1, keepdims=True) + 1e-5)))

    def test_statistics_that_lie_beside_a_checkpoint(self, tmp_path: Path) -> None:
        folder = saved(tmp_path / "s", normalize_activations="expected_average_only_in")
        with pytest.raises(
            InputError, match="'expected_average_only_in', whose numbers are not in the folder"
        ):
            read_dictionary(folder)
        (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.25, "has_whitening": false}')
        close(encode(folder), encoded(0.25 * X))
        rng = np.random.default_rng(3)
        mean, matrix = rng.normal(size=D), rng.normal(size=(D, D)) / 4
        saved(folder, normalize_activations="covariance_whitening")
        with pytest.raises(InputError, match="'covariance_whitening', whose numbers are not in the folder"):
            read_dictionary(folder)
        (folder / "activation_scaler.json").write_text('{"scaling_factor": null, "has_whitening": true}')
        save_file(
            {"mean": mean, "matrix": matrix, "inverse_matrix": matrix},
            folder / "activation_whitening.safetensors",
        )
        close(encode(folder), encoded((X - mean) @ matrix))
        saved(folder, normalize_activations="none")
        with pytest.raises(InputError, match="statistics of the inputs, but normalize_activations is 'none'"):
            read_dictionary(folder)

    def test_checkpoints_of_older_versions(self, tmp_path: Path) -> None:
        arrays = weights("jumprelu")
        arrays["log_threshold"] = np.log(arrays.pop("threshold"))
        close(encode(saved(tmp_path / "log", "jumprelu", arrays=arrays)), encoded(X, "jumprelu"))
        older = {"architecture": ..., "hook_name": ..., "hook_point": "blocks.0.hook_resid_pre"}
        topk = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "k": ...}
        folder = saved(tmp_path / "topk", "topk", **older, **topk)
        close(encode(folder), encoded(X, "topk"))
        assert read_dictionary(folder).site == "blocks.0.hook_resid_pre"
        folder = saved(
            tmp_path / "bool", normalize_activations=False, noise_scale=0.3, finetuning_scaling_factor=True
        )
        close(encode(folder), encoded(X))

    def test_fields_in_metadata(self, tmp_path: Path) -> None:
        """Version 6 keeps there what concerns the language model; what training used is no field of the encoder."""
        metadata = {
            "sae_lens_version": "6.54.12", "hook_name": "blocks.1.attn.hook_z", "hook_head_index": 1, "model_name": "gpt2",
            "prepend_bos": False, "context_size": 20, "seqpos_slice": [5, -5], "whatever": 1,
            "model_from_pretrained_kwargs": {"center_writing_weights": True},
            "training_architecture_details": {"rescale_acts_by_decoder_norm": True},
        }  # fmt: skip
        read = read_dictionary(saved(tmp_path / "s", "jumprelu", hook_name=..., metadata=metadata))
        close(encode(tmp_path / "s"), encoded(X, "jumprelu"))
        assert (read.site, read.head) == ("blocks.1.attn.hook_z", 1)
        told = read.training
        assert (told.model, told.prepend_bos, told.context, told.positions) == ("gpt2", False, 20, (5, -5))
        assert told.processing == {"center_writing_weights": True}
        metadata["seqpos_slice"] = [None]
        saved(tmp_path / "s", "jumprelu", hook_name=..., metadata=metadata)
        assert read_dictionary(tmp_path / "s").training.positions == ()


@pytest.mark.parametrize(
    ("architecture", "config", "said"),
    [
        ("standard", {"architecture": "crosscoder"}, "architecture 'crosscoder' is unknown"),
        ("standard", {"architecture": "temporal"}, "'temporal' is not read: its latents depend on the tokens before"),
        ("standard", {"architecture": "matching_pursuit"}, "'matching_pursuit' is not read: it chooses latents one after"),
        ("standard", {"input_gain": 2.0}, "field 'input_gain' = 2.0 is unknown and may change the encoder"),
        ("standard", {"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu' in a standard autoencoder"),
        ("jumprelu", {"activation_fn": "topk", "sae_lens_version": "6.0.0"}, "activation_fn 'topk' in a jumprelu"),
        ("standard", {"activation_fn_kwargs": {"alpha": 2}}, "activation_fn_kwargs has 'alpha', which is unknown"),
        ("standard", {"normalize_activations": "batch"}, "normalize_activations 'batch' is unknown"),
        ("standard", {"normalize_activations": 3}, "normalize_activations 3 is unknown"),
        ("standard", {"normalize_activations": True}, "'expected_average_only_in', whose numbers are not in the folder"),
        ("standard", {"reshape_activations": "hook_q"}, "reshape_activations 'hook_q' is unknown"),
        ("standard", {"reshape_activations": "hook_z"}, "is hook_z, but hook_name is 'blocks.1.hook_resid_pre'"),
        ("standard", {"apply_b_dec_to_input": "no"}, "apply_b_dec_to_input is 'no', wanted a bool"),
        ("transcoder", {"apply_b_dec_to_input": True}, "apply_b_dec_to_input is true in a transcoder"),
        ("jumprelu", {"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm in a jumprelu"),
        ("topk", {"rescale_acts_by_decoder_norm": 1}, "rescale_acts_by_decoder_norm is 1, wanted a bool"),
        ("topk", {"k": ...}, "a top-k autoencoder with k = None, wanted a number up to 40"),
        ("topk", {"k": 41}, "with k = 41, wanted a number up to 40"),
        ("topk", {"k": True}, "with k = True"),
        ("standard", {"dtype": "int8"}, "dtype 'int8' is unknown"),
        ("standard", {"hook_head_index": -1}, "hook_head_index is -1, wanted a head"),
        ("standard", {"metadata": []}, r"metadata is \[\], wanted an object"),
        ("standard", {"seqpos_slice": ["a"]}, "seqpos_slice is"),
        ("standard", {"model_from_pretrained_kwargs": "x"}, "model_from_pretrained_kwargs is 'x', wanted a dict"),
    ],
)  # fmt: skip
def test_fields_refused_by_name(architecture: str, config: dict[str, Any], said: str, tmp_path: Path) -> None:
    read_dictionary(saved(tmp_path / "control", architecture))
    with pytest.raises(InputError, match=said):
        read_dictionary(saved(tmp_path / "sae", architecture, **config))


def test_every_field_of_a_training_run_is_known(tmp_path: Path) -> None:
    """Configurations of all versions, with what else they hold, are read; the fields that decide are those tested above."""
    noise = {"lr": 1e-4, "l1_coefficient": 2, "wandb_project": "x", "expansion_factor": 8, "use_ghost_grads": True,
             "dataset_path": "y", "n_batches_in_buffer": 3, "decoder_init_norm": 0.1, "jumprelu_bandwidth": 0.1}  # fmt: skip
    close(encode(saved(tmp_path / "s", **noise)), encoded(X))


class TestArrays:
    @pytest.mark.parametrize(
        ("name", "shape", "said"),
        [
            (
                "W_enc",
                (N, D),
                r"W_enc has shape \(40, 16\), wanted \(d_in = 16, d_sae = 40\)\. It seems to be transposed",
            ),
            (
                "W_dec",
                (N, D + 1),
                r"W_dec has shape \(40, 17\), wanted \(d_sae = 40, d_out = 16\)\. The file and its",
            ),
            ("b_enc", (N - 1,), r"b_enc has shape \(39,\), wanted \(d_sae = 40\)"),
            ("b_dec", (1, D), r"b_dec has shape \(1, 16\), wanted \(d_in = 16\)"),
            ("threshold", (), r"threshold has shape \(\), wanted \(d_sae = 40\)"),
        ],
    )
    def test_of_wrong_shape(self, name: str, shape: tuple[int, ...], said: str, tmp_path: Path) -> None:
        arrays = weights("jumprelu") | {name: np.zeros(shape, np.float32)}
        with pytest.raises(ShapeError, match=rf"sae_weights\.safetensors: {said}"):
            read_dictionary(saved(tmp_path / "sae", "jumprelu", arrays=arrays))

    def test_of_another_dictionary(self, tmp_path: Path) -> None:
        with pytest.raises(ShapeError, match=r"W_enc has shape \(16, 40\), wanted \(d_in = 32, d_sae = 40\)"):
            read_dictionary(saved(tmp_path / "sae", d_in=32))

    @pytest.mark.parametrize("architecture", sorted(NEEDED))
    def test_missing_ones_are_named(self, architecture: str, tmp_path: Path) -> None:
        for name in set(weights(architecture)) - {"W_dec", "b_dec"}:
            arrays = weights(architecture)
            del arrays[name]
            with pytest.raises(
                InputError, match=f"no array '{name}', which a {architecture} dictionary needs"
            ):
                read_dictionary(saved(tmp_path / "sae", architecture, arrays=arrays))

    def test_an_input_bias_that_is_missing_is_not_taken_for_zero(self, tmp_path: Path) -> None:
        arrays = weights()
        del arrays["b_dec"]
        with pytest.raises(InputError, match="no array 'b_dec'"):
            read_dictionary(saved(tmp_path / "sae", arrays=arrays))
        close(
            encode(saved(tmp_path / "sae", arrays=arrays, apply_b_dec_to_input=False)),
            encoded(X, decentred=False),
        )

    def test_that_nobody_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="array 'threshold' is not part of a standard dictionary"):
            read_dictionary(saved(tmp_path / "sae", "standard", arrays=weights("jumprelu")))

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(NonFiniteError, match="W_enc holds NaN or infinity"):
            read_dictionary(
                saved(tmp_path / "s", arrays=weights() | {"W_enc": np.full((D, N), np.nan, np.float32)})
            )
        with pytest.raises(InputError, match="b_enc holds int64, wanted floating-point numbers"):
            read_dictionary(saved(tmp_path / "s", arrays=weights() | {"b_enc": np.zeros(N, np.int64)}))

    def test_sparsify_by_its_name(self, tmp_path: Path) -> None:
        """Its cfg.json has the name of SAELens'; beside SAELens' own weights the file decides nothing."""
        folder = saved(tmp_path / "s")
        wanted = encode(folder)
        save_file(weights(), folder / "sae.safetensors")
        np.testing.assert_array_equal(encode(folder), wanted)
        (folder / "sae_weights.safetensors").unlink()
        with pytest.raises(
            InputError, match=r"sae\.safetensors is sparsify's format, which is not read; wanted"
        ):
            read_dictionary(folder)

    def test_a_threshold_that_was_never_estimated(self, tmp_path: Path) -> None:
        arrays = weights("batchtopk") | {"topk_threshold": np.asarray(0.0)}
        with pytest.raises(InputError, match="topk_threshold is 0: it was never estimated"):
            read_dictionary(saved(tmp_path / "s", "batchtopk", arrays=arrays))


def test_half_precision_is_read_as_it_is_stored(tmp_path: Path) -> None:
    arrays = {name: array.astype(np.float16) for name, array in weights().items()}
    got = encode(saved(tmp_path / "s", arrays=arrays, dtype="float16"))
    # weights of size 1 rounded to 11 bits, sums of 16
    np.testing.assert_allclose(got, encoded(X), atol=0.01)


def test_another_number_is_another_fingerprint(tmp_path: Path) -> None:
    folder = saved(tmp_path / "s", "topk", rescale_acts_by_decoder_norm=True)
    before = read_dictionary(folder).fingerprint
    assert read_dictionary(folder).fingerprint == before
    for name, array in weights("topk").items():
        changed = array.copy()
        changed.flat[array.size // 2] += 0.25
        saved(folder, "topk", arrays=weights("topk") | {name: changed}, rescale_acts_by_decoder_norm=True)
        assert read_dictionary(folder).fingerprint != before, name
    for config in (
        {"k": 4},
        {"apply_b_dec_to_input": False},
        {"normalize_activations": "layer_norm"},
        {"hook_head_index": 0},
    ):
        saved(folder, "topk", **{"rescale_acts_by_decoder_norm": True} | config)
        assert read_dictionary(folder).fingerprint != before, config


JSONS = {
    "nested a million deep": b'{"a":' + b"[" * 1_000_000,
    "a list": b"[1, 2]", "nothing": b"", "two byte orders": "{}".encode("utf-16"),
    "a number of a million digits": b'{"k": ' + b"9" * 1_000_000 + b"}",
    "eleven megabytes": b" " * 11_000_000 + b"{}",
    "a web page": b"<html></html>",
}  # fmt: skip


@pytest.mark.parametrize("name", JSONS)
def test_damaged_configurations(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "s")
    (folder / "cfg.json").write_bytes(JSONS[name])
    with pytest.raises(InputError, match=r"cfg\.json: no configuration could be read"):
        read_dictionary(folder)


def test_folders_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither in it.*wanted a folder with cfg\.json and sae_weights"):
        read_dictionary(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_dictionary(tmp_path / "absent")
    folder = saved(tmp_path / "s")
    with pytest.raises(InputError, match="a file"):
        read_dictionary(folder / "cfg.json")
    (folder / "sae_weights.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(InputError, match=r"sae_weights\.safetensors: no weights could be read"):
        read_dictionary(folder)
    assert json.loads((folder / "cfg.json").read_text())["d_in"] == D
