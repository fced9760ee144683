"""Load a transformer with raw weights, and prove its neurons are read where they are.

A host wraps a TransformerLens bridge, never in compatibility mode: neuron activations do not depend on weight
processing, but MLP inputs and weights do, so one convention is kept for all models.
BOS: `bos_id` is the tokenizer's own `bos_token_id` if it has one (GPT-2 50256, Pythia 0, Llama 1, nano 0),
else None (Qwen2); what the architecture's defaults say is not asked.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from probekit.errors import ConfigError, InputError, ModelError, OutOfMemoryError
from probekit.model.folder import find_folder, first_line, read_tokenizer, stored_bits
from probekit.model.hooks import require_unhooked
from probekit.model.plain import PlainModel, Unbridged
from probekit.model.sites import prove_sites, read_weights, require_sites
from probekit.model.weights import MlpWeights


@dataclass(frozen=True)
class Host:
    """A transformer whose MLP sites have been proved."""

    name: str
    """What the user called it: a hub name, a folder's name, or the bridge's own."""
    bridge: Any
    """The TransformerBridge, in evaluation mode."""
    tokenizer: Any | None
    """A Hugging Face tokenizer; None for a bridge that has none."""
    n_layers: int
    """MLP layers."""
    d_model: int
    """Width of the MLP input."""
    d_mlp: int
    """Neurons of layer 0."""
    n_vocab: int
    """Rows of the embedding: token ids must be below it. A tokenizer may list more, or fewer."""
    context: int
    """Positions the model was made for."""
    activation: str
    """A key of `probekit.model.weights.ACTIVATIONS`."""
    gated: bool
    """Whether neurons are act(gate) · linear."""
    bos_id: int | None
    """The token to put first in every document; None for none."""
    device: torch.device
    """Where the model computes."""
    dtype: torch.dtype
    """What the model computes in; activations are delivered in float32."""
    bits: int
    """Bits a weight has where the model is stored."""
    plain: PlainModel | None = None
    """The same model without hook points, for reading alone; None where it is not proved equal."""

    def mlp(self, layer: int) -> MlpWeights:
        """The weights that act at one layer's neurons, float32.

        Raises:
            InputError: there is no such layer.
        """
        self.check_layer(layer)
        return read_weights(self.bridge, layer, self.activation, self.bits)

    def check_layer(self, layer: int) -> None:
        """Refuse a layer the model does not have.

        Raises:
            InputError: there is no such layer.
        """
        if not 0 <= layer < self.n_layers:
            raise InputError(
                f"{self.name}: got layer {layer}, but the model has layers 0 to {self.n_layers - 1}; "
                "choose one of these."
            )

    def token_string(self, token_id: int) -> str | None:
        """A token as the tokenizer spells it; None where nobody knows."""
        if self.tokenizer is None or not 0 <= token_id < len(self.tokenizer):
            return None
        return str(self.tokenizer.convert_ids_to_tokens(token_id))


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_host(
    model: Any, *, device: str = "auto", dtype: torch.dtype | str | None = None, tokenizer: Any | None = None
) -> Host:
    """Load a model and prove its MLP sites.

    Args:
        model: "nano" (the bundled model), a folder in Hugging Face format, a hub name or one of the short names in
            use ("gpt2", "gpt2-small", "EleutherAI/pythia-70m"), with the revision or training checkpoint behind an @
            ("EleutherAI/pythia-70m@step3000"); a TransformerBridge, which is used as it is but put into evaluation
            mode (its tokenizer may be None); or a `transformers` model, which the bridge switches to eager attention.
        device: "auto" (the accelerator if there is one; an object stays where it is), "cpu" or "cuda".
        dtype: what to compute in: a torch dtype or "float32", "bfloat16", "float16". None: on an accelerator what
            the model is stored in, on a CPU float32, which holds 16-bit weights exactly and is faster there; nano
            always computes in float32.
        tokenizer: of a `transformers` model; without one it reads only corpora of tokens.

    Raises:
        ModelError: the model cannot be found, has no tokenizer, has no dense MLP layers, carries hooks, or fails the proof.
        ConfigError: the device or dtype is unknown or absent, or an option does not go with this kind of model.
        OutOfMemoryError: the model does not fit.
    """
    if isinstance(dtype, str):
        if dtype not in _DTYPES:
            raise ConfigError(f"dtype: got {dtype!r}, wanted one of {', '.join(_DTYPES)}.")
        dtype = _DTYPES[dtype]
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise ConfigError(
                f"tokenizer: given with {str(model)!r}, which brings its own; leave it out, or load the model yourself "
                "and pass the object."
            )
        return _load_named(str(model), _device(device), dtype)
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    if dtype is not None:
        raise ConfigError(
            f"dtype: got {dtype} with a {type(model).__name__}, which is used in the dtype it has; "
            "convert it beforehand with model.to(dtype)."
        )
    if isinstance(model, PreTrainedModel | TransformerBridge):
        require_unhooked(model, type(model).__name__)
    if isinstance(model, PreTrainedModel):
        if device != "auto":
            cast(Any, model).to(_device(device))
        return _load_object(model, tokenizer)
    if not isinstance(model, TransformerBridge):
        raise ModelError(
            f"model: got a {type(model).__name__}, wanted a hub name, a folder, a transformers model or a "
            "TransformerBridge. Wrap a model "
            "with TransformerBridge.boot_transformers(folder, hf_model=model, tokenizer=tokenizer)."
        )
    if tokenizer is not None:
        raise ConfigError(
            "tokenizer: given with a TransformerBridge, which has its own; set bridge.tokenizer."
        )
    if device != "auto":
        model.to(_device(device))
    name = str(getattr(model.cfg, "model_name", None) or "bridge")
    return _host(model, name, model.tokenizer, bits=None)


def _load_object(model: Any, tokenizer: Any | None) -> Host:
    """Host of a `transformers` model that lies in memory; nothing is looked up anywhere."""
    name = str(getattr(model, "name_or_path", "") or type(model).__name__)
    with TemporaryDirectory(prefix="probekit-") as folder:
        # booted from its own configuration: by name the bridge would ask the hub even for a model it is given
        model.config.save_pretrained(folder)
        lent = _tokenizer_in(Path(folder), tokenizer)
        unbridged = Unbridged.of(model)
        bridge = _bridged(Path(folder), model, lent, model.device, shown=name)
    if tokenizer is None:
        bridge.tokenizer = None
    shown = Path(name).name if Path(name).is_dir() else name
    return _host(bridge, shown, tokenizer, bits=None, unbridged=unbridged)


def _tokenizer_in(folder: Path, tokenizer: Any | None) -> Any:
    """A tokenizer for the bridge to hold while it boots: it reads the one it is given again, by name, maybe from a hub."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    if tokenizer is None:
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")))  # noqa: S106
    lent = copy.deepcopy(tokenizer)
    lent.save_pretrained(folder)
    lent.init_kwargs["name_or_path"] = lent.name_or_path = str(folder)
    return lent


