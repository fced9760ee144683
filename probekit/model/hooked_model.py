"""Load a transformer with raw weights, and prove its neurons are read where they are.

A hooked model wraps a TransformerLens bridge, never in compatibility mode: neuron activations do not depend on weight
processing, but MLP inputs and weights do, so one convention is kept for all models.
Encoders are read without a bridge (`probekit.model.encoders`).
BOS: `bos_id` is the tokenizer's own `bos_token_id` if it has one (GPT-2 50256, Pythia 0, Llama 1, nano 0),
else None (Qwen2); what the architecture's defaults say is not asked.
"""

from __future__ import annotations

import copy
import functools
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import torch

from probekit.errors import ConfigError, InputError, ModelError, OutOfMemoryError, ProbekitError, lacks_memory
from probekit.model import checkpoint
from probekit.model.ambient import as_torch_starts
from probekit.model.encoders import Encoder, context_of, layout_of, marks_of, note_of, prove_encoder
from probekit.model.folder import (
    CUSTOM_CODE,
    find_folder,
    first_line,
    read_tokenizer,
    stored_bits,
    stored_tensors,
)
from probekit.model.gguf import GgufFile
from probekit.model.gguf_model import UNPACK, file_of, read_model
from probekit.model.plain import PlainModel, Unbridged, norms_as_the_model, sharing_copy
from probekit.model.sites import prove_decoder, read_weights, require_sites
from probekit.model.user_hooks import require_unhooked
from probekit.model.weights import MlpWeights


@dataclass(frozen=True)
class HookedModel:
    """A transformer whose MLP sites have been proved."""

    name: str
    """What the user called it: a hub name, a folder's name, or the bridge's own."""
    bridge: Any
    """The TransformerBridge, in evaluation mode; of an encoder a `probekit.model.encoders.Encoder`."""
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
    """The token to put first in every document; None for none. Of an encoder its [CLS]."""
    device: torch.device
    """Where the model computes."""
    dtype: torch.dtype
    """What the model computes in; activations are delivered in float32."""
    bits: int | float
    """Bits a weight has where the model is stored, over the whole model."""
    plain: PlainModel | None = None
    """The same model without hook points, for reading alone; None where it is not proved equal."""
    layer_bits: tuple[float, ...] | None = None
    """Bits of the weights that act at each layer's neurons, where a file holds them in several types."""
    stored: str = ""
    """How the file holds the weights, in words; empty for plain floats."""
    notes: tuple[str, ...] = ()
    """What was done to read the model, where that is more than loading it."""
    end_id: int | None = None
    """The token to put behind every document; None but for encoders ([SEP])."""

    def mlp(self, layer: int) -> MlpWeights:
        """The weights that act at one layer's neurons, float32.

        Raises:
            InputError: there is no such layer.
        """
        self.check_layer(layer)
        return read_weights(self.bridge, layer, self.activation, self.bits_at(layer))

    def require_decoder(self, wanted_by: str) -> None:
        """Refuse an encoder, which predicts no next token.

        Raises:
            ModelError: the model is one.
        """
        if isinstance(self.bridge, Encoder):
            raise ModelError(
                f"{self.name}: an encoder sees the whole row and predicts no next token, which {wanted_by} asks for; "
                "wanted a decoder. Choose another model."
            )

    def bits_at(self, layer: int) -> int | float:
        """Bits a weight has that acts at one layer's neurons, where the model is stored."""
        return self.bits if self.layer_bits is None else self.layer_bits[layer]

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


_P = ParamSpec("_P")
_T = TypeVar("_T")
_LOADING = threading.RLock()


