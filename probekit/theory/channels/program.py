"""The Boolean program that decoded channels make, and how far the layer does what the program says.

A clause is a gate of two concepts on a set of neurons. Run by itself a program is pure logic; run against the
layer, each clause is read as the mean over its neurons on the same inputs and compared with the logic. Axes: batch,
concept, clause, neuron.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from probekit.theory.channels.layer import LayerArrays, as_concepts

if TYPE_CHECKING:
    import pandas as pd

_LOGIC = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "a andnot b": lambda a, b: a & ~b,
}
_SPELT = {"and": "{a} ∧ {b}", "or": "{a} ∨ {b}", "a andnot b": "{a} ∧ ¬{b}"}


@dataclass(frozen=True)
class Clause:
    """One gate of two concepts, computed on a set of neurons."""

    a: int
    """The first concept."""
    b: int
    """The second concept."""
    gate: str
    """and, or, a andnot b."""
    neurons: list[int]
    """The set it is computed on."""
    name_a: str
    """Name of the first concept."""
    name_b: str
    """Name of the second concept."""
    p: float
    """p-value of the set."""
    q: float
    """Its Benjamini–Hochberg value over all tests."""
    out: int = -1
    """The output that the set writes to; −1 where outputs are not known."""
    out_sign: int = 0
    """+1 or −1 as it raises or lowers that output; 0 where no output stands out."""

    def __str__(self) -> str:
        """The clause as logic, with the output it raises or lowers."""
        told = _SPELT[self.gate].format(a=self.name_a, b=self.name_b)
        return told if not self.out_sign else f"{'' if self.out_sign > 0 else '¬'}out {self.out} ← {told}"


@dataclass(frozen=True, eq=False)
class Program:
    """Clauses decoded from one layer."""

    clauses: tuple[Clause, ...]
    """The clauses, smallest p first."""
    layer: LayerArrays
    """The layer that was read."""
    directions: Float[np.ndarray, "input concept"]
    """Directions of the concepts."""
    mean: Float[np.ndarray, " input"]
    """Mean input, to which the directions are added."""

    def __len__(self) -> int:
        """How many clauses."""
        return len(self.clauses)

    def __str__(self) -> str:
        """One clause a line."""
        return "\n".join(str(clause) for clause in self.clauses)

    def run(self, concepts: Any) -> Bool[np.ndarray, "batch clause"]:
        """Every clause on every input, by logic alone.

        Args:
            concepts: bool[batch, concept].

        Raises:
            ShapeError: no matrix of truth values with a column a concept.
        """
        on = as_concepts(concepts, self.directions.shape[1])
        values = [_LOGIC[clause.gate](on[:, clause.a], on[:, clause.b]) for clause in self.clauses]
        return np.column_stack(values) if values else np.zeros((len(on), 0), dtype=np.bool_)

    def reads(self, concepts: Any) -> Float[np.ndarray, "batch clause"]:
        """Every clause as the layer computes it: the mean over its neurons, on the sum of the directions that are on.

        In a gated layer neurons count with the sign that they have when the clause holds.
        """
        on = as_concepts(concepts, self.directions.shape[1])
        neurons = self.layer.neurons(on.astype(np.float64) @ self.directions.T + self.mean)
        truth = self.run(concepts)
        values = np.zeros(truth.shape)
        for k, clause in enumerate(self.clauses):
            mine = neurons[:, clause.neurons]
            if self.layer.w_gate is not None:
                held = truth[:, k]
                signs = np.sign(mine[held].mean(axis=0)) if held.any() else np.ones(mine.shape[1])
                mine = mine * np.where(signs == 0, 1.0, signs)
            values[:, k] = mine.mean(axis=1)
        return values

    def against(self, concepts: Any) -> pd.DataFrame:
        """The layer beside the program, clause by clause.

        The layer's answer is its reading against the threshold halfway between the mean readings of the clause's
        true and false inputs; `wrong_true` and `wrong_false` are the shares that come out differently, NaN where the
        batch has no such input.
        """
        import pandas as pd

        truth, reads = self.run(concepts), self.reads(concepts)
        rows: list[dict[str, Any]] = []
        for k, clause in enumerate(self.clauses):
            held, read = truth[:, k], reads[:, k]
            row: dict[str, Any] = {
                "clause": str(clause),
                "n_true": int(held.sum()),
                "n_false": int((~held).sum()),
            }
            both = held.any() and not held.all()
            middle = (read[held].mean() + read[~held].mean()) / 2 if both else float("nan")
            row["mean_true"] = float(read[held].mean()) if held.any() else float("nan")
            row["mean_false"] = float(read[~held].mean()) if not held.all() else float("nan")
            row["wrong_true"] = float((read[held] <= middle).mean()) if both else float("nan")
            row["wrong_false"] = float((read[~held] > middle).mean()) if both else float("nan")
            rows.append(row)
        columns = ["clause", "n_true", "n_false", "mean_true", "mean_false", "wrong_true", "wrong_false"]
        return pd.DataFrame(rows, columns=columns)
