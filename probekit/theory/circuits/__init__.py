"""The constructions of the papers as circuits that run, one construction a module; `factor` reads one off a matrix."""

from __future__ import annotations

from probekit.theory.circuits.boolean import boolean_circuit, random_gates
from probekit.theory.circuits.circuit import Circuit, DeepCircuit, Split
from probekit.theory.circuits.correction import correction
from probekit.theory.circuits.factor import Factored, factor
from probekit.theory.circuits.net import net_and
from probekit.theory.circuits.permutation import permutation
from probekit.theory.circuits.two_and import targeted_and, two_and
from probekit.theory.circuits.uand import dense_uand, gaussian_uand, sparse_uand

__all__ = [
    "Circuit",
    "DeepCircuit",
    "Factored",
    "Split",
    "boolean_circuit",
    "correction",
    "dense_uand",
    "factor",
    "gaussian_uand",
    "net_and",
    "permutation",
    "random_gates",
    "sparse_uand",
    "targeted_and",
    "two_and",
]


def __dir__() -> list[str]:
    """The constructions, and not the modules they live in."""
    return list(__all__)