def one_at_a_time(load: Callable[_P, _T]) -> Callable[_P, _T]:
    """The model libraries switch things for the whole process while they load, and two threads leave them switched."""

    @functools.wraps(load)
    def alone(*args: _P.args, **options: _P.kwargs) -> _T:
        with _LOADING, as_torch_starts():
            return load(*args, **options)

    return alone


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What a model can be asked to compute in, in words."""


@one_at_a_time
def load_hooked_model(
    model: Any, *, device: str = "auto", dtype: torch.dtype | str | None = None, tokenizer: Any | None = None
) -> HookedModel:
    """Load a model and prove its MLP sites.

    Args:
        model: "nano" (the bundled model), a folder in Hugging Face format, a GGUF file or a folder that holds one; a hub
            name or one of the short names in use ("gpt2", "gpt2-small", "EleutherAI/pythia-70m"), with the revision or
            training checkpoint behind an @ ("EleutherAI/pythia-70m@step3000"); a TransformerBridge, which is used as it is
            but put into evaluation mode (its tokenizer may be None); or a `transformers` model, which stays as it is: the
            bridge gets a copy that shares its weights.
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
    dtype = _dtype(dtype)
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
        return _load_object(model, tokenizer, None if device == "auto" else _device(device))
    if not isinstance(model, TransformerBridge):
        raise ModelError(
            f"model: got a {type(model).__name__}, wanted a hub name, a folder, a GGUF file, a transformers model or a "
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
    return _hooked(model, name, model.tokenizer, bits=None)


def _dtype(named: torch.dtype | str | None) -> torch.dtype | None:
    if not isinstance(named, str):
        return named
    if named not in DTYPES:
        raise ConfigError(f"dtype: got {named!r}, wanted one of {', '.join(DTYPES)}.")
    return DTYPES[named]


def _load_object(given: Any, tokenizer: Any | None, device: torch.device | None) -> HookedModel:
    """Hook a `transformers` model that lies in memory; nothing is looked up anywhere, and the model stays as it is."""
    model, name, file = _own_copy(given, device)
    if layout_of(model.config) is not None:
        model.requires_grad_(False)
        return _hooked_encoder(
            model.base_model, Path(name).name if Path(name).exists() else name, tokenizer, None
        )
    if not model.config.architectures:  # made from a configuration, it has no name for its architecture
        model.config.architectures = [type(model).__name__]
    return _of_plain(model, name, tokenizer, file)


def _own_copy(given: Any, device: torch.device | None) -> tuple[Any, str, GgufFile | None]:
    """A copy of a `transformers` model that shares its weights, with its name and the GGUF file it came from."""
    name = str(getattr(given, "name_or_path", "") or type(given).__name__)
    if getattr(given, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"{name}: an adapter is loaded into the model; merge it first (peft: "
            "PeftModel.merge_and_unload()), so that the weights "
            "are those that act."
        )
    _require_layers_apart(given, name)
    file = file_of(given)
    model = checkpoint.as_plain(
        sharing_copy(given, name), name, UNPACK if file else "Dequantise it (model.dequantize()) first."
    ).eval()
    if device is not None:
        model.to(device)
    return model, name, file


def _require_layers_apart(model: Any, name: str) -> None:
    """Refuse a model in whose list of layers one object stands twice: whoever reads one of the two reads the other.

    Raises:
        ModelError: some list holds a module more than once.
    """
    for where, modules in model.named_modules():
        held = [id(module) for module in modules] if isinstance(modules, torch.nn.ModuleList) else []
        twice = next((place for place, module in enumerate(held) if module in held[:place]), None)
        if twice is not None:
            raise ModelError(
                f"{name}: {where}.{held.index(held[twice])} and {where}.{twice} are one and the same module, so their "
                "activations cannot be told apart; wanted a module for each layer. Put a copy with the same weights there "
                "(copy.deepcopy)."
            )


def _of_plain(model: Any, name: str, tokenizer: Any | None, file: GgufFile | None) -> HookedModel:
    """Hook a `transformers` model that nobody else holds."""
    with TemporaryDirectory(prefix="probekit-") as folder:
        # booted from its own configuration: by name the bridge would ask the hub even for a model it is given
        model.config.save_pretrained(folder)
        lent = _tokenizer_in(Path(folder), tokenizer)
        unbridged = Unbridged.of(model)
        bridge = _bridged(Path(folder), model, lent, model.device, shown=name)
    bridge.original_model.requires_grad_(False)
    if tokenizer is None:
        bridge.tokenizer = None
    shown = Path(name).name if Path(name).exists() else name
    return _hooked(bridge, shown, tokenizer, bits=None, unbridged=unbridged, file=file)


@dataclass(frozen=True)
class Unhooked:
    """A decoder as `transformers` runs it, of which nothing is proved yet."""

    model: Any
    """Of `transformers`, in evaluation mode; nobody else holds it, but that of a TransformerBridge is the bridge's own."""
    name: str
    """What the user called it."""
    tokenizer: Any | None
    """A Hugging Face tokenizer, or None."""
    bos_id: int | None
    """The token to put first in every document; None for none."""
    bits: int | float
    """Bits a weight has where the model is stored."""
    notes: tuple[str, ...] = ()
    """What was done to read the model, where that is more than loading it."""


@one_at_a_time
def load_unhooked(
    model: Any, *, device: str = "auto", dtype: str | None = None, tokenizer: Any | None = None
) -> Unhooked:
    """Load a model for whoever reads it at places of its own.

    Args:
        model: as in `load_hooked_model`, but no GGUF file.
        device: see there.
        dtype: see there.
        tokenizer: see there.

    Raises:
        ModelError: the model cannot be found, has no tokenizer or carries hooks, or is of another kind.
        ConfigError: the device or dtype is unknown or absent, or an option does not go with this kind of model.
        OutOfMemoryError: the model does not fit.
    """
    asked = _dtype(dtype)
    if isinstance(model, str | Path):
        return _named_unhooked(str(model), _device(device), asked, tokenizer)
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel | TransformerBridge):
        raise ModelError(
            f"model: got a {type(model).__name__}, wanted a hub name, a folder, a transformers model or a TransformerBridge."
        )
    if asked is not None:
        raise ConfigError(
            f"dtype: got {dtype} with a {type(model).__name__}, which is used in the dtype it has; "
            "convert it beforehand with model.to(dtype)."
        )
    require_unhooked(model, type(model).__name__)
    if isinstance(model, TransformerBridge):
        return _bridge_unhooked(model, device, tokenizer)
    own, name, _ = _own_copy(model, None if device == "auto" else _device(device))
    return _unhooked(own, Path(name).name if Path(name).exists() else name, tokenizer)


