"""Whatever a module's forward reads is part of what the model is: what hangs on it, and the code of its class.

Each case changes one thing that no parameter, buffer or number of a module shows, finds another digest, and puts it back.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from probekit.model.state import of_object
from probekit.objects import of_object as of_anything

GAIN = 1.0


def model() -> Any:
    """A small Llama whose first output projection is of a class of ours."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():  # transformers draws from the global generator
        made: Any = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=64,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
            )
        )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def doubled(values: Tensor) -> Tensor:
    return 2 * values


def tripled(values: Tensor) -> Tensor:
    return 3 * values


class Base(nn.Linear):
    def change(self, values: Tensor) -> Tensor:
        return GAIN * values


class Steered(Base):
    """An output projection that does what is hung on it."""

    vector: Tensor
    scales: list[float]
    mode: str
    then: Callable[[Tensor], Tensor]
    more: list[nn.Linear]

    def forward(self, input: Tensor) -> Tensor:
        made = self.then(self.change(super().forward(input)) * self.scales[0] + self.vector)
        return made if self.mode == "on" else 0 * self.more[0](made)


def steered() -> tuple[Any, Steered]:
    held = model()
    part = held.model.layers[0].self_attn.o_proj
    part.__class__ = Steered
    part.vector, part.scales, part.mode, part.then = torch.zeros(16), [1.0], "on", torch.tanh
    part.more = [nn.Linear(16, 16, bias=False)]
    nn.init.zeros_(part.more[0].weight)
    return held, part


def scaled(scale: float) -> Callable[[Tensor], Tensor]:
    return lambda values: scale * values


CHANGES: dict[str, Callable[[Steered], Any]] = {
    "a vector that is no buffer": lambda part: part.vector.add_(1),
    "a number in a list": lambda part: part.scales.__setitem__(0, 30.0),
    "a word": lambda part: setattr(part, "mode", "off"),
    "a module in a list": lambda part: part.more[0].weight.data.fill_(1),
    "a function of a library": lambda part: setattr(part, "then", torch.relu),
    "a function of the user's": lambda part: setattr(part, "then", doubled),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_hangs_on_a_module(what: str) -> None:
    held, part = steered()
    before, ids = of_object(held), torch.arange(5)[None]
    assert of_object(steered()[0]) == before, "control: built alike it is the same"
    held(ids)
    assert of_object(held) == before, "control: a forward changes nothing"
    CHANGES[what](part)
    assert of_object(held) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (doubled, tripled),
        (scaled(1.0), scaled(2.0)),
        (functools.partial(torch.clamp, max=1.0), functools.partial(torch.clamp, max=2.0)),
        (functools.wraps(torch.relu)(doubled), functools.wraps(torch.relu)(tripled)),
    ],
    ids=["code", "closure", "partial", "under the name of a library's"],
)
def test_a_function_is_what_it_computes(one: Any, other: Any) -> None:
    assert of_anything(one) == of_anything(one)
    assert of_anything(one) != of_anything(other)


def test_what_a_module_of_a_library_is_told_in_words() -> None:
    """Gemma and Qwen say in a word whether a layer sees all of the text."""
    held = model()
    before = of_object(held)
    held.model.layers[0].attention_type = "sliding_attention"
    other = of_object(held)
    assert other != before
    held.model.layers[0].attention_type = "full_attention"
    assert of_object(held) not in (before, other)
    del held.model.layers[0].attention_type
    assert of_object(held) == before


def test_a_global_that_a_base_class_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    held, _ = steered()
    before = of_object(held)
    monkeypatch.setitem(globals(), "GAIN", 7.0)
    assert of_object(held) != before
    monkeypatch.undo()
    assert of_object(held) == before


def test_the_code_of_a_base_class(monkeypatch: pytest.MonkeyPatch) -> None:
    held, _ = steered()
    before = of_object(held)
    monkeypatch.setattr(Base, "change", lambda self, values: values - 1)
    assert of_object(held) != before
    monkeypatch.undo()
    assert of_object(held) == before


def test_a_class_whose_source_is_nowhere() -> None:
    """As one typed into an interpreter: two that are written alike are the same, two that are not are not."""

    def typed(factor: int) -> Any:
        names: dict[str, Any] = {"nn": nn}
        code = f"class Typed(nn.Linear):\n    def forward(self, x):\n        return {factor} * super().forward(x)"
        exec(code, names)
        held = model()
        held.model.layers[0].self_attn.o_proj.__class__ = names["Typed"]
        return held

    assert of_object(typed(1)) == of_object(typed(1))
    assert of_object(typed(1)) != of_object(typed(2))


def test_what_holds_itself_is_walked_once() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [2]
    other.append(other)
    assert of_anything(ring) != of_anything(other)


@pytest.mark.sweep
def test_in_another_process_it_is_the_same() -> None:
    """No address and no order of a hash table gets into the digest."""
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_hangs_on as here\n"
        "held, part = here.steered(); part.then = here.doubled; part.tags = {'a', 'b', 'c'}\n"
        "print(here.of_object(held))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_latents_of_a_model_whose_attention_was_rescaled(tmp_path: Path) -> None:
    """The labels come out of the model, and hang on more of it than its weights."""
    from safetensors.torch import save_file

    import probekit as pk
    from probekit.model.hooked_model import load_hooked_model

    (tmp_path / "cfg.json").write_text(
        json.dumps({"architecture": "standard", "hook_name": "blocks.1.hook_resid_mid", "d_in": 16, "d_sae": 8,
                    "apply_b_dec_to_input": False})
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (16, 8), "b_enc": (8,), "W_dec": (8, 16), "b_dec": (16,)}
    save_file(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        tmp_path / "sae_weights.safetensors",
    )
    hooked = load_hooked_model(model())

    def fingerprint() -> str | None:
        return pk.latents(hooked, tmp_path, [0, 1]).fingerprint

    before = fingerprint()
    scaled_parts = [part for part in hooked.bridge.modules() if isinstance(vars(part).get("scaling"), float)]
    assert scaled_parts
    for part in scaled_parts:
        part.scaling *= 10
    assert fingerprint() != before
    for part in scaled_parts:
        part.scaling /= 10
    assert fingerprint() == before
