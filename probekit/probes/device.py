"""The sums and the selection on an accelerator, in torch alone.

The arithmetic is that of the processor's code (fp32 products of a tile about the shift, fp64 sums; the same greedy steps),
the order of additions within a product is the device's own, so the last bits may differ. Sums stay on the device until
somebody asks for them. TF32 is off while they are taken: it keeps three digits only.
Axes: token neuron pair concept fold segment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int

from probekit.probes.lists import TokenLists
from probekit.probes.sums import ListSums
from probekit.probes.tiles import add_gram, column_sums

COLLINEAR = 1e-5
"""As in `probekit.probes.select`, whose compiled kernel may use nothing of another file."""
BLOCK_BYTES = 2**30
"""Memory that the paths of one block of pairs may take."""


@contextlib.contextmanager
def full_precision() -> Generator[None, None, None]:
    """Products of fp32 in fp32, whatever the caller has switched on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def list_sums(
    rows: Float32[torch.Tensor, "token neuron"],
    ptr: Int[np.ndarray, " segments_and_one"],
    tokens: Int[np.ndarray, " entry"],
) -> Float32[torch.Tensor, "segment neuron"]:
    """Σ row over each list: one product with a sparse 0/1 matrix of as many rows as there are lists."""
    n_segments = len(ptr) - 1
    start, column = (torch.from_numpy(part.astype(np.int64)).to(rows.device) for part in (ptr, tokens))
    value = torch.ones(len(tokens), device=rows.device)
    with _without_beta_warning():
        # lists ascend and hold a token once: nothing to check
        matrix = torch.sparse_csr_tensor(
            start, column, value, size=(n_segments, len(rows)), check_invariants=False
        )
    return matrix @ rows


@contextlib.contextmanager
def _without_beta_warning() -> Generator[None, None, None]:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        yield


class DeviceSums:
    """What `Moments` adds up, on the device its rows are on.

    Args:
        gram: fp64 [fold neuron neuron] summed so far, upper triangles.
        total: fp64 [fold neuron].
        sums: those of the lists.
        device: where to go on.
    """

    def __init__(self, gram: np.ndarray, total: np.ndarray, sums: ListSums, device: torch.device) -> None:
        self.device = device
        self._gram, self._total = (torch.from_numpy(part).to(device, copy=True) for part in (gram, total))
        each = [sums.over(chosen) for chosen in np.eye(len(gram), dtype=bool)]
        self._sums = [torch.from_numpy(part).to(device, copy=True) for part in each]

    def add(self, shifted: Float32[torch.Tensor, "token neuron"], lists: TokenLists) -> None:
        """Add one tile about the shift, its rows in the order of the lists."""
        with full_precision():
            for f in range(lists.n_folds):
                part = shifted[lists.bounds[f] : lists.bounds[f + 1]]
                add_gram(part, self._gram[f])
                self._total[f] += column_sums(part)
                self._sums[f] += list_sums(part, *lists.of_fold(f))

    def fetch(self, gram: np.ndarray, total: np.ndarray, sums: ListSums | None = None) -> None:
        """Bring the sums over; those of the lists where they are asked for."""
        for there, here in ((self._gram, gram), (self._total, total)):
            np.copyto(here, there.cpu().numpy())
        if sums is not None:
            for f, there in enumerate(self._sums):
                sums.put(f, there.cpu().numpy())

    def over(self, folds: Bool[np.ndarray, " fold"]) -> Float64[np.ndarray, "segment neuron"]:
        """The sums of the lists over the chosen folds, added in order and brought over."""
        first, *rest = np.flatnonzero(folds)
        sums = self._sums[first].to("cpu", copy=True)
        for fold in rest:
            sums += self._sums[fold].cpu()
        return sums.numpy()


def paths_on(
    device: torch.device,
    gram: Float[np.ndarray, "neuron neuron"],
    concept_sums: Float[np.ndarray, "concept neuron"],
    pair_sums: Float[np.ndarray, "pair neuron"],
    pairs: Int[np.ndarray, "pair 2"],
    coefficients: Float[np.ndarray, "5 pair"],
    k: int,
) -> Int[np.ndarray, "pair k"]:
    """Forward selection for all pairs, a block of them at a time; the arguments are those of the compiled kernel."""
    n_neurons = len(gram)
    square = torch.from_numpy(gram).to(device, torch.float32)
    singles = torch.from_numpy(concept_sums).to(device, torch.float32)
    block = max(1, BLOCK_BYTES // (4 * n_neurons * (k + 8)))
    found: list[np.ndarray] = []
    with torch.inference_mode(), full_precision():
        for first in range(0, len(pairs), block):
            part = slice(first, first + block)
            both = torch.from_numpy(pair_sums[part]).to(device, torch.float32)
            side = torch.from_numpy(pairs[part].astype(np.int64)).to(device)
            terms = torch.from_numpy(coefficients[:, part, None].astype(np.float32)).to(device)
            found.append(_block_paths(square, singles, both, side, terms, k).cpu().numpy())
    return np.concatenate(found).astype(np.int32) if found else np.zeros((0, k), np.int32)


def _block_paths(
    gram: torch.Tensor,
    singles: torch.Tensor,
    both: torch.Tensor,
    side: torch.Tensor,
    terms: torch.Tensor,
    k: int,
) -> torch.Tensor:
    a_unit, b_unit, b_on_a, y_on_a, y_on_b = terms
    s_a, s_b = singles[side[:, 0]], singles[side[:, 1]]
    diagonal = gram.diagonal()
    chosen = torch.zeros((len(both), k + 2, gram.shape[1]), device=gram.device)
    chosen[:, 0] = s_a * a_unit
    chosen[:, 1] = (s_b - b_on_a * s_a) * b_unit
    rest = both - y_on_a * chosen[:, 0] - y_on_b * chosen[:, 1]
    variance = diagonal - chosen[:, 0] ** 2 - chosen[:, 1] ** 2
    floor = COLLINEAR * diagonal
    support = torch.full((len(both), k), -1, dtype=torch.int64, device=gram.device)
    for step in range(k):
        allowed = variance > floor
        score = torch.where(allowed, rest * rest / torch.where(allowed, variance, 1.0), 0.0)
        top, best = score.max(1)
        goes = (top > 0).unsqueeze(1)
        support[:, step] = torch.where(goes[:, 0], best, -1)
        at = best.unsqueeze(1)
        weights = chosen[:, : step + 2].gather(2, at.unsqueeze(1).expand(-1, step + 2, -1)).transpose(1, 2)
        column = gram[best] - torch.bmm(weights, chosen[:, : step + 2]).squeeze(1)
        root = torch.where(goes, variance.gather(1, at).clamp_min(1e-30).rsqrt(), 0.0)
        column = column * root
        rest = rest - rest.gather(1, at) * root * column
        variance = (variance - column * column).scatter(1, at, 0.0)
        chosen[:, step + 2] = column
    return support
