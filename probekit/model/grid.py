"""Read a model at the last token of every prefix × suffix behind the same contexts, and run its layers' twins on that.

Cells that share a context and a prefix share all their keys and values but the last, so that only one new token a cell is
computed: the prefixes' cache is repeated for each suffix. That it gives what whole rows give is proved on a few cells;
where it does not, or a model cannot be called so, whole rows are run. Everything is read in one forward a batch for all
the layers wanted, which ends behind the last of them. Axes: context prefix suffix input neuron doc pos.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from probekit.errors import InputError, ModelError, NonFiniteError, OutOfMemoryError, lacks_memory
from probekit.model.hooked_model import HookedModel
from probekit.model.plain import PlainModel
from probekit.model.sites import INPUT_SITE, _bias, _matrix
from probekit.model.twins import InputFrame, PcSignTwins
from probekit.model.weights import MlpWeights

AS_GRID = "(prefix suffix) feature -> prefix suffix feature"
AS_ROWS = "prefix suffix feature -> (prefix suffix) feature"
_ROWS = 768
"""Cells a forward, at most."""
_PROOF_CELLS = 4
_FAR = 64
"""Largest distance, as in `probekit.model.plain`: in epsilons of the dtype times √(layer + 1)."""
_FLOAT32_BYTES = 4
_REFUSED = (TypeError, ValueError, KeyError, AttributeError, RuntimeError, NotImplementedError)
"""What a model that cannot be called with a cache raises."""


@dataclass(frozen=True)
class Grid:
    """Which cells are read."""

    contexts: Sequence[Sequence[int]]
    """Token ids before the prefix, the start mark left out."""
    prefixes: Sequence[int]
    """First tokens."""
    suffixes: Sequence[int]
    """Second tokens; the model is read at these."""

    @property
    def n_cells(self) -> int:
        """Cells in all contexts."""
        return len(self.contexts) * len(self.prefixes) * len(self.suffixes)

    def row(
        self, bos_id: int | None, context: int, prefix: int | None = None, suffix: int | None = None
    ) -> list[int]:
        """The tokens of one cell; without suffix those before it."""
        start = [] if bos_id is None else [bos_id]
        first = [] if prefix is None else [self.prefixes[prefix]]
        return [*start, *self.contexts[context], *first, *([] if suffix is None else [self.suffixes[suffix]])]


@dataclass
class LayerCells:
    """One layer on one grid, in float32 on the CPU."""

    inputs: Float[Tensor, "context prefix suffix input"]
    """MLP inputs."""
    after: Float[Tensor, "prefix suffix input"]
    """Residual stream behind the layer, mean over the contexts."""
    adds: bool = True
    """Whether that stream is what stood before the MLP plus the MLP's output; not where the output is normalised first."""


def bytes_per_layer(grids: Iterable[Grid], d_model: int) -> int:
    """Memory that one layer's cells take."""
    return sum(
        _FLOAT32_BYTES * d_model * (grid.n_cells + len(grid.prefixes) * len(grid.suffixes)) for grid in grids
    )


def output_weights(hooked: HookedModel, layer: int) -> Float[Tensor, "neuron input"]:
    """What each neuron of a layer writes, float32 on the CPU."""
    return _matrix(hooked.bridge.blocks[layer].mlp, layer, "W_out").float().cpu()


def output_constant(hooked: HookedModel, layer: int) -> Float[Tensor, " input"] | None:
    """What a layer's output holds whatever its neurons are, float32 on the CPU; None where it has no bias."""
    bias = _bias(hooked.bridge.blocks[layer].mlp, "out")
    return None if bias is None else bias.float().cpu()


