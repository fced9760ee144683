"""Where the passes run: in this process, or as tasks on a Ray cluster.

Two kinds of tasks split a run. *Forwards* split the tokens: a task takes whole batches of documents, those that a process of
its own would send through the model together, and leaves inputs and neurons of a group of layers in the cluster's memory.
*Measures* split layers and sites: a layer's sites (its neurons, inputs, every twin) do not touch each other, each is summed
from the same tiles in the same order, whoever else goes along; a task takes one layer and some of its sites through all
three passes over what the forwards left, and returns readouts and contrasts. So every token is forwarded once, moments never
travel, and the tables are those of the local engine bit for bit on processors of one kind with as many threads. A task whose
worker dies is started again, and what a lost machine held is forwarded again, batch by batch.

Where one layer's activations do not fit into the budget, or on an accelerator, where a forward is cheaper than memory,
every measure forwards the text for itself.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch

from probekit.analysis.cluster import RETRIES, as_ours, joined_cluster, ray_package, slots
from probekit.analysis.passes import (
    CALIBRATION_TOKENS,
    LayerMeasure,
    Progress,
    assemble,
    calibrate_layer,
    measure_sites,
)
from probekit.analysis.sites import Layer, made_of
from probekit.analysis.source import Delivered, ModelSource
from probekit.analysis.threads import computing_with
from probekit.errors import ConfigError
from probekit.model.sign_products import GROUP

if TYPE_CHECKING:
    from probekit.analysis.design import StudyDesign
    from probekit.analysis.source import Half, Source
    from probekit.text.tokens import Tokens

Engine = Literal["local", "ray"]
FORWARDS = 4
"""Forwards of a half for every slot, at most: a worker lost costs so little, and none waits long for the last."""
EVENING_OUT = 2
"""Measures a slot, where forwards are shared."""


@runtime_checkable
class RemoteSource(Protocol):
    """What a worker needs to open a source of its own."""

    def open(self) -> Source:
        """The source, in this process."""
        ...


@dataclass(frozen=True)
class RemoteModel:
    """A model by name, which every worker loads for itself, and the documents it reads."""

    model: str
    """Name or folder, the same on every machine."""
    device: str
    """Where it computes."""
    dtype: str | None
    """What it computes in."""
    tokens: Tokens
    """The token block."""
    docs: dict[Half, np.ndarray]
    """Documents of each half."""
    rows: dict[Half, np.ndarray] | None = None
    """Counted tokens of each half that are used, where these are not all of its documents'."""

    def open(self) -> Source:
        """Load the model; a worker keeps it for its next tasks."""
        key = (self.model, self.device, self.dtype)
        if key not in _hooked_models:
            from probekit.model.hooked_model import load_hooked_model

            _hooked_models.clear()
            _hooked_models[key] = load_hooked_model(self.model, device=self.device, dtype=self.dtype)
        return ModelSource(_hooked_models[key], self.tokens, self.docs, self.rows)


_hooked_models: dict[tuple[str, str, str | None], Any] = {}


def check_engine(engine: Any, model: Any) -> Engine:
    """The engine, if it can be used with this model here.

    Raises:
        ConfigError: no such engine, ray is not installed, or the model is an object that other machines cannot load.
    """
    if engine not in get_args(Engine):
        raise ConfigError(f"engine: got {engine!r}, wanted one of {', '.join(map(repr, get_args(Engine)))}.")
    if engine == "ray":
        if not isinstance(model, str | os.PathLike):
            raise ConfigError(
                f"engine: 'ray' got a {type(model).__name__}; wanted a model by name or folder, since every worker loads it "
                "for itself. Save it to a folder that all machines see, or choose 'local'."
            )
        ray_package()
    return engine


