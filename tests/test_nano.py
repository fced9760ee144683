"""The bundled language model: it loads in plain transformers and in the bridge, and it has learned its text."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
import torch

from probekit.model.folder import NANO_FOLDER
from probekit.model.hooked_model import load_hooked_model
from probekit.text.corpus import Corpus


@pytest.fixture(scope="module")
def facts() -> dict:
    """The machine-readable end of the model card."""
    card = (NANO_FOLDER / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", card, flags=re.DOTALL)
    return json.loads(blocks[-1])


def test_the_card_is_about_these_weights(facts: dict):
    weights = (NANO_FOLDER / "model.safetensors").read_bytes()
    assert hashlib.blake2b(weights, digest_size=32).hexdigest() == facts["weights_blake2b"]
    assert len(weights) <= 12_000_000


def test_it_beats_the_bigram_model_clearly(facts: dict):
    losses = facts["heldout_nats_per_token"]
    assert losses["nano"] <= losses["bigram"] - 0.8
    assert losses["bigram"] < losses["unigram"] < losses["uniform"]


def test_plain_transformers_and_the_bridge_agree_and_it_has_learned(facts: dict):
    """Loss on docstrings within the card's reach, by both libraries; positive control: shuffled tokens are far worse."""
    from transformers import AutoModelForCausalLM

    hooked = load_hooked_model("nano")
    plain = AutoModelForCausalLM.from_pretrained(NANO_FOLDER, dtype=torch.float32).eval()
    tokens = Corpus.docs().tokenize(hooked.tokenizer, context=128, max_tokens=4_000, bos_id=hooked.bos_id)
    ids = torch.from_numpy(tokens.ids.astype(np.int64))

    def loss(logits: torch.Tensor, given: torch.Tensor) -> float:
        return float(
            torch.nn.functional.cross_entropy(
                logits[:, :-1].reshape(-1, logits.shape[-1]), given[:, 1:].reshape(-1), ignore_index=-1
            )
        )

    with torch.inference_mode():
        ours = loss(plain(ids.clamp_min(0)).logits, ids)
        bridged = loss(hooked.bridge(ids.clamp_min(0)), ids)
        order = torch.randperm(ids.shape[1] - 1, generator=torch.Generator().manual_seed(0)) + 1
        shuffled = torch.cat([ids[:, :1], ids[:, order]], dim=1)
        control = loss(plain(shuffled.clamp_min(0)).logits, shuffled)
    # 4,000 tokens of the first held-out modules: their mean differs from the card's by some tenths of a nat
    assert ours == pytest.approx(facts["heldout_nats_per_token"]["nano"], abs=0.6)
    assert bridged == pytest.approx(ours, abs=1e-4)
    assert control > ours + 1.5
