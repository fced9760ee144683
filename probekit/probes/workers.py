"""Starts the threads of the compiled kernels without touching the number that torch computes with.

Both libraries share one OpenMP runtime. When numba starts its threads it sets that runtime's count to its own, so torch
would go on with all cores, whatever its caller had asked for, and group the sums of its matrix products differently.
"""

from __future__ import annotations

import numba
import torch


def start_workers() -> None:
    """Start numba's threads if they are not running; torch computes with as many threads as before."""
    n_threads = torch.get_num_threads()
    numba.get_num_threads()  # starts them
    if torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)
