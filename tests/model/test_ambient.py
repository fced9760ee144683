"""What a program switches in torch around a call changes neither its numbers nor what the program has switched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import probekit as pk
from probekit.errors import ModelError


@contextmanager
def default_dtype(dtype: torch.dtype) -> Any:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def product() -> torch.Tensor:
    return torch.ones(2, 2) @ torch.ones(2, 2)


SWITCHES: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[torch.Tensor], bool]]] = {
    "autocast": (
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda made: made.dtype is torch.bfloat16,
    ),
    "float64": (lambda: default_dtype(torch.float64), lambda made: made.dtype is torch.float64),
    "bfloat16": (lambda: default_dtype(torch.bfloat16), lambda made: made.dtype is torch.bfloat16),
    "device": (lambda: torch.device("meta"), lambda made: made.is_meta),
}


EACH = ["autocast", *(pytest.param(name, marks=pytest.mark.sweep) for name in SWITCHES if name != "autocast")]


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """A ReLU layer on four concepts."""
    rng = np.random.default_rng(0)
    labels = rng.random((4_000, 4)) < 0.3
    inputs = labels + 0.3 * rng.standard_normal(labels.shape)
    w_in = rng.standard_normal((16, 4))
    return {
        "neurons": np.maximum(inputs @ w_in.T, 0), "labels": labels, "docs": np.repeat(np.arange(100), 40), "inputs": inputs,
        "weights": (w_in, np.zeros(16)), "twins": 4, "min_support": 10, "spikes": (), "progress": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def wanted(given: dict[str, Any]) -> Any:
    return pk.analyze_arrays(**given).pairs()


@pytest.mark.parametrize("what", EACH)
def test_arrays(what: str, given: dict[str, Any], wanted: Any) -> None:
    switch, felt = SWITCHES[what]
    with switch():
        assert felt(product()), "control: torch feels the switch"
        found = pk.analyze_arrays(**given).pairs()
        assert felt(product()), "and it is still what the program made it"
    assert found.equals(wanted)


@pytest.fixture(scope="module")
def analyse(model_folder: Callable[[str], Any]) -> Callable[[], Any]:
    """A run on a model in memory; gives its pairs."""
    from transformers import AutoModelForCausalLM

    corpus = pk.Corpus.from_tokens(np.random.default_rng(0).integers(0, 60, (80, 30)))
    concepts = pk.Concepts.from_vocab({"a": np.arange(64) % 2 == 0, "b": np.arange(64) % 3 == 0})
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    return lambda: pk.analyze(
        model,
        corpus,
        concepts=concepts,
        layers=[0],
        twins=4,
        min_support=10,
        spikes=(),
        controls=(),
        progress=False,
    ).pairs()


@pytest.fixture(scope="module")
def analysed(analyse: Callable[[], Any]) -> Any:
    return analyse()


@pytest.mark.parametrize("what", EACH)
def test_a_model(what: str, analyse: Callable[[], Any], analysed: Any) -> None:
    with SWITCHES[what][0]():
        found = analyse()
    assert found.equals(analysed)


def test_a_module_that_stands_in_two_layers(model_folder: Callable[[str], Any]) -> None:
    """Read at one of the two places it would give what passed at the other; copies of it are two layers."""
    import copy

    from transformers import AutoModelForCausalLM

    from probekit.model.hooked_model import load_hooked_model

    model: Any = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(
        ModelError, match=r"model\.layers\.0 and model\.layers\.1 are one and the same module"
    ):
        load_hooked_model(model)
    model.model.layers[1] = copy.deepcopy(model.model.layers[0])
    model.model.layers[1].self_attn.layer_idx = 1
    assert load_hooked_model(model).n_layers == 2


def test_a_model_of_parts_that_do_not_go_together(model_folder: Callable[[str], Any]) -> None:
    from transformers import AutoModelForCausalLM

    from probekit.model.hooked_model import load_hooked_model

    model: Any = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    model.model.layers[1].half()
    with pytest.raises(
        ModelError, match=r"cannot run the model on a few tokens \(RuntimeError: .*float16 and float32"
    ):
        load_hooked_model(model)
    model.float()
    assert load_hooked_model(model).dtype is torch.float32
