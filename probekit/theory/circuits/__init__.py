"""The constructions of the papers as circuits that run, one construction a module."""

from __future__ import annotations

from probekit.theory.circuits.circuit import Circuit, DeepCircuit, Split
from probekit.theory.circuits.two_and import two_and
from probekit.theory.circuits.uand import dense_uand, gaussian_uand, sparse_uand

__all__ = [
    "Circuit",
    "DeepCircuit",
    "Split",
    "dense_uand",
    "gaussian_uand",
    "sparse_uand",
    "two_and",
]
