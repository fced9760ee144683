"""Passes that can be killed: what a group of layers has finished, and its running sums every now and then.

Each pass saves one part a layer; a later pass loads them by the identity of the stage. While a pass streams, its sums
are saved between two tiles, as often as saving costs at most SHARE of the time. A resumed pass restores the sums bit for
bit and continues with the next token, so it ends as it would have ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from probekit.storage import store
from probekit.storage.named_arrays import Arrays, below, prefixes, under
from probekit.storage.shards import STAGES, Stage, digest_of_inputs

SHARE = 0.02
"""Most of a pass's time that saving its sums may take. (Infinity saves them after every tile.)"""
BYTES_A_SECOND = 1.5e8
"""Assumed speed of the first checkpoint, digests included, before one was measured."""
PART_BYTES = 64 * 2**20
"""Arrays are gathered into parts of at least this many bytes: then flushing them to the device costs nothing."""
_AT = ".at-"


@runtime_checkable
class Resumable(Protocol):
    """Running sums that can be kept and restored bit for bit."""

    def n_bytes(self) -> int:
        """Size of what `state` returns."""
        ...

    def state(self) -> Arrays:
        """Everything that has been summed so far."""
        ...

    def restore(self, state: Arrays) -> None:
        """Go on from what `state` returned."""
        ...


class CheckpointStore:
    """Where one group of layers saves the outputs and checkpoints of its passes.

    Args:
        folder: the run directory; None saves nothing.
        inputs: digest of what the group is computed from.
        layers: all layers of the group, finished ones included.
    """

    def __init__(self, folder: Path | None = None, inputs: str = "", layers: Sequence[int] = ()) -> None:
        self.root = None if folder is None else folder / STAGES
        self.inputs = inputs
        self.prefix = f"layers-{min(layers, default=0):03d}-{max(layers, default=0):03d}"

    def open(self, name: str, *upstream: str) -> Pass:
        """One pass, computed from the group's inputs and the named stages."""
        return Pass(self.root, f"{self.prefix}.{name}", digest_of_inputs((self.inputs, name, *upstream)))

    def clear(self) -> None:
        """Remove everything the group has saved: its results stand elsewhere."""
        if self.root is not None and self.root.is_dir():
            for folder in sorted(self.root.glob(f"{self.prefix}.*")):
                store.remove_tree(folder)


def begun_window(folder: Path, layer: int, layers: Sequence[int]) -> list[int]:
    """The layers of the group that a killed run had begun with this one; none where it had not.

    Args:
        folder: the run directory.
        layer: that is to be measured.
        layers: all layers of the run.
    """
    root = folder / STAGES
    for path in sorted(root.glob("layers-*.*")) if root.is_dir() else ():
        ends = path.name.partition(".")[0].split("-")[1:]
        if len(ends) == 2 and all(end.isdigit() for end in ends) and int(ends[0]) <= layer <= int(ends[1]):
            return [one for one in layers if int(ends[0]) <= one <= int(ends[1])]
    return []


class Pass:
    """One pass of a group: the results of each finished layer, and the running sums until then."""

    def __init__(self, root: Path | None, name: str, inputs: str) -> None:
        self._root, self._name, self._inputs = root, name, inputs
        self._outputs = None if root is None else Stage(root / name, inputs)
        self._since = time.monotonic()
        self._speed = BYTES_A_SECOND

    def load(self, layer: int) -> Arrays | None:
        """The results of a layer; None if the pass has not ended for it.

        Raises:
            CorruptError: what lies there is not what was written.
            StaleError: it was computed from other inputs.
        """
        return self._outputs.get(layer) if self._outputs is not None and self._outputs.has(layer) else None

    def save(self, layer: int, arrays: Mapping[str, np.ndarray], n_tokens: int) -> None:
        """Save the results of a layer."""
        if self._outputs is not None:
            store.require_room(self._outputs.folder, _n_bytes(arrays), f"stage {self._name}")
            self._outputs.put(layer, arrays, n_tokens=n_tokens)

    def close(self) -> str:
        """End the pass for the whole group; returns the stage's identity, and removes the running sums."""
        if self._outputs is None:
            return ""
        identity = self._outputs.committed() or self._outputs.commit()
        for _, snapshot in self._snapshots():
            snapshot.remove()
        return identity

    # -------------------------------------------------------------------------- running sums

    def resume(self, sums: Mapping[str, Resumable]) -> int:
        """Restore running sums from the last checkpoint; returns the token to go on from.

        Args:
            sums: by name; names that were kept and are not among them are passed over.

        Raises:
            CorruptError: what lies there is not what was written.
            StaleError: it was computed from other inputs.
        """
        found = [(n_tokens, stage) for n_tokens, stage in self._snapshots() if stage.committed()]
        if not found:
            return 0
        n_tokens, stage = found[-1]
        for part in stage.parts():
            arrays = stage.get(part)
            for name in sorted({head for kept in arrays for head in prefixes(kept)} & sums.keys()):
                sums[name].restore(below(name, arrays))
        return n_tokens

    def maybe_save(self, sums: Mapping[str, Resumable], n_tokens: int) -> None:
        """Save the sums if that is worth its time: `n_tokens` are in them."""
        if self._root is None:
            return
        n_bytes = sum(one.n_bytes() for one in sums.values())
        now = time.monotonic()
        # a checkpoint that does not fit is skipped: the run can do without, and says so when its results do not fit
        fits = store.free_bytes(self._root) > store.ROOM * n_bytes
        if (now - self._since) * SHARE < n_bytes / self._speed or not fits:
            return
        stage = Stage(self._root / f"{self._name}{_AT}{n_tokens:012d}", self._inputs)
        for part, arrays in enumerate(_packed(sums)):
            stage.put(part, arrays, n_tokens=n_tokens)
        stage.commit()
        for kept, older in self._snapshots():
            if kept < n_tokens:
                older.remove()
        self._since = time.monotonic()
        self._speed = n_bytes / max(self._since - now, 1e-3)

    def _snapshots(self) -> list[tuple[int, Stage]]:
        """Kept sums by their number of tokens, unfinished ones included."""
        if self._root is None or not self._root.is_dir():
            return []
        head = f"{self._name}{_AT}"
        found = [path for path in self._root.glob(f"{head}*") if path.name.removeprefix(head).isdigit()]
        return sorted(
            ((int(path.name.removeprefix(head)), Stage(path, self._inputs)) for path in found),
            key=lambda pair: pair[0],
        )


def _n_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(values.nbytes for values in arrays.values())


def _packed(sums: Mapping[str, Resumable]) -> Iterator[Arrays]:
    held: Arrays = {}
    for name, one in sums.items():
        held |= under(name, one.state())
        if _n_bytes(held) >= PART_BYTES:
            yield held
            held = {}
    if held:
        yield held