def measure_on_ray(
    remote: RemoteSource,
    source: Source,
    layers: list[int],
    design: StudyDesign,
    device: str,
    n_bytes: float,
    progress: Progress | None = None,
) -> Iterator[LayerMeasure]:
    """Measure layers on the cluster this process belongs to, or on a local one; they come as they are finished.

    Args:
        remote: how a worker opens the source.
        source: the same, in this process.
        layers: the layers to measure.
        design: what is measured.
        device: where workers compute; "cuda" reserves a GPU a task.
        n_bytes: what the activations of layers measured together may take of the cluster's memory.
        progress: called after every finished task.

    Raises:
        ProbekitError: what a task raised.
        OutOfMemoryError: a worker ran out of memory again and again.
        ResourceError: a task's worker died more often than RETRIES times, or the cluster is gone.
    """
    ray = ray_package()
    n_threads = torch.get_num_threads()
    on_gpu = device.startswith("cuda")
    options: dict[str, Any] = {"num_cpus": n_threads, "max_retries": RETRIES}
    if on_gpu:
        options["num_gpus"] = 1
    with joined_cluster(), as_ours():
        cluster = _Cluster(
            ray.put((remote, design, n_threads)), options, slots(n_threads, on_gpu=on_gpu), source, design
        )
        room = ray.cluster_resources().get("object_store_memory", n_bytes)
        groups = _groups(source, layers, design, min(n_bytes, room), cluster.n_slots)
        n_done, n_tasks = 0, cluster.n_tasks(groups)
        for group in groups:
            for measure in cluster.measured(group):
                if isinstance(measure, LayerMeasure):
                    yield measure
                elif progress is not None:
                    n_done += 1
                    progress("layers and sites", n_done, n_tasks)


@dataclass(frozen=True)
class _Group:
    """Layers measured together."""

    layers: list[int]
    """Which."""
    cuts: dict[Half, list[tuple[int, int]]]
    """First and last-plus-one token of the forwards of each half; none where every measure forwards for itself."""


