"""Threads of the compiled kernels, torch and NumPy's linear algebra, kept out of each other's way.

Torch and numba share one OpenMP runtime. When numba starts its threads it sets that runtime's count to its own, so torch
would go on with all cores, whatever its caller had asked for, and group the sums of its matrix products differently.

Some kernels call the linear algebra (OpenBLAS) inside a parallel loop. There each call must stay in its own thread: OpenBLAS
would start threads of its own and warn, once a product, that it may hang.
"""

from __future__ import annotations

import threading
from functools import cache

import numba
import torch
from threadpoolctl import ThreadpoolController


def start_workers() -> None:
    """Start numba's threads if they are not running; torch computes with as many threads as before."""
    n_threads = torch.get_num_threads()
    numba.get_num_threads()  # starts them
    if torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)


class OneBlasThread:
    """One thread for the linear algebra of NumPy and SciPy inside a `with`; afterwards as many as before.

    May be nested and entered from several Python threads at once: the first sets the number, the last gives it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._before = None

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._before = _libraries().limit(limits=1, user_api="blas")
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._before is not None:
                self._before.restore_original_limits()
                self._before = None


one_blas_thread = OneBlasThread()
"""The one of this process."""


@cache
def _libraries() -> ThreadpoolController:
    # compiled code calls the linear algebra of SciPy, which must be loaded to be found
    import scipy.linalg.cython_blas  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]

    return ThreadpoolController()