def read_grid(
    hooked: HookedModel, grid: Grid, layers: Sequence[int], *, progress: Callable[[int], object] | None = None
) -> dict[int, LayerCells]:
    """Every cell's MLP inputs and residual stream in the wanted layers.

    Args:
        hooked: the model.
        grid: the cells.
        layers: layers wanted, ascending.
        progress: called with the number of cells read so far.

    Raises:
        InputError: a token id beyond the embedding, or a row longer than the model's context.
        NonFiniteError: an activation is NaN or infinite.
        OutOfMemoryError: a batch does not fit on the device.
    """
    _check(hooked, grid, layers)
    taps = _Taps.of(hooked.plain, layers) if hooked.plain is not None else None
    cached = taps is not None
    shape = (len(grid.contexts), len(grid.prefixes), len(grid.suffixes))
    found = {
        layer: LayerCells(torch.empty(*shape, hooked.d_model), torch.zeros(*shape[1:], hooked.d_model))
        for layer in layers
    }
    n_done = 0
    for context in range(shape[0]):
        if cached and context == 0:
            cached = _proved(hooked, taps, grid, layers)
        cells = (
            _cached_cells(hooked, taps, grid, context)
            if cached and taps is not None
            else _whole_cells(hooked, taps, grid, context, layers)
        )
        for start, stop, rows in cells:
            for layer, row in rows.items():
                part = slice(start, stop)
                found[layer].inputs[context, part] = rearrange(row["input"], AS_GRID, suffix=shape[2])
                found[layer].after[part] += rearrange(row["post"], AS_GRID, suffix=shape[2]) / shape[0]
                found[layer].adds &= _adds(row)
            n_done += (stop - start) * shape[2]
            if progress is not None:
                progress(n_done)
    for layer, cells in found.items():
        if not (bool(torch.isfinite(cells.inputs).all()) and bool(torch.isfinite(cells.after).all())):
            raise NonFiniteError(
                f"{hooked.name}: layer {layer}: some activations of the word grid are NaN or infinite; wanted finite "
                "numbers. Load the model with dtype=torch.float32."
            )
    return found


# -------------------------------------------------------------------------------- reading


class _EndError(Exception):
    """Ends a forward behind the last wanted layer."""


@dataclass(frozen=True)
class _Taps:
    """The modules of a plain model that are listened to."""

    plain: PlainModel
    layers: Sequence[int]
    blocks: Mapping[int, nn.Module]
    attentions: Mapping[int, nn.Module]

    @classmethod
    def of(cls, plain: PlainModel, layers: Sequence[int]) -> _Taps | None:
        """None where a layer's block or attention is not found."""
        modules = dict(plain.model.named_modules())
        name_of = {id(module): name for name, module in modules.items()}
        blocks: dict[int, nn.Module] = {}
        attentions: dict[int, nn.Module] = {}
        for layer in layers:
            name = name_of[id(plain.inputs[layer])]
            while name and not isinstance(modules[name.rpartition(".")[0]], nn.ModuleList):
                name = name.rpartition(".")[0]
            if not name:
                return None
            blocks[layer] = modules[name]
            named = [
                child for key, child in modules[name].named_children() if "attn" in key or "attention" in key
            ]
            attending = [child for child in named if list(child.children())]  # not a norm called after it
            if len(attending) != 1:
                return None
            attentions[layer] = attending[0]
        return cls(plain, layers, blocks, attentions)

    def run(self, ids: Tensor, cache: Any | None) -> dict[int, dict[str, Tensor]]:
        """Last position of every row at each tap: layer → "input", "mlp", "attn", "pre", "post"."""
        seen: dict[int, dict[str, Tensor]] = {layer: {} for layer in self.layers}
        handles: list[Any] = []

        def last(value: Any) -> Tensor:
            tensor: Tensor = value[0] if isinstance(value, tuple) else value
            return tensor.detach().reshape(*ids.shape, -1)[:, -1].float().cpu()

        def before(layer: int, what: str) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
                seen[layer][what] = last(args[0] if args else named["hidden_states"])

            return hook

        def behind(layer: int, what: str, *, ends: bool = False) -> Any:
            def hook(_: nn.Module, __: Any, result: Any) -> None:
                seen[layer][what] = last(result)
                if ends:
                    raise _EndError

            return hook

        options = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
        try:
            for layer in self.layers:
                mlp, block = self.plain.inputs[layer], self.blocks[layer]
                handles += [
                    mlp.register_forward_pre_hook(before(layer, "input"), with_kwargs=True),
                    mlp.register_forward_hook(behind(layer, "mlp")),
                    self.attentions[layer].register_forward_hook(behind(layer, "attn")),
                    block.register_forward_pre_hook(before(layer, "pre"), with_kwargs=True),
                    block.register_forward_hook(behind(layer, "post", ends=layer == self.layers[-1])),
                ]
            with torch.inference_mode():
                self.plain.model(ids, **options)
        except _EndError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return {layer: {what: row.clone() for what, row in rows.items()} for layer, rows in seen.items()}


Rows = tuple[int, int, dict[int, dict[str, Tensor]]]
"""First prefix, one behind the last, and what was read."""


def _ids(hooked: HookedModel, rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=hooked.device)