def _named_unhooked(
    name: str, device: torch.device, dtype: torch.dtype | None, tokenizer: Any | None
) -> Unhooked:
    if tokenizer is not None:
        raise ConfigError(
            f"tokenizer: given with {name!r}, which brings its own; leave it out, or load the model yourself "
            "and pass the object."
        )
    found, shown = find_folder(name)
    if found.is_file():
        raise ModelError(f"{name}: a GGUF file is not read here; wanted a folder in Hugging Face format.")
    own = read_tokenizer(found)
    if dtype is None and device.type == "cpu":
        dtype = torch.float32
    stored = stored_bits(found)
    model, notes = _read_folder(found, device, dtype)
    return _unhooked(model, shown, own, stored, notes)


def _bridge_unhooked(bridge: Any, device: str, tokenizer: Any | None) -> Unhooked:
    name = str(getattr(bridge.cfg, "model_name", None) or "bridge")
    if tokenizer is not None:
        raise ConfigError(
            "tokenizer: given with a TransformerBridge, which has its own; set bridge.tokenizer."
        )
    _require_raw(bridge, name)
    if device != "auto":
        bridge.to(_device(device))
    return _unhooked(bridge.original_model, name, bridge.tokenizer, bridged=True)


def _unhooked(
    model: Any,
    name: str,
    tokenizer: Any | None,
    bits: int | float | None = None,
    notes: tuple[str, ...] = (),
    *,
    bridged: bool = False,
) -> Unhooked:
    model.eval()
    bos_id = _bos_id(tokenizer, len(model.get_input_embeddings().weight), bridged=bridged)
    stored = 8 * next(model.parameters()).element_size() if bits is None else bits
    return Unhooked(model, name, tokenizer, bos_id, stored, notes)


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


