"""Every one-layer construction by name, with the few sizes they have in common: what a command line needs.

The builders themselves take more; see `probekit.theory.circuits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from probekit.errors import InputError
from probekit.theory.checks import Number, as_count
from probekit.theory.circuits.circuit import Circuit
from probekit.theory.circuits.correction import correction
from probekit.theory.circuits.permutation import permutation
from probekit.theory.circuits.two_and import targeted_and, two_and
from probekit.theory.circuits.uand import dense_uand, gaussian_uand, sparse_uand


@dataclass(frozen=True)
class Construction:
    """One entry of the catalogue."""

    summary: str
    """What it computes and how, in a line."""
    source: str
    """Where it comes from."""
    universal: bool
    """Whether every pair can be read; a targeted one computes chosen pairs."""
    superposed_only: bool
    """Whether it is defined on superposed inputs only."""
    build: Callable[[dict[str, Any]], Circuit]
    """From the common sizes to the circuit."""


_AS = "Adler & Shavit, arXiv 2409.15318"
_HMVC = "Hänni, Mendel, Vaintrob & Chan, arXiv 2408.05451"
_LEARNED = "two-valued sign layer, the form that training finds, arXiv 2507.09816"


def _case(case: str) -> Callable[[dict[str, Any]], Circuit]:
    def build(sizes: dict[str, Any]) -> Circuit:
        n_pairs, n_concepts = sizes["pairs"], sizes["n_concepts"]
        # two pairs a concept where they fit (the low case), otherwise as many as the pairs ask for
        influence = max(2, -(-2 * n_pairs // n_concepts))
        return two_and(**sizes, influence=influence, case=case)  # pyright: ignore[reportArgumentType]

    return build


def _without_pairs(builder: Callable[..., Circuit], **fixed: Any) -> Callable[[dict[str, Any]], Circuit]:
    return lambda sizes: builder(**{key: value for key, value in sizes.items() if key != "pairs"}, **fixed)


def _linear_permutation(sizes: dict[str, Any]) -> Circuit:
    kept = {key: value for key, value in sizes.items() if key not in ("pairs", "n_neurons")}
    return permutation(**kept)


def _targeted(sizes: dict[str, Any]) -> Circuit:
    influence = max(2, -(-2 * sizes["pairs"] // sizes["n_concepts"]))
    return targeted_and(**sizes, influence=influence)


CONSTRUCTIONS: dict[str, Construction] = {
    "sparse-uand": Construction(
        "every AND: Bernoulli weights, bias −1, read where both concepts are seen", _HMVC, True, False,
        lambda sizes: sparse_uand(**sizes),
    ),
    "dense-uand": Construction(
        "every AND: weights +1 or −2, read by the signs of the two weights", _LEARNED, True, False,
        lambda sizes: dense_uand(**sizes),
    ),
    "gaussian-uand": Construction(
        "every AND: a random Gaussian layer, read by weight products", "Stein's lemma", True, False,
        lambda sizes: gaussian_uand(**sizes),
    ),
    "two-and-low": Construction(
        "chosen ANDs of low influence: a channel of neurons for each pair", _AS, False, False, _case("low")
    ),
    "two-and-high": Construction(
        "chosen ANDs of high influence: a channel for each concept", _AS, False, False, _case("high")
    ),
    "two-and-mixed": Construction(
        "chosen ANDs of a heavy and a light concept: nested channels", _AS, False, False, _case("mixed")
    ),
    "two-and-general": Construction(
        "chosen ANDs of any influence: three blocks of neurons", _AS, False, False, _case("general")
    ),
    "targeted-and": Construction(
        "chosen ANDs of a sparse graph on superposed inputs", _HMVC, False, True, _targeted
    ),
    "permutation": Construction(
        "concepts in another order, by a linear map", _AS, False, True, _linear_permutation
    ),
    "permutation-clean": Construction(
        "concepts in another order, cleaned by ramp units", _AS, False, True,
        _without_pairs(permutation, clean_up=True),
    ),
    "correction": Construction(
        "every concept cleaned by ramp units; helps only at sizes far above 2,048", _HMVC, False, False,
        _without_pairs(correction),
    ),
}  # fmt: skip
"""Name → construction, in the order of the theory."""


def build(
    name: str,
    *,
    n_neurons: Number,
    n_concepts: Number,
    n_active: Number = 3,
    pairs: Number | None = None,
    d_model: Number | None = None,
    seed: int,
) -> Circuit:
    """The named construction at the given sizes.

    Args:
        name: a key of `CONSTRUCTIONS`.
        n_neurons: n. A linear permutation has `d_model` of them instead.
        n_concepts: m.
        n_active: s, concepts on in one input.
        pairs: m'; by default as many as concepts for targeted circuits, all for universal ones (20,000 at
            most).
        d_model: None for basis-aligned inputs; constructions defined on superposed inputs take n instead.
        seed: of everything drawn.

    Raises:
        InputError: an unknown name or a size out of range.
    """
    if name not in CONSTRUCTIONS:
        raise InputError(f"construction: got {name!r}, wanted one of {', '.join(CONSTRUCTIONS)}.")
    found = CONSTRUCTIONS[name]
    concepts = as_count("n_concepts", n_concepts, at_least=2)
    wanted = pairs
    if wanted is None and not found.universal:
        wanted = min(concepts, concepts * (concepts - 1) // 2)
    width = n_neurons if d_model is None and found.superposed_only else d_model
    sizes = {"n_neurons": n_neurons, "n_concepts": concepts, "n_active": n_active, "pairs": wanted}
    return found.build(sizes | {"d_model": width, "seed": seed})