def _load_named(name: str, device: torch.device, dtype: torch.dtype | None) -> Host:
    folder, shown = find_folder(name)
    tokenizer = read_tokenizer(folder)
    stored = stored_bits(folder)
    if dtype is None and (name == "nano" or device.type == "cpu"):
        dtype = torch.float32
    bridge, unbridged = _boot(folder, tokenizer, device, dtype)
    return _host(bridge, shown, tokenizer, stored, unbridged)


@dataclass(frozen=True)
class Reader:
    """How a model reads text, without its weights."""

    name: str
    """What the user called it."""
    tokenizer: Any | None
    """A Hugging Face tokenizer; None for a bridge that has none."""
    bos_id: int | None
    """The token to put first in every document; None for none."""
    context: int
    """Positions the model was made for."""


def load_reader(model: Any) -> Reader:
    """How a model reads text: of a name or folder only the tokenizer and the configuration are read.

    Args:
        model: as in `load_host`.

    Raises:
        ModelError: the model cannot be found or has no tokenizer.
    """
    if isinstance(model, str | Path):
        from transformers import AutoConfig

        folder, shown = find_folder(str(model))
        try:
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder}: config.json cannot be used ({first_line(error)}).") from error
        tokenizer = read_tokenizer(folder)
        n_vocab = int(getattr(config, "vocab_size", None) or len(tokenizer))
        context = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        bos_id = _bos_id(tokenizer, n_vocab, bridged=False)
        return Reader(shown, tokenizer, bos_id, int(context or 2**31 - 1))
    host = load_host(model)
    return Reader(host.name, host.tokenizer, host.bos_id, host.context)