def _load_named(name: str, device: torch.device, dtype: torch.dtype | None) -> HookedModel:
    found, shown = find_folder(name)
    if found.is_file():
        return _load_gguf(found, device, dtype)
    tokenizer = read_tokenizer(found)
    stored = stored_bits(found)
    if dtype is None and (name == "nano" or device.type == "cpu"):
        dtype = torch.float32
    if layout_of(SimpleNamespace(**checkpoint.read_json(found / "config.json"))) is not None:
        encoder = _encoder_in(found, device, dtype)
        return _hooked_encoder(encoder, shown, tokenizer, stored)
    bridge, unbridged, notes = _boot(found, tokenizer, device, dtype)
    return _hooked(bridge, shown, tokenizer, stored, unbridged, notes=notes)


def _load_gguf(path: Path, device: torch.device, dtype: torch.dtype | None) -> HookedModel:
    from probekit.model.gguf_config import read_config
    from probekit.model.gguf_tokenizer import read_tokenizer as tokenizer_of

    file = GgufFile(path)
    read_config(file)  # what cannot be built is refused before anything large is read
    tokenizer = tokenizer_of(file)
    with _refusals(str(path), device), torch.random.fork_rng(devices=[]), _no_progress_bar():
        model = read_model(file, dtype).to(device)
    return _of_plain(model, str(path), tokenizer, file)


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
    end_id: int | None = None
    """The token to put behind every document; None but for encoders."""


@one_at_a_time
def load_reader(model: Any) -> Reader:
    """How a model reads text: of a name or folder only the tokenizer and the configuration are read.

    Args:
        model: as in `load_hooked_model`.

    Raises:
        ModelError: the model cannot be found or has no tokenizer.
    """
    if isinstance(model, str | Path):
        from transformers import AutoConfig

        folder, shown = find_folder(str(model))
        if folder.is_file():
            from probekit.model.gguf_config import read_config
            from probekit.model.gguf_tokenizer import read_tokenizer as tokenizer_of

            file = GgufFile(folder)
            config, tokenizer = read_config(file), tokenizer_of(file)
        else:
            try:
                config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            except (OSError, ValueError, KeyError) as error:
                if "trust_remote_code" in str(error):
                    raise ModelError(CUSTOM_CODE.format(folder)) from error
                raise ModelError(f"{folder}: config.json cannot be used ({first_line(error)}).") from error
            tokenizer = read_tokenizer(folder)
        n_vocab = int(getattr(config, "vocab_size", None) or len(tokenizer))
        if layout_of(config) is not None:
            bos_id, end_id = marks_of(tokenizer, n_vocab)
            return Reader(shown, tokenizer, bos_id, context_of(config), end_id)
        context = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        bos_id = _bos_id(tokenizer, n_vocab, bridged=False)
        return Reader(shown, tokenizer, bos_id, int(context or 2**31 - 1))
    hooked = load_hooked_model(model)
    return Reader(hooked.name, hooked.tokenizer, hooked.bos_id, hooked.context, hooked.end_id)


