"""One layer on its way through the three passes: its sites, and the results of each pass.

A site is a stream of activations (neurons, pre-activations, input, linearised layer, every twin). All go through the same
code, and each can be saved between two tiles and restored bit for bit. Axes: token neuron pair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from probekit.analysis.design import HalfPlan, StudyDesign
from probekit.analysis.settings import DECIDING_K, KS
from probekit.errors import NonFiniteError
from probekit.evidence.contrast import ConfirmSums, Contrast, NeuronSums
from probekit.evidence.spikein import Spikes
from probekit.evidence.spread import Spread, channel_overlap, measure_spread
from probekit.model.twins import (
    RATE_TOKENS,
    ChannelShuffle,
    InputFrame,
    IsotropicTwins,
    LinearLayer,
    PcSignTwins,
    channel_shuffle,
    concept_directions,
    linearised,
)
from probekit.model.weights import MlpWeights
from probekit.probes.interaction import interaction_directions
from probekit.probes.moments import FrozenMoments, Moments, affine_image
from probekit.probes.pairs import LabelColumns
from probekit.probes.refit import BalancedMoments, DenseReadouts, Readouts, dense_readouts
from probekit.probes.removal import SCRAMBLES, Removal, RemovedMoments, RemovedSums, TileChange
from probekit.probes.select import forward_select
from probekit.storage.named_arrays import Arrays, below, under

N_FOLDS = 3
"""Document folds that choose the strength of the dense readouts."""
N_CONTROL = 4
"""Twins of each further kind: enough for a mean and a range."""


@dataclass(frozen=True)
class Summed:
    """The results of pass A for one site."""

    frozen: FrozenMoments
    """Moments of its activations."""
    shift: Tensor
    """The fixed vector that later passes take from every row."""
    device: torch.device
    """Where supports are chosen."""


@dataclass
class Site:
    """One stream of activations of one layer."""

    ks: tuple[int, ...]
    """Sizes of its sparse readouts."""
    dense: bool = False
    """Whether it has readouts over all columns."""
    spread: bool = False
    """Whether it is measured how its readouts are spread."""
    keeps_values: bool = False
    """Whether the readouts' values are kept."""
    spiked: bool = False
    """Whether it is read for the spiked pairs alone."""
    relay: bool = False
    """Whether it is also read with relays removed."""
    moments: Moments | None = None
    shift: np.ndarray | None = None
    balanced: BalancedMoments | None = None
    dense_fit: DenseReadouts | None = None
    readouts: dict[int, Readouts] = field(default_factory=dict)
    best: Readouts | None = None
    deviations: np.ndarray | None = None
    sums: dict[int, ConfirmSums] = field(default_factory=dict)
    best_sums: ConfirmSums | None = None
    neuron_sums: NeuronSums | None = None
    reads: np.ndarray | None = None
    removed: RemovedMoments | None = None
    removed_readouts: list[Readouts] = field(default_factory=list)
    removed_sums: RemovedSums | None = None

    # -------------------------------------------------------------------------- pass A

    def open_moments(self, n_columns: int, design: StudyDesign) -> Moments:
        """The sums of pass A, made when they are first needed."""
        if self.moments is None:
            folds = N_FOLDS if self.dense else 1
            self.moments = Moments(n_columns, design.fit.labels.n_concepts, pairs=design.pairs, n_folds=folds)
        return self.moments

    def select(self, summed: Summed, design: StudyDesign, where: str) -> Arrays:
        """End pass A; returns its results.

        Args:
            summed: the moments of its activations.
            design: of its pairs.
            where: the site, for an error.

        Raises:
            NonFiniteError: activations so large that their products overflow.
        """
        frozen = summed.frozen
        if not np.isfinite(frozen.gram).all() or not np.isfinite(frozen.pair_sums).all():
            raise NonFiniteError(
                f"{where}: products of activations overflow float32 (largest column sd "
                f"{np.sqrt(np.nanmax(frozen.gram.diagonal()) / frozen.n_tokens):.3g}); wanted activations below some 1e15. "
                "Rescale them."
            )
        outputs: Arrays = {"shift": summed.shift.cpu().numpy()}
        if self.ks:
            outputs["support"] = forward_select(frozen, max(self.ks), device=summed.device)
        if self.dense:
            assert self.moments is not None
            fit = dense_readouts(self.moments)
            outputs |= {"dense/weights": fit.weights, "dense/offset": fit.offset, "dense/ridge": fit.ridge}
        self.moments = None  # the Gram matrix is the largest thing a site holds
        self.load_selected(outputs, design)
        return outputs

    def load_selected(self, outputs: Mapping[str, np.ndarray], design: StudyDesign) -> None:
        """Load the outputs of pass A."""
        self.shift = outputs["shift"]
        if self.ks:
            self.balanced = BalancedMoments(
                outputs["support"], torch.from_numpy(self.shift), design.fit.sample
            )
        if self.dense:
            self.dense_fit = DenseReadouts(
                outputs["dense/weights"], outputs["dense/offset"], outputs["dense/ridge"]
            )

    # -------------------------------------------------------------------------- pass B

    def open_removed(self, reads: np.ndarray, half: HalfPlan) -> None:
        """The sums with relays removed of passes B and C.

        Args:
            reads: [pair side k direction], how strongly the support reads along each direction.
            half: the half that is about to be read.
        """
        assert half.relay_sample is not None
        self.reads = reads
        if self.balanced is not None:
            assert self.shift is not None
            support = self._deciding(self.balanced.support)
            self.removed = RemovedMoments(support, self.shift, reads, half.relay_sample, SCRAMBLES)
        else:
            self.removed_sums = RemovedSums(self.removed_readouts, reads, half.relay_sample)

    def deciding_support(self) -> np.ndarray:
        """Neurons of the deciding readouts [pair k]."""
        held = self.readouts[DECIDING_K].neurons if self.balanced is None else self.balanced.support
        return self._deciding(held)

    @staticmethod
    def _deciding(support: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(support[:, :DECIDING_K])

    def refit(self) -> Arrays:
        """End pass B; returns its outputs beyond those of pass A."""
        if self.balanced is None:
            return {}
        outputs: Arrays = {"support": self.balanced.support}
        for k in self.ks:
            readouts = self.balanced.fit(k)
            outputs |= {f"{k}/weights": readouts.weights, f"{k}/offset": readouts.offset}
        if self.spread:
            best = self.balanced.best_neuron(DECIDING_K)
            outputs |= {
                "best/neurons": best.neurons,
                "best/weights": best.weights,
                "best/offset": best.offset,
            }
            outputs["deviations"] = self.balanced.deviations()
        if self.removed is not None:
            fitted = self.removed.fit()
            outputs["relay/weights"] = np.stack([readouts.weights for readouts in fitted])
            outputs["relay/offset"] = np.stack([readouts.offset for readouts in fitted])
        self.load_refitted(outputs)
        return outputs

    def load_refitted(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Load the outputs of pass B."""
        self.balanced = self.removed = None
        if not outputs:
            return
        for k in self.ks:
            neurons = outputs["support"][:, : min(k, outputs["support"].shape[1])]
            self.readouts[k] = Readouts(neurons, outputs[f"{k}/weights"], outputs[f"{k}/offset"])
        if self.spread:
            self.best = Readouts(outputs["best/neurons"], outputs["best/weights"], outputs["best/offset"])
            self.deviations = outputs["deviations"]
        if "relay/weights" in outputs:
            support = self.deciding_support()
            scrambles = zip(outputs["relay/weights"], outputs["relay/offset"], strict=True)
            self.removed_readouts = [Readouts(support, weights, offset) for weights, offset in scrambles]

    # -------------------------------------------------------------------------- pass C

    def open_sums(self, design: StudyDesign) -> None:
        """The sums of pass C."""
        for k, readouts in self.readouts.items():
            self.sums[k] = ConfirmSums(design.confirm_plan, readouts, keeps_values=self.keeps_values)
        if self.best is not None:
            self.best_sums = ConfirmSums(design.confirm_plan, self.best, keeps_values=False)
            self.neuron_sums = NeuronSums(design.confirm_plan, self.readouts[DECIDING_K].neurons)
        if self.dense_fit is not None:
            self.sums[0] = ConfirmSums(design.confirm_plan, self.dense_fit, keeps_values=self.keeps_values)

    def add_confirm(
        self, columns: np.ndarray, start: int, low: np.ndarray, high: np.ndarray, scratch: np.ndarray
    ) -> None:
        """Add one tile of the confirm half."""
        for sums in self.sums.values():
            sums.add_tile(columns, start, low, high, scratch)
        if self.best_sums is not None:
            self.best_sums.add_tile(columns, start, low, high, scratch)
        if self.neuron_sums is not None:
            self.neuron_sums.add_tile(columns, start, low, high)

    def contrasts(self) -> dict[int, Contrast]:
        """The readouts on the confirm half by size, the deciding one with its d′ with relays removed beside it."""
        found = {k: sums.finalize() for k, sums in self.sums.items()}
        if self.removed_sums is not None:
            found[DECIDING_K] = replace(found[DECIDING_K], d_relay=self.removed_sums.d_prime())
        return found

    def measured_spread(self) -> tuple[Spread, Contrast]:
        """How the deciding readouts are spread, and the best single neurons."""
        assert self.best_sums is not None
        assert self.neuron_sums is not None
        assert self.deviations is not None
        best = self.best_sums.finalize()
        readouts = self.readouts[DECIDING_K]
        deviations = self.deviations[:, : readouts.neurons.shape[1]]
        contrast = self.sums[DECIDING_K].finalize()
        return measure_spread(readouts, self.neuron_sums, deviations, contrast, best), best

    # -------------------------------------------------------------------------- between two tiles

    def _streams(
        self,
    ) -> dict[str, Moments | BalancedMoments | ConfirmSums | NeuronSums | RemovedMoments | RemovedSums]:
        held = {
            "moments": self.moments, "balanced": self.balanced, "best": self.best_sums, "neurons": self.neuron_sums,
            "removed": self.removed, "removed_sums": self.removed_sums,
            **{f"sums{k}": sums for k, sums in self.sums.items()},
        }  # fmt: skip
        return {name: stream for name, stream in held.items() if stream is not None}

    def state(self) -> Arrays:
        """Every sum that is being added to, as it stands."""
        return {
            k: v for name, stream in self._streams().items() for k, v in under(name, stream.state()).items()
        }

    def n_bytes(self) -> int:
        """Bytes of `state`; sums on an accelerator stay there."""
        return sum(
            stream.n_bytes if isinstance(stream, Moments) else sum(v.nbytes for v in stream.state().values())
            for stream in self._streams().values()
        )

    def restore(self, state: Mapping[str, np.ndarray], design: StudyDesign) -> None:
        """Go on from a state kept earlier."""
        kept = below("moments", state)
        if kept:
            self.open_moments(kept["gram"].shape[1], design)
        for name, stream in self._streams().items():
            stream.restore(below(name, state))


@dataclass(frozen=True)
class SiteSums:
    """The running sums of one site, as they are kept and restored between two tiles."""

    site: Site
    """The site."""
    design: StudyDesign
    """The plan of its layer."""

    def n_bytes(self) -> int:
        """Size of its sums."""
        return self.site.n_bytes()

    def state(self) -> Arrays:
        """What it has summed so far."""
        return self.site.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from sums that were kept."""
        self.site.restore(state, self.design.spiked if self.site.spiked else self.design)


class Layer:
    """The sites of one layer and how their activations follow from its inputs and neurons.

    Args:
        layer: its index.
        weights: the weights that act at its neurons, if known.
        has_inputs: whether its inputs are delivered.
        design: what is measured.
        only: names of the sites to go through, and with them those whose sums they are made of; None takes all.
    """

    def __init__(
        self,
        layer: int,
        weights: MlpWeights | None,
        *,
        has_inputs: bool,
        design: StudyDesign,
        only: Collection[str] | None = None,
    ) -> None:
        self.layer = layer
        self.weights = weights
        self.design = design
        self.pc_twins: PcSignTwins | None = None
        self.isotropic: IsotropicTwins | None = None
        self.shuffled: dict[str, ChannelShuffle] = {}
        self.spikes: Spikes | None = None
        self.overlap: np.ndarray | None = None
        self.linear: LinearLayer | None = None
        self.removals: tuple[Removal, ...] = ()
        sites = _sites(weights, design, has_inputs=has_inputs)
        if only is not None:
            only = {*only, *(made_of(name) for name in only)}
        self.sites = {name: site for name, site in sites.items() if only is None or name in only}

    def calibrate(self, sample: Tensor | None) -> Arrays:
        """Draw the twins and spikes on the first inputs of the fit half; returns all that makes them."""
        outputs: Arrays = {}
        if sample is None or self.weights is None:
            return outputs
        weights, design = self.weights, self.design
        if "linear" in self.sites:
            line = linearised(weights, sample)
            outputs |= {"linear/weight": _as_numpy(line.weight), "linear/bias": _as_numpy(line.bias)}
        if design.settings.twins:
            frame = InputFrame.of(sample)
            rng = np.random.default_rng([design.settings.seed, self.layer, 1])
            twins = PcSignTwins.draw(weights, frame, design.settings.twins, rng)
            outputs |= {"frame/mean": _as_numpy(frame.mean), "frame/directions": _as_numpy(frame.directions)}
            outputs |= {"frame/variance": _as_numpy(frame.variance), "signs": _as_numpy(twins.signs)}
            if design.fit.relay_sample is not None:
                rng = np.random.default_rng([design.settings.seed, self.layer, 5])
                rotated = (sample - frame.mean) @ frame.directions
                outputs["relay/directions"] = interaction_directions(rotated, design.fit.relay_sample, rng)
                signs = PcSignTwins.draw(weights, frame, SCRAMBLES, rng).signs
                outputs["relay/signs"] = _as_numpy(signs)
        n_isotropic = len(self._indices("isotropic"))
        if n_isotropic:
            rng = np.random.default_rng([design.settings.seed, self.layer, 2])
            drawn = IsotropicTwins.draw(weights, sample, n_isotropic, rng)
            held = {"rows": drawn.rows, "signs": drawn.signs, "bias": drawn.bias}
            outputs |= under("isotropic", {name: _as_numpy(tensor) for name, tensor in held.items()})
        directions = concept_directions(sample, self._dense_labels(design.fit.labels.between(0, len(sample))))
        # the gate decides what a gated neuron reads
        reads = directions @ weights.weight[: weights.n_neurons].T
        outputs["overlap"] = channel_overlap(_as_numpy(reads).astype(float), design.pairs)
        for r in self._indices("shuffle"):
            rng = np.random.default_rng([design.settings.seed, self.layer, 3, r])
            outputs[f"shuffle:{r}/moves"] = _as_numpy(channel_shuffle(weights, directions, rng).moves)
        if any(site.spiked for site in self.sites.values()):
            unit = _as_numpy(weights.neurons(sample[:RATE_TOKENS]).std(0))
            rng = np.random.default_rng([design.settings.seed, self.layer, 4])
            outputs["spikes/pattern"] = Spikes.draw(design.spiked.pairs, unit, rng).pattern
        self.load_calibrated(outputs)
        return outputs

    def _dense_labels(self, labels: LabelColumns) -> Tensor:
        assert self.weights is not None
        return _tensor(labels.dense()).to(self.weights.device)

    def load_calibrated(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Load twins drawn earlier: on another processor their frame might come out differently."""
        weights = self.weights
        if weights is None:
            return

        def there(name: str) -> Tensor:
            return _tensor(outputs[name]).to(weights.device)

        self.overlap = outputs.get("overlap")
        if "linear/weight" in outputs:
            self.linear = LinearLayer(there("linear/weight"), there("linear/bias"))
        if "signs" in outputs:
            frame = InputFrame(there("frame/mean"), there("frame/directions"), there("frame/variance"))
            self.pc_twins = PcSignTwins(weights, frame, there("signs"))
        if "relay/directions" in outputs:
            removal = Removal(np.array(outputs["relay/directions"]), np.array(outputs["relay/signs"]))
            self.removals = (removal, removal.take(self.design.spiked_at))
        if "spikes/pattern" in outputs:
            self.spikes = Spikes(self.design.spiked.pairs, outputs["spikes/pattern"])
        if "isotropic/rows" in outputs:
            drawn = (there(f"isotropic/{name}") for name in ("rows", "signs", "bias"))
            self.isotropic = IsotropicTwins(weights, *drawn)
        for name in self.sites:
            if name.startswith("shuffle:"):
                self.shuffled[name] = ChannelShuffle(weights, there(f"{name}/moves"))

    def open_removed(self, half: HalfPlan) -> None:
        """Open the sums with relays removed, for the half that is about to be read."""
        if not self.removals:
            return
        assert self.weights is not None
        assert self.pc_twins is not None
        weight = np.ascontiguousarray(_as_numpy(self.weights.weight @ self.pc_twins.frame.directions))
        signs = _as_numpy(self.pc_twins.signs)
        for name, site in self.sites.items():
            if not site.relay:
                continue
            kind, _, index = name.partition(":")
            sign = signs[int(index)] if kind == "twin" else np.ones_like(signs[0])
            part = half.of_pairs(self.design.spiked_at) if site.spiked else half
            support = site.deciding_support()
            reads = self.removals[site.spiked].reads(weight, sign, support, 1 + self.weights.gated)
            site.open_removed(reads, part)

    def changes(self, inputs: Tensor | None, start: int, half: HalfPlan) -> tuple[TileChange, ...]:
        """What the scrambled inputs change on one tile, for the tested pairs and for the spiked ones."""
        if not self.removals or inputs is None:
            return ()
        assert self.pc_twins is not None
        assert half.relay_sample is not None
        frame, stop = self.pc_twins.frame, start + len(inputs)
        rotated = np.ascontiguousarray(_as_numpy(((inputs - frame.mean) @ frame.directions).float()))
        change = self.removals[0].change(rotated, start, stop, half.relay_sample)
        if not any(site.spiked for site in self.sites.values()):
            return (change,)
        spiked = half.of_pairs(self.design.spiked_at).relay_sample
        assert spiked is not None
        return change, self.removals[1].change(rotated, start, stop, spiked)

    def rows(
        self, inputs: Tensor | None, neurons: Tensor, labels: LabelColumns
    ) -> Iterator[tuple[str, Tensor]]:
        """Activations [token, neuron] of one tile, site by site: those whose sums pass A takes (see `made_of`).

        Args:
            inputs: MLP inputs of the tile, where they are known.
            neurons: its neurons.
            labels: labels of its tokens.
        """
        if "neurons" in self.sites:
            yield "neurons", neurons
        if inputs is None:
            return
        if "input" in self.sites:
            yield "input", inputs
        twins, isotropic = self._indices("twin"), self._indices("isotropic")
        if self.pc_twins is not None and twins:
            for r, rows in zip(twins, self.pc_twins.neurons(inputs, twins), strict=True):
                yield f"twin:{r}", rows
        if self.isotropic is not None and isotropic:
            for r, rows in zip(isotropic, self.isotropic.neurons(inputs, isotropic), strict=True):
                yield f"isotropic:{r}", rows
        if self.shuffled:
            held = self._dense_labels(labels)
            for name, twin in self.shuffled.items():
                yield name, twin.neurons(inputs, held)

    def summed(self) -> Iterator[tuple[str, Summed]]:
        """The results of pass A for every site; for `made_of` sites without having seen their activations."""
        found: dict[str, Summed] = {}
        for name, site in self.sites.items():
            if site.moments is None:
                yield name, self._image(name, found[made_of(name)])
                continue
            summed = Summed(site.moments.finalize(), site.moments.shift, site.moments.device)
            if name in map(made_of, self.sites):
                found[name] = summed
            yield name, summed

    def _image(self, name: str, source: Summed) -> Summed:
        kind, _, of = name.partition(":")
        if kind == "spike":
            assert self.spikes is not None
            at, together = self.design.spiked_at, self.design.spiked_together
            frozen = self.spikes.moments(source.frozen, at, together, float(of))
            return replace(source, frozen=frozen)
        assert self.weights is not None
        line = self.linear if kind == "linear" else LinearLayer(self.weights.weight, self.weights.bias)
        assert line is not None
        shift = line.neurons(source.shift.to(line.weight.device).unsqueeze(0))[0]
        return replace(source, frozen=affine_image(source.frozen, line.weight, line.bias), shift=shift)

    def columns(
        self, inputs: Tensor | None, neurons: Tensor, labels: LabelColumns, *, dense: bool
    ) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """Activations [neuron, token] of one tile, site by site, with the pre-activations where relays are removed.

        Readouts gather few neurons: each neuron's tokens lie side by side.

        Args:
            inputs: MLP inputs of the tile, where they are known.
            neurons: its neurons.
            labels: labels of its tokens.
            dense: whether sites that have only readouts over all columns go along.
        """
        pre = self._pre_of(inputs)
        own = neurons.T
        if "neurons" in self.sites:
            own = own.contiguous()
            yield "neurons", own, pre
        if inputs is None:
            return
        if dense and "input" in self.sites:
            yield "input", inputs.T.contiguous(), None
        if "pre" in self.sites:
            assert pre is not None
            yield "pre", pre, None
        if self.linear is not None and "linear" in self.sites:
            yield "linear", self.linear.columns(inputs), None
        yield from self._columns_of_twins(inputs)
        yield from self._columns_with_labels(inputs, own, pre, labels)

    def _pre_of(self, inputs: Tensor | None) -> Tensor | None:
        """Pre-activations of a tile, where they are a site or relays are removed from one."""
        if self.weights is None or inputs is None:
            return None
        own = any(site.relay for name, site in self.sites.items() if not name.startswith("twin:"))
        return self.weights.pre_columns(inputs) if "pre" in self.sites or (self.removals and own) else None

    def _columns_of_twins(self, inputs: Tensor) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """The twins that need no labels."""
        twins, isotropic = self._indices("twin"), self._indices("isotropic")
        if self.pc_twins is not None and twins:
            found = self.pc_twins.columns(inputs, twins, with_pre=bool(self.removals))
            for r, (pre, columns) in zip(twins, found, strict=True):
                yield f"twin:{r}", columns, pre
        if self.isotropic is not None and isotropic:
            for r, columns in zip(isotropic, self.isotropic.columns(inputs, isotropic), strict=True):
                yield f"isotropic:{r}", columns, None

    def _columns_with_labels(
        self, inputs: Tensor, own: Tensor, pre: Tensor | None, labels: LabelColumns
    ) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """Shuffled twins, and the layer with ANDs added to measure the sensitivity."""
        spiked = [float(name.partition(":")[2]) for name, site in self.sites.items() if site.spiked]
        if not self.shuffled and not spiked:
            return
        held = self._dense_labels(labels)
        for name, twin in self.shuffled.items():
            yield name, twin.columns(inputs, held), None
        if self.spikes is not None and spiked:
            a, b = torch.from_numpy(self.spikes.pairs.T.astype(np.int64)).to(held.device)
            pattern = _tensor(self.spikes.pattern).to(held.device)
            added = pattern.T @ (held[:, a] * held[:, b]).T
            for amplitude in spiked:
                yield f"spike:{amplitude:g}", own + amplitude * added, pre

    def _indices(self, kind: str) -> list[int]:
        """Which twins of a kind are sites."""
        found = (name.partition(":") for name in self.sites)
        return [int(index) for of, _, index in found if of == kind]

    def sums(self) -> dict[str, SiteSums]:
        """The running sums of every site, named LAYER/SITE."""
        return {f"{self.layer}/{name}": SiteSums(site, self.design) for name, site in self.sites.items()}


def _sites(weights: MlpWeights | None, design: StudyDesign, *, has_inputs: bool) -> dict[str, Site]:
    """All sites of a layer, in their order."""
    relay = (
        has_inputs
        and weights is not None
        and design.settings.twins > 0
        and design.fit.relay_sample is not None
    )
    sites: dict[str, Site] = {"neurons": Site(KS, dense=True, spread=True, keeps_values=True, relay=relay)}
    if has_inputs:
        sites["input"] = Site((), dense=True)
    if weights is None or not has_inputs:
        return sites
    sites["pre"] = Site((DECIDING_K,))
    if weights.gated:
        # in a plain layer the linearised neurons are the pre-activations up to scale: the same sparse readouts
        sites["linear"] = Site((DECIDING_K,))
    sparse = tuple(sorted({k for k in design.settings.twin_ks if k} | {DECIDING_K}))
    for r in range(design.settings.twins):
        sites[f"twin:{r}"] = Site(sparse, dense=0 in design.settings.twin_ks, spread=True, relay=relay)
    for kind in design.settings.controls:
        for r in range(min(N_CONTROL, design.settings.twins)):
            sites[f"{kind}:{r}"] = Site((DECIDING_K,))
    if design.settings.twins and len(design.spiked_at):
        for amplitude in design.settings.spikes:
            sites[f"spike:{amplitude:g}"] = Site((DECIDING_K,), spiked=True, relay=relay)
    return sites


def made_of(name: str) -> str:
    """The site whose moments give those of another one; the site itself where pass A has to see its activations.

    Pre-activations and the linearised layer are affine in the input, spikes are added to the neurons.

    Args:
        name: of the site.
    """
    kind = name.partition(":")[0]
    return {"pre": "input", "linear": "input", "spike": "neurons"}.get(kind, name)


def _tensor(values: np.ndarray) -> Tensor:
    """Copy into memory that torch has aligned: the rounding of BLAS depends on alignment."""
    return torch.from_numpy(np.array(values, order="C")).clone()


def _as_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