def _parts(grid: Grid) -> Iterator[tuple[int, int]]:
    step = max(1, _ROWS // len(grid.suffixes))
    for start in range(0, len(grid.prefixes), step):
        yield start, min(start + step, len(grid.prefixes))


def _cached_cells(hooked: HookedModel, taps: _Taps, grid: Grid, context: int) -> Iterator[Rows]:
    cache = _prefix_cache(hooked, taps, grid, context)
    n_suffixes = len(grid.suffixes)
    for start, stop in _parts(grid):
        prefixes = torch.arange(start, stop, device=hooked.device).repeat_interleave(n_suffixes)
        ids = _ids(hooked, [[suffix] for suffix in grid.suffixes] * (stop - start))
        yield (
            start,
            stop,
            _guarded(hooked, len(ids), lambda ids=ids, p=prefixes: taps.run(ids, _repeated(cache, p))),
        )


def _prefix_cache(hooked: HookedModel, taps: _Taps, grid: Grid, context: int) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache(config=cast(Any, taps.plain.model).config)
    ids = _ids(hooked, [grid.row(hooked.bos_id, context, prefix) for prefix in range(len(grid.prefixes))])
    _guarded(hooked, len(ids), lambda: taps.run(ids, cache))
    return cache


def _repeated(cache: Any, rows: Tensor) -> Any:
    held = copy.copy(cache)
    # only the layers that have been run hold anything
    held.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in held.layers:
        if getattr(layer, "keys", None) is not None and layer.get_seq_length() > 0:
            layer.batch_select_indices(rows)
    return held


def _whole_cells(
    hooked: HookedModel, taps: _Taps | None, grid: Grid, context: int, layers: Sequence[int]
) -> Iterator[Rows]:
    for start, stop in _parts(grid):
        ids = _ids(
            hooked,
            [
                grid.row(hooked.bos_id, context, prefix, suffix)
                for prefix in range(start, stop)
                for suffix in range(len(grid.suffixes))
            ],
        )
        yield start, stop, _guarded(hooked, len(ids), lambda ids=ids: _run_whole(hooked, taps, ids, layers))


def _run_whole(
    hooked: HookedModel, taps: _Taps | None, ids: Tensor, layers: Sequence[int]
) -> dict[int, dict[str, Tensor]]:
    if taps is not None:
        return taps.run(ids, None)
    sites = {
        "input": INPUT_SITE, "pre": "blocks.{}.hook_in", "attn": "blocks.{}.attn.hook_out",
        "mlp": "blocks.{}.mlp.hook_out", "post": "blocks.{}.hook_out",
    }  # fmt: skip
    seen: dict[int, dict[str, Tensor]] = {layer: {} for layer in layers}
    named = {site.format(layer): (layer, what) for layer in layers for what, site in sites.items()}

    def keep(activation: Any, hook: Any) -> None:
        layer, what = named[hook.name]
        tensor: Tensor = activation[0] if isinstance(activation, tuple) else activation
        seen[layer][what] = tensor.detach().reshape(*ids.shape, -1)[:, -1].float().cpu().clone()

    present = [name for name in named if name in hooked.bridge.hook_dict]
    with torch.inference_mode():
        hooked.bridge.run_with_hooks(ids, return_type=None, fwd_hooks=[(name, keep) for name in present])
    for layer in layers:
        for what in ("input", "post"):
            if what not in seen[layer]:
                raise ModelError(
                    f"{hooked.name}: layer {layer}: site `{sites[what].format(layer)}` did not fire, so the word grid "
                    "cannot be read there; pass the transformers model instead of a bridge."
                )
    return seen


def _guarded(hooked: HookedModel, n_rows: int, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise OutOfMemoryError(
            f"{hooked.name}: a forward of {n_rows} cells of the word grid does not fit on {hooked.device}. Choose "
            "device='cpu', a 16-bit dtype, or fewer words."
        ) from error


def _proved(hooked: HookedModel, taps: _Taps | None, grid: Grid, layers: Sequence[int]) -> bool:
    """Whether rows with a cache give what whole rows give through the bridge, on a few cells."""
    n = min(_PROOF_CELLS, len(grid.prefixes), len(grid.suffixes))
    few = Grid(grid.contexts[:1], grid.prefixes[:n], grid.suffixes[-n:])
    if taps is None:
        return False
    try:
        here = next(iter(_cached_cells(hooked, taps, few, 0)))[2]
    except _REFUSED:
        return False
    there = next(iter(_whole_cells(hooked, None, few, 0, layers)))[2]
    for layer in layers:
        for what in ("input", "post"):
            error = (here[layer][what] - there[layer][what]).square().mean().sqrt()
            size = there[layer][what].square().mean().sqrt()
            if not error <= _FAR * torch.finfo(hooked.dtype).eps * (layer + 1) ** 0.5 * size:
                return False
    return True


def _adds(row: Mapping[str, Tensor]) -> bool:
    """Whether the block's output is its input plus attention plus MLP, so that the MLP's part can be separated."""
    if not {"pre", "attn", "mlp", "post"} <= row.keys():
        return False
    rest = row["post"] - row["pre"] - row["attn"] - row["mlp"]
    size = max(float(row[what].square().mean()) for what in ("post", "mlp"))
    # bfloat16 rounds each of three sums to one part in 256
    return float(rest.square().mean()) <= (0.02**2) * size


def _check(hooked: HookedModel, grid: Grid, layers: Sequence[int]) -> None:
    for layer in layers:
        hooked.check_layer(layer)
    ids = [*grid.prefixes, *grid.suffixes, *(i for context in grid.contexts for i in context)]
    if max(ids) >= hooked.n_vocab:
        raise InputError(
            f"word grid: token id {max(ids)} is beyond the {hooked.n_vocab:,} rows of {hooked.name}'s embedding; use the "
            "model's own tokenizer."
        )
    longest = max(len(grid.row(hooked.bos_id, c, 0, 0)) for c in range(len(grid.contexts)))
    if longest > hooked.context:
        raise InputError(
            f"word grid: rows of {longest} tokens, but {hooked.name} has a context of {hooked.context}; give shorter "
            "contexts."
        )


# -------------------------------------------------------------------------------- twins


@dataclass(frozen=True)
class GridTwins:
    """PC-sign twins of a layer on its grids, each plain and with the input's word directions relayed.

    A twin reads W T (x − μ), T = U diag(±1) Uᵀ. Its relay-matched partner reads (W − W D Dᵀ) T (x − μ) + W D Dᵀ (x − μ):
    along the orthonormal directions D what the layer reads, elsewhere what the twin reads, in both halves of a gated
    layer. That is the twin's pre-activation plus W D Dᵀ (1 − T)(x − μ). One frame (μ, U) and the same signs serve all
    grids.
    """

    plain: PcSignTwins
    """The twins."""
    relay: Float[Tensor, "input direction"]
    """Orthonormal directions along which the partner reads as the layer does."""
    _relayed: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_relayed", self.plain.weights.weight @ self.relay)

    def means(
        self, inputs: Float[Tensor, "context prefix suffix input"]
    ) -> Iterator[tuple[Float[Tensor, "prefix suffix neuron"], Float[Tensor, "prefix suffix neuron"]]]:
        """For each twin the neurons' mean over the contexts, plain and relay-matched."""
        frame, weights = self.plain.frame, self.plain.weights
        device = weights.device
        n_contexts, n_prefixes, n_suffixes = inputs.shape[:3]
        into_frame = frame.directions.T @ weights.weight.T
        bias = weights.weight @ frame.mean + weights.bias
        along = frame.directions.T @ self.relay
        rotated = [(rearrange(cells, AS_ROWS).to(device) - frame.mean) @ frame.directions for cells in inputs]
        for sign in self.plain.signs:
            sums = [torch.zeros(n_prefixes * n_suffixes, weights.n_neurons, device=device) for _ in range(2)]
            for cells in rotated:
                pre = (cells * sign) @ into_frame + bias
                sums[0] += weights.activate(pre)
                sums[1] += weights.activate(pre + (cells * (1 - sign)) @ along @ self._relayed.T)
            plain, relayed = (
                rearrange(total / n_contexts, AS_GRID, suffix=n_suffixes).cpu() for total in sums
            )
            yield plain, relayed


def neuron_means(
    weights: MlpWeights, inputs: Float[Tensor, "context prefix suffix input"]
) -> Float[Tensor, "prefix suffix neuron"]:
    """The layer's own neurons, mean over the contexts."""
    n_contexts, n_prefixes, n_suffixes = inputs.shape[:3]
    total = torch.zeros(n_prefixes * n_suffixes, weights.n_neurons, device=weights.device)
    for cells in inputs:
        total += weights.neurons(rearrange(cells, AS_ROWS).to(weights.device))
    return rearrange(total / n_contexts, AS_GRID, suffix=n_suffixes).cpu()


def draw_twins(
    weights: MlpWeights,
    inputs: Sequence[Float[Tensor, "context prefix suffix input"]],
    relay: Float[np.ndarray, "input direction"],
    n_twins: int,
    rng: np.random.Generator,
) -> GridTwins:
    """Draw twins in the frame of all cells together, whose partners relay the given directions."""
    sample = torch.cat([rearrange(cells, "... input -> (...) input") for cells in inputs]).to(weights.device)
    plain = PcSignTwins.draw(weights, InputFrame.of(sample), n_twins, rng)
    return GridTwins(plain, torch.from_numpy(relay).float().to(weights.device))