def _boot(
    folder: Path, tokenizer: Any, device: torch.device, dtype: torch.dtype | None
) -> tuple[Any, Unbridged]:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    with (
        _refusals(str(folder), device, SafetensorError),
        torch.random.fork_rng(devices=[]),
        _no_progress_bar(),
    ):
        # The libraries draw weights that they then overwrite, from the global generator.
        # Loaded here, not by the bridge: only so does one learn of weights that the files lack and that
        # would otherwise stay random without a word.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto" if dtype is None else dtype,
            output_loading_info=True,
            local_files_only=True,
        )
        hf_model, info = loaded
        _require_complete(folder, info)
        hf_model = hf_model.to(device)
    unbridged = Unbridged.of(hf_model)
    bridge = _bridged(folder, hf_model, tokenizer, device, shown=str(folder))
    bridge.original_model.requires_grad_(False)
    return bridge, unbridged


def _bridged(folder: Path, hf_model: Any, tokenizer: Any | None, device: torch.device, *, shown: str) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    with _refusals(shown, device), torch.random.fork_rng(devices=[]), _no_progress_bar():
        # A copy: the bridge adds special tokens to the tokenizer it is given, with ids no embedding has.
        return TransformerBridge.boot_transformers(
            str(folder), hf_model=hf_model, tokenizer=copy.deepcopy(tokenizer), device=device
        )


@contextmanager
def _refusals(shown: str, device: torch.device, *more: type[Exception]) -> Generator[None]:
    """What the model libraries raise, as one error of ours."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{shown}: the model does not fit on {device}; choose device='cpu' or dtype='bfloat16'."
        ) from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, *more) as error:
        raise ModelError(
            f"{shown}: the model could not be loaded ({type(error).__name__}: {first_line(error)}). "
            "Wanted a complete checkpoint of a decoder-only transformer that TransformerLens supports."
        ) from error


def _require_complete(folder: Path, loading_info: dict[str, Any]) -> None:
    missing = sorted(loading_info["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} weights are missing from the files (first: {missing[0]}) and would be "
            "random; wanted a complete checkpoint. Download or save the model again."
        )


def _host(
    bridge: Any, name: str, tokenizer: Any | None, bits: int | None, unbridged: Unbridged | None = None
) -> Host:
    if getattr(bridge, "compatibility_mode", False):
        raise ModelError(
            f"{name}: the bridge is in compatibility mode, so its weights and MLP inputs are processed; "
            "wanted raw weights. Boot it again and do not call enable_compatibility_mode()."
        )
    require_sites(bridge, name)
    bridge.eval()
    parameter = next(bridge.original_model.parameters())
    n_vocab = _embedding_rows(bridge, name)
    context = int(bridge.cfg.n_ctx)
    stored = bits if bits is not None else 8 * parameter.element_size()
    activation = prove_sites(bridge, name, n_vocab, context, stored)
    first = read_weights(bridge, 0, activation, stored)
    return Host(
        name=name,
        bridge=bridge,
        tokenizer=tokenizer,
        n_layers=len(bridge.blocks),
        d_model=first.d_model,
        d_mlp=first.n_neurons,
        n_vocab=n_vocab,
        context=context,
        activation=activation,
        gated=first.gated,
        bos_id=_bos_id(tokenizer, n_vocab, bridged=tokenizer is bridge.tokenizer),
        device=parameter.device,
        dtype=parameter.dtype,
        bits=stored,
        plain=unbridged.proved(bridge, n_vocab, context) if unbridged else None,
    )


def _bos_id(tokenizer: Any | None, n_vocab: int, *, bridged: bool) -> int | None:
    if tokenizer is None or tokenizer.bos_token_id is None:
        return None
    # A bridge gives a tokenizer without BOS its EOS for one; what the tokenizer was built with tells.
    if bridged and tokenizer.init_kwargs.get("bos_token") is None:
        return None
    return int(tokenizer.bos_token_id) if tokenizer.bos_token_id < n_vocab else None


def _embedding_rows(bridge: Any, name: str) -> int:
    embed = getattr(bridge, "embed", None)
    weight = getattr(embed, "weight", None)
    if weight is None:
        raise ModelError(f"{name}: the model has no token embedding; wanted a language model over token ids.")
    return int(weight.shape[0])


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"device: got {device!r}, wanted auto, cpu or cuda.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: got 'cuda', but torch sees no CUDA device here; choose cpu or auto.")
    return torch.device(device)


@contextmanager
def _no_progress_bar() -> Generator[None]:
    from transformers.utils import logging as hf_logging

    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()
