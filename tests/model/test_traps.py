"""Traps of the model libraries, numbered as the project met them, and where each is guarded.

The table is checked against the suite, so that no guard goes away unseen; a trap without a test has a reason instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from probekit.model.hooked_model import load_hooked_model

TESTS = Path(__file__).parents[1]

TRAPS: dict[str, tuple[str, str]] = {
    "1 a folder without tokenizer files gives an empty tokenizer": (
        "model/test_hooked_model.py",
        "test_an_empty_one",
    ),
    "2 a model in memory still calls the hub": ("model/test_loading.py", "test_asks_no_hub"),
    "3 a fast tokenizer made in memory has no name_or_path": (
        "model/test_traps.py",
        "test_a_tokenizer_made_in_memory",
    ),
    "4 BOS by default differs per architecture": (
        "model/test_loading.py",
        "test_one_policy_for_every_architecture",
    ),
    "5 two tokenization paths differ": (
        "text/test_corpus.py",
        "test_one_document_a_row_cut_padded_and_bos_first",
    ),
    "6 pad is bos is eos, padding is unmasked": ("model/test_harvest.py", "test_padding_is_not_seen"),
    "7 silent truncation, IndexError beyond the context": ("model/test_harvest.py", "TestRefused"),
    "8 filters that match nothing return nothing": ("model/test_hooked_model.py", "test_no_mlp"),
    "9 a model in training mode": (
        "model/test_hooked_model.py",
        "test_a_bridge_may_come_in_training_mode_without_tokenizer",
    ),
    "10 some sites of a bf16 model are float32": (
        "model/test_harvest.py",
        "test_sixteen_bit_activations_come_in_float32",
    ),
    "11 numpy has no bfloat16": ("model/test_harvest.py", "test_sixteen_bit_activations_come_in_float32"),
    "14 W_in is transposed on some architectures": (
        "model/test_hooked_model.py",
        "test_weights_are_those_of_the_file",
    ),
    "16 left padding shifts positions": ("text/test_corpus.py", "test_what_cannot_be_used_is_refused"),
    "17 compatibility mode, once or twice": ("model/test_hooked_model.py", "test_compatibility_mode"),
    "18 stopping early leaves the key-value cache invalid": (
        "model/test_harvest.py",
        "test_the_model_is_left_as_it_was",
    ),
}

REASONS = {
    "12 run_with_cache(device=) is ignored on several devices": "never called: activations are taken in hooks",
    "13 run_with_hooks(names_filter=) is a TypeError": "never passed",
    "15 importing the library silences transformers": "its warnings are not relied on: loading_info is asked instead",
}


def test_every_trap_is_guarded_or_has_a_reason() -> None:
    numbers = sorted(int(trap.partition(" ")[0]) for trap in (*TRAPS, *REASONS))
    assert numbers == list(range(1, 19))
    for trap, (file, name) in TRAPS.items():
        source = (TESTS / file).read_text()
        assert f"def {name}(" in source or f"class {name}" in source, trap
    package = "".join(path.read_text() for path in (TESTS.parent / "probekit").rglob("*.py"))
    assert "run_with_cache" not in package
    assert "names_filter" not in package
    assert "output_loading_info=True" in package


def test_a_tokenizer_made_in_memory(model_folder: Callable[[str], Path]) -> None:
    folder = model_folder("gpt2")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="<s>"
    )
    hooked = load_hooked_model(AutoModelForCausalLM.from_pretrained(folder), tokenizer=tokenizer)
    assert hooked.bos_id == 63
    assert hooked.token_string(5) == "w5"


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_model_in_memory_computes_on_as_before(name: str, model_folder: Callable[[str], Path]) -> None:
    """The bridge switches the very object to eager attention; what it computes is the same to rounding."""
    import torch

    model = AutoModelForCausalLM.from_pretrained(model_folder(name)).eval()
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = model(ids).logits
        load_hooked_model(model)
        after = model(ids).logits
    torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-5)  # two attention kernels in float32
