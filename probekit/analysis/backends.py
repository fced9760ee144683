"""Where the passes run: in this process, or as tasks on a Ray cluster.

A layer's sites (its neurons, inputs, every twin) do not touch each other: each is summed from the same tiles in the same
order, whoever else goes along. So a task takes one layer and some of its sites through all three passes, forwards the text
up to that layer itself, and returns readouts and contrasts; activations and moments never travel. The tables are those of
the local engine bit for bit on processors of one kind with as many threads, and a task whose worker dies is started again.

Tokens are not split between tasks: partial sums of shards would group the additions differently from one process, and
to keep the bits every tile's products would have to travel (some 50 MB a site and tile at 3,072 neurons and 2,000 pairs).
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import signal
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch

from probekit.analysis.passes import LayerMeasure, Progress, assemble, calibrate_layer, measure_sites
from probekit.analysis.sites import Layer, made_of
from probekit.analysis.threads import computing_with
from probekit.errors import ConfigError, OutOfMemoryError, ResourceError
from probekit.model.sign_products import GROUP

if TYPE_CHECKING:
    from probekit.analysis.design import StudyDesign
    from probekit.analysis.source import Half, Source
    from probekit.text.tokens import Tokens

Engine = Literal["local", "ray"]
RETRIES = 4
"""Times a task is started again after its worker died."""
NO_RAY = "engine: 'ray' needs the package ray, which is not installed; `pip install ray` adds it, or choose 'local'."


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
        from probekit.analysis.source import ModelSource

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
        _ray()
    return engine


def _ray() -> Any:
    """The package, which is an optional extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(NO_RAY) from error


def measure_on_ray(
    remote: RemoteSource,
    source: Source,
    layers: list[int],
    design: StudyDesign,
    device: str,
    progress: Progress | None = None,
) -> Iterator[LayerMeasure]:
    """Measure layers on the cluster this process belongs to, or on a local one; they come as they are finished.

    Args:
        remote: how a worker opens the source.
        source: the same, in this process.
        layers: the layers to measure.
        design: what is measured.
        device: where workers compute; "cuda" reserves a GPU a task.
        progress: called after every finished task.

    Raises:
        ProbekitError: what a task raised.
        OutOfMemoryError: a worker ran out of memory again and again.
        ResourceError: a task's worker died more often than RETRIES times, or the cluster is gone.
    """
    ray = _ray()
    n_threads = torch.get_num_threads()
    on_gpu = device.startswith("cuda")
    options: dict[str, Any] = {"num_cpus": n_threads, "max_retries": RETRIES}
    if on_gpu:
        options["num_gpus"] = 1
    with _cluster(), _as_ours():
        n_slots = _slots(n_threads, on_gpu=on_gpu)
        shared = ray.put((remote, design, n_threads))
        calibrate, measure = (ray.remote(task).options(**options) for task in (_calibrated, _measured))
        names = {layer: _names(source, layer, design) for layer in layers}
        shares = _shares(names, n_slots)
        drawn = {layer: calibrate.remote(shared, layer) for layer in layers}
        tasks = {
            measure.remote(shared, layer, share, drawn[layer]): layer
            for layer in layers
            for share in shares[layer]
        }
        found: dict[int, dict[str, Any]] = {layer: {} for layer in layers}
        left, waiting = {layer: len(shares[layer]) for layer in layers}, list(tasks)
        while waiting:
            (done, *_), waiting = ray.wait(waiting, num_returns=1)
            layer = tasks.pop(done)
            found[layer] |= _own(ray.get(done))
            left[layer] -= 1
            if progress is not None:
                n_tasks = sum(map(len, shares.values()))
                progress("layers and sites", n_tasks - len(waiting), n_tasks)
            if left[layer] == 0:
                sites = found.pop(layer)
                overlap = _own(ray.get(drawn.pop(layer)).get("overlap"))
                yield assemble(layer, {name: sites[name] for name in names[layer]}, overlap)


def _names(source: Source, layer: int, design: StudyDesign) -> list[str]:
    held = Layer(layer, source.weights(layer), has_inputs=source.has_inputs(layer), design=design)
    return list(held.sites)


def _shares(names: dict[int, list[str]], n_slots: int) -> dict[int, list[list[str]]]:
    """The sites of each layer, split into as many tasks as keep every slot busy: each task forwards the text again.

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


def _calibrated(shared: tuple[RemoteSource, StudyDesign, int], layer: int) -> dict[str, np.ndarray]:
    remote, design, n_threads = _own(shared)
    with _threads(n_threads):
        return calibrate_layer(remote.open(), layer, design)


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
) -> dict[str, Any]:
    remote, design, n_threads = _own(shared)
    with _threads(n_threads):
        return measure_sites(remote.open(), layer, names, design, _own(calibrated))


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


@contextlib.contextmanager
def _cluster() -> Generator[None, None, None]:
    """The cluster this process is in, the one RAY_ADDRESS names or that runs here, or one of its own."""
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    try:
        with _own_sigterm():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _own_sigterm() -> Generator[None, None, None]:
    """Keep this process's handler: Ray's ends it with sys.exit(15), and without a word of what was kept."""
    before = signal.getsignal(signal.SIGTERM)
    came = False
    try:
        yield
    except SystemExit as stop:  # the signal came when Ray's handler was in place already
        came = stop.code == signal.SIGTERM
        if not came:
            raise
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
        if came:
            signal.raise_signal(signal.SIGTERM)


def _slots(n_threads: int, *, on_gpu: bool) -> int:
    """Tasks that run at the same time.

    Raises:
        ConfigError: none ever would; Ray itself would wait for a larger machine.
    """
    each = {"CPU": n_threads} | ({"GPU": 1} if on_gpu else {})
    n_slots = sum(
        min(int(node["Resources"].get(what, 0) // n) for what, n in each.items())
        for node in _ray().nodes()
        if node["Alive"]
    )
    if n_slots < 1:
        raise ConfigError(
            f"engine: no machine of the cluster has {n_threads} core{'s' * (n_threads > 1)}{' and a GPU' * on_gpu} for a "
            "task, so none would ever begin; set OMP_NUM_THREADS to what one machine has (the run is made of smaller "
            f"tasks){', or choose device=cpu' * on_gpu}."
        )
    return n_slots


@contextlib.contextmanager
def _as_ours() -> Generator[None, None, None]:
    """What a task raised, as if it had been raised here."""
    exceptions = importlib.import_module("ray.exceptions")
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "engine: a worker's machine ran out of memory again and again; lower max_pairs or twins, or give tasks fewer "
            "neighbours (more threads a task: OMP_NUM_THREADS)."
        ) from error
    except exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except exceptions.RayError as error:
        raise ResourceError(
            f"engine: the cluster gave a task up ({type(error).__name__}) after {RETRIES} new starts; what was finished is "
            "kept. Look at its machines, then run the same command again."
        ) from error
