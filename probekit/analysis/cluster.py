"""The Ray cluster that a run joins: the one at hand or one of its own, what fits on it, and its errors as ours."""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
from collections.abc import Generator
from typing import Any

from probekit.errors import ConfigError, OutOfMemoryError, ResourceError

RETRIES = 4
"""Times a task is started again after its worker died."""
NO_RAY = "engine: 'ray' needs the package ray, which is not installed; `pip install ray` adds it, or choose 'local'."


def ray_package() -> Any:
    """The package, which is an optional extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(NO_RAY) from error


@contextlib.contextmanager
def joined_cluster() -> Generator[None, None, None]:
    """The cluster this process is in, the one RAY_ADDRESS names or that runs here, or one of its own."""
    ray = ray_package()
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


def slots(n_threads: int, *, on_gpu: bool) -> int:
    """Tasks that run at the same time.

    Raises:
        ConfigError: none ever would; Ray itself would wait for a larger machine.
    """
    each = {"CPU": n_threads} | ({"GPU": 1} if on_gpu else {})
    n_slots = sum(
        min(int(node["Resources"].get(what, 0) // n) for what, n in each.items())
        for node in ray_package().nodes()
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
def as_ours() -> Generator[None, None, None]:
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