def _groups(
    source: Source, layers: list[int], design: StudyDesign, n_bytes: float, n_slots: int
) -> list[_Group]:
    """The layers whose activations the budget holds together, and how their tokens are cut: behind whole batches."""
    width = source.width_kept
    each = 0 if width is None else 4 * width * sum(half.labels.n_tokens for half in design.halves)
    if not each or each > n_bytes or not isinstance(source, ModelSource):
        return [_Group(layers, {})]
    size = min(len(layers), int(n_bytes // each))
    cuts: dict[Half, list[tuple[int, int]]] = {}
    for half in ("fit", "confirm"):
        ends = np.unique(source.batch_ends(half))
        step = -(-len(ends) // (FORWARDS * n_slots))
        chosen = np.unique([*ends[step - 1 :: step], ends[-1]])
        cuts[half] = list(itertools.pairwise([0, *chosen[chosen > 0].tolist()]))
    return [_Group(layers[first : first + size], cuts) for first in range(0, len(layers), size)]


@dataclass(frozen=True)
class _Cluster:
    """Tasks of one run."""

    shared: Any
    """What every task needs, in the cluster's memory."""
    options: dict[str, Any]
    """What every task asks for."""
    n_slots: int
    """Tasks that run at the same time."""
    source: Source
    """The source in this process."""
    design: StudyDesign
    """What is measured."""

    def shares(self, group: _Group) -> dict[int, list[list[str]]]:
        """The sites of each layer by task. Where the forwards are shared more tasks than slots cost little and even out."""
        names = {layer: _names(self.source, layer, self.design) for layer in group.layers}
        return _shares(names, self.n_slots * (EVENING_OUT if group.cuts else 1))

    def n_tasks(self, groups: list[_Group]) -> int:
        """Measures of all groups."""
        return sum(len(shares) for group in groups for shares in self.shares(group).values())

    def measured(self, group: _Group) -> Iterator[LayerMeasure | None]:
        """Each layer as it is finished; None after every finished task."""
        ray = ray_package()
        calibrate, measure = (ray.remote(task).options(**self.options) for task in (_calibrated, _measured))
        shares = self.shares(group)
        blocks = self._forwards(group)
        n_first = sum(start < CALIBRATION_TOKENS for start, _ in group.cuts.get("fit", ()))
        drawn = {
            layer: calibrate.remote(self.shared, layer, *blocks[layer][:n_first]) for layer in group.layers
        }
        tasks = {
            measure.remote(self.shared, layer, share, drawn[layer], *blocks[layer]): layer
            for layer in group.layers
            for share in shares[layer]
        }
        blocks.clear()  # tasks hold what they still need
        found: dict[int, dict[str, Any]] = {layer: {} for layer in group.layers}
        left, waiting = {layer: len(shares[layer]) for layer in group.layers}, list(tasks)
        while waiting:
            (done, *_), waiting = ray.wait(waiting, num_returns=1)
            layer = tasks.pop(done)
            found[layer] |= _own(ray.get(done))
            left[layer] -= 1
            yield None
            if left[layer] == 0:
                sites = found.pop(layer)
                overlap = _own(ray.get(drawn.pop(layer)).get("overlap"))
                names = _names(self.source, layer, self.design)
                yield assemble(layer, {name: sites[name] for name in names}, overlap)

    def _forwards(self, group: _Group) -> dict[int, list[Any]]:
        """The results of the forwards for each layer: the blocks of both halves, in token order."""
        if not group.cuts:
            return {layer: [] for layer in group.layers}
        forward = ray_package().remote(_forwarded).options(**self.options, num_returns=len(group.layers))
        made = [
            forward.remote(self.shared, group.layers, half, start, stop)
            for half, parts in group.cuts.items()
            for start, stop in parts
        ]
        columns = zip(*(part if isinstance(part, list) else [part] for part in made), strict=True)
        return {layer: list(column) for layer, column in zip(group.layers, columns, strict=True)}


def _names(source: Source, layer: int, design: StudyDesign) -> list[str]:
    held = Layer(layer, source.weights(layer), has_inputs=source.has_inputs(layer), design=design)
    return list(held.sites)


def _shares(names: dict[int, list[str]], n_slots: int) -> dict[int, list[list[str]]]:
    """The sites of each layer, split into as many tasks as keep every slot busy.

    Twins that share products stay together (whoever computes one of them computes the products of all), and sites with
    those they are made of.
    """
    n_shares = max(1, -(-n_slots // len(names)))
    shares: dict[int, list[list[str]]] = {}
    for layer, held in names.items():
        units: dict[str, list[str]] = {}
        for name in held:
            kind, _, index = name.partition(":")
            shares_products = kind in ("twin", "isotropic")
            unit = f"{kind}s {int(index) // GROUP}" if shares_products else made_of(name)
            units.setdefault(unit, []).append(name)
        dealt = [list(units.values())[first::n_shares] for first in range(min(n_shares, len(units)))]
        shares[layer] = [[name for unit in share for name in unit] for share in dealt]
    return shares


Block = tuple["Half", list[tuple[np.ndarray, np.ndarray]]]
"""The result of one forward for one layer: its half, and inputs and neurons batch by batch."""


def _forwarded(
    shared: tuple[RemoteSource, StudyDesign, int], layers: list[int], half: Half, start: int, stop: int
) -> list[Block] | Block:
    """Activations of some whole batches of documents, layer by layer."""
    remote, _, n_threads = _own(shared)
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {layer: [] for layer in layers}
    with _threads(n_threads):
        for block in remote.open().blocks(half, layers, start):
            for layer, (inputs, neurons) in block.items():
                assert inputs is not None
                parts[layer].append((inputs.cpu().numpy(), neurons.cpu().numpy()))
            start += max(len(neurons) for _, neurons in block.values())
            if start >= stop:
                break
    made: list[Block] = [(half, parts[layer]) for layer in layers]
    return made if len(made) > 1 else made[0]


def _source(remote: RemoteSource, layer: int, delivered: tuple[Block, ...]) -> Source:
    """What the forwards left, or where there were none the model itself."""
    if not delivered:
        return remote.open()
    blocks: dict[Half, list[tuple[np.ndarray, np.ndarray]]] = {"fit": [], "confirm": []}
    for half, parts in delivered:
        blocks[half] += parts
    return Delivered(remote.open(), layer, blocks)


def _calibrated(
    shared: tuple[RemoteSource, StudyDesign, int], layer: int, *delivered: Block
) -> dict[str, np.ndarray]:
    remote, design, n_threads = _own(shared)
    with _threads(n_threads):
        return calibrate_layer(_source(remote, layer, delivered), layer, design)


def _own(value: Any) -> Any:
    """A copy that may be written to.

    What comes out of Ray's shared memory is read-only, for which numba compiles kernels of their own, and those round
    differently.
    """
    return copy.deepcopy(value)


def _measured(
    shared: tuple[RemoteSource, StudyDesign, int],
    layer: int,
    names: list[str],
    calibrated: dict[str, np.ndarray],
    *delivered: Block,
) -> dict[str, Any]:
    remote, design, n_threads = _own(shared)
    with _threads(n_threads):
        source = _source(remote, layer, delivered)
        return measure_sites(source, layer, names, design, _own(calibrated))


@contextlib.contextmanager
def _threads(n_threads: int) -> Generator[None, None, None]:
    """As many threads as the run was begun with, in the kernels too; the worker has its own again afterwards."""
    import numba

    with computing_with(n_threads):
        here = numba.get_num_threads()
        with contextlib.suppress(
            ValueError
        ):  # fewer were asked for by NUMBA_NUM_THREADS: they divide pairs, not sums
            numba.set_num_threads(n_threads)
        try:
            yield
        finally:
            numba.set_num_threads(here)