def _read_folder(
    folder: Path, device: torch.device, dtype: torch.dtype | None
) -> tuple[Any, tuple[str, ...]]:
    """A folder's model as `transformers` builds it, with what had to be done for that."""
    checkpoint.require_float_files(folder, {name: kind for name, (kind, _) in stored_tensors(folder).items()})
    with (
        _refusals(str(folder), device),
        torch.random.fork_rng(devices=[]),
        _no_progress_bar(),
    ):
        # The libraries draw weights that they then overwrite, from the global generator.
        # Loaded here, not by the bridge: only so does one learn of weights that the files lack and that
        # would otherwise stay random without a word.
        hf_model, info = _from_files(folder, dtype)
        wrapper = checkpoint.wrapper_of(sorted(info["unexpected_keys"])) if info["missing_keys"] else ""
        if wrapper:
            hf_model, info = _from_files(folder, dtype, key_mapping={f"^{re.escape(wrapper)}": ""})
        checkpoint.require_complete(folder, info["missing_keys"])
        checkpoint.require_nothing_left(folder, hf_model, info["unexpected_keys"])
        hf_model = checkpoint.as_plain(hf_model, str(folder), "Dequantise the model and save it again.")
        # what was quantised comes in the dtype it was unpacked into
        undone = dtype is not None and checkpoint.quantisation(folder) is not None
        hf_model = hf_model.to(device, dtype) if undone else hf_model.to(device)
    notes = (
        f"Names of the weights began with {wrapper!r}, which a wrapper had put there, and were read without it.",
    )
    return hf_model, notes if wrapper else ()


def _boot(
    folder: Path, tokenizer: Any, device: torch.device, dtype: torch.dtype | None
) -> tuple[Any, Unbridged, tuple[str, ...]]:
    hf_model, notes = _read_folder(folder, device, dtype)
    unbridged = Unbridged.of(hf_model)
    bridge = _bridged(folder, hf_model, tokenizer, device, shown=str(folder))
    bridge.original_model.requires_grad_(False)
    return bridge, unbridged, notes


def _encoder_in(folder: Path, device: torch.device, dtype: torch.dtype | None) -> Any:
    """A folder's encoder without the heads that its files may hold."""
    from transformers import AutoModel

    checkpoint.require_float_files(folder, {name: kind for name, (kind, _) in stored_tensors(folder).items()})
    with _refusals(str(folder), device), torch.random.fork_rng(devices=[]), _no_progress_bar():
        model, info = _from_files(folder, dtype, AutoModel)
        # a pooler reads what the last layer wrote; files made for another head lack it
        checkpoint.require_complete(
            folder, (key for key in info["missing_keys"] if not key.startswith("pooler."))
        )
        checkpoint.require_nothing_left(folder, model, info["unexpected_keys"])
        model = checkpoint.as_plain(model, str(folder), "Dequantise the model and save it again.")
        return model.to(device).requires_grad_(False)


def _hooked_encoder(model: Any, name: str, tokenizer: Any | None, bits: int | float | None) -> HookedModel:
    encoder = Encoder.of(model, name, tokenizer)
    parameter = next(model.parameters())
    stored = bits if bits is not None else 8 * parameter.element_size()
    n_vocab = len(model.get_input_embeddings().weight)
    activation = prove_encoder(encoder, name, n_vocab, stored)
    first = read_weights(encoder, 0, activation, stored)
    bos_id, end_id = marks_of(tokenizer, n_vocab)
    return HookedModel(
        name=name,
        bridge=encoder,
        tokenizer=tokenizer,
        n_layers=len(encoder.blocks),
        d_model=first.d_model,
        d_mlp=first.n_neurons,
        n_vocab=n_vocab,
        context=encoder.cfg.n_ctx,
        activation=activation,
        gated=first.gated,
        bos_id=bos_id,
        device=parameter.device,
        dtype=parameter.dtype,
        bits=stored,
        plain=encoder.plain,
        notes=(note_of(encoder),),
        end_id=end_id,
    )


def _from_files(
    folder: Path, dtype: torch.dtype | None, auto: Any = None, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """A folder's model and what its files lack and have over."""
    from transformers import AutoModelForCausalLM

    # what is quantised is turned into numbers in its own dtype; asked for another one, fp8 is refused on a CPU
    asked = "auto" if dtype is None or checkpoint.quantisation(folder) else dtype
    loaded: Any = (auto or AutoModelForCausalLM).from_pretrained(
        folder,
        dtype=asked,
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=False,
        **options,
    )
    return loaded


def _bridged(folder: Path, hf_model: Any, tokenizer: Any | None, device: torch.device, *, shown: str) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    with _refusals(shown, device), torch.random.fork_rng(devices=[]), _no_progress_bar():
        # A copy: the bridge adds special tokens to the tokenizer it is given, with ids no embedding has.
        return TransformerBridge.boot_transformers(
            str(folder),
            hf_model=hf_model,
            tokenizer=copy.deepcopy(tokenizer),
            device=device,
            trust_remote_code=False,
        )


@contextmanager
def _refusals(shown: str, device: torch.device) -> Generator[None]:
    """What the model libraries raise, and those that they call for a quantised or odd checkpoint, as one error of ours."""
    try:
        yield
    except ProbekitError:
        raise
    except Exception as error:  # libraries raise whatever they like over a file
        if lacks_memory(error):
            raise OutOfMemoryError(
                f"{shown}: the model does not fit on {device}; choose device='cpu' or dtype='bfloat16'."
            ) from error
        if "trust_remote_code" in str(error):
            raise ModelError(CUSTOM_CODE.format(shown)) from error
        raise ModelError(
            f"{shown}: the model could not be loaded ({type(error).__name__}: {first_line(error)}). "
            "Wanted a complete checkpoint of a decoder-only transformer that TransformerLens supports."
        ) from error


def _hooked(
    bridge: Any,
    name: str,
    tokenizer: Any | None,
    bits: int | float | None,
    unbridged: Unbridged | None = None,
    *,
    file: GgufFile | None = None,
    notes: tuple[str, ...] = (),
) -> HookedModel:
    _require_raw(bridge, name)
    require_sites(bridge, name)
    bridge.eval()
    parameter = next(bridge.original_model.parameters())
    n_vocab = _embedding_rows(bridge, name)
    context = int(bridge.cfg.n_ctx)
    stored = bits if bits is not None else 8 * parameter.element_size()
    if file is not None:
        stored, notes = file.mean_bits, (*notes, _how_read(file, len(bridge.blocks)))
    if unbridged is not None:
        norms_as_the_model(bridge)
        unbridged.require_same(bridge, name, n_vocab, context)
    activation = prove_decoder(bridge, name, n_vocab, context, stored)
    first = read_weights(bridge, 0, activation, stored)
    return HookedModel(
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
        layer_bits=None if file is None else tuple(file.bits(layer) for layer in range(len(bridge.blocks))),
        stored="" if file is None else f"GGUF, {file.kinds(range(len(bridge.blocks)))}",
        notes=notes,
    )


def _require_raw(bridge: Any, name: str) -> None:
    if getattr(bridge, "compatibility_mode", False):
        raise ModelError(
            f"{name}: the bridge is in compatibility mode, so its weights and MLP inputs are processed; "
            "wanted raw weights. Boot it again and do not call enable_compatibility_mode()."
        )


def _how_read(file: GgufFile, n_layers: int) -> str:
    """What was read from a GGUF file, for the report."""
    bits = sorted({round(file.bits(layer), 2) for layer in range(n_layers)})
    many = f"{bits[0]:g}" if len(bits) == 1 else f"{bits[0]:g} to {bits[-1]:g}"
    tokens: list[str] = file.get("tokenizer.ggml.tokens") or []
    start = file.get("tokenizer.ggml.bos_token_id")
    named = "no start mark" if start is None or start >= len(tokens) else f"start mark {tokens[start]!r}"
    adds = file.get("tokenizer.ggml.add_bos_token")
    return (
        f"The weights come from a GGUF file and were turned back into numbers: those that act at the neurons are stored as "
        f"{file.kinds(range(n_layers))}, {many} bits a weight with the scales. The file names the tokenizer "
        f"{file.get('tokenizer.ggml.model')!r}, its splitting rule {file.get('tokenizer.ggml.pre', 'none')!r} and {named} "
        f"(add_bos_token: {'not stated' if adds is None else str(bool(adds)).lower()})."
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
