"""probekit: how many AND-like features does each MLP layer of a transformer compute in superposition?

    import probekit as pk
    run = pk.analyze("gpt2")      # or a folder, "nano" (bundled), or a TransformerBridge
    run.layers                    # one row a layer: the ladder of counts beside its random twins
    run.report("gpt2.html")

Names are loaded when they are first used: importing torch takes seconds, importing probekit must not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from probekit.version import VERSION

if TYPE_CHECKING:
    from probekit.analysis.api import analyze as analyze
    from probekit.analysis.api import analyze_arrays as analyze_arrays
    from probekit.analysis.estimate import Estimate as Estimate
    from probekit.analysis.estimate import estimate as estimate
    from probekit.analysis.experts import ExpertLayer as ExpertLayer
    from probekit.analysis.experts import experts as experts
    from probekit.errors import ProbekitError as ProbekitError
    from probekit.followups.audit import Audit as Audit
    from probekit.followups.audit import audit as audit
    from probekit.followups.benchmark import Benchmark as Benchmark
    from probekit.followups.benchmark import benchmark as benchmark
    from probekit.followups.causal import causal as causal
    from probekit.followups.compare import compare as compare
    from probekit.followups.compression import CompressionCurve as CompressionCurve
    from probekit.followups.compression import compression_curve as compression_curve
    from probekit.followups.concepts import list_concepts as list_concepts
    from probekit.followups.difference import difference as difference
    from probekit.followups.null_comparison import against_nulls as against_nulls
    from probekit.followups.word_grid import WordGrid as WordGrid
    from probekit.followups.word_grid import word_grid as word_grid
    from probekit.followups.writes import Writes as Writes
    from probekit.followups.writes import writes as writes
    from probekit.model.latents import latents as latents
    from probekit.model.planted import Planted as Planted
    from probekit.model.planted import plant as plant
    from probekit.probes.estimator import SparseProbe as SparseProbe
    from probekit.probes.moments import Moments as Moments
    from probekit.probes.select import select_readouts as select_readouts
    from probekit.results.listing import runs as runs
    from probekit.results.run import Run as Run
    from probekit.results.run import load as load
    from probekit.text.concepts.concepts import Concepts as Concepts
    from probekit.text.corpus import Corpus as Corpus
    from probekit.theory import bounds as bounds
    from probekit.theory import circuits as circuits
    from probekit.theory.channels.decode import channels as channels
    from probekit.theory.worlds import World as World
    from probekit.theory.worlds import worlds as worlds

__version__ = VERSION

_HOME = {
    "Audit": "probekit.followups.audit",
    "Benchmark": "probekit.followups.benchmark",
    "CompressionCurve": "probekit.followups.compression",
    "Concepts": "probekit.text.concepts.concepts",
    "Corpus": "probekit.text.corpus",
    "Estimate": "probekit.analysis.estimate",
    "ExpertLayer": "probekit.analysis.experts",
    "Moments": "probekit.probes.moments",
    "Planted": "probekit.model.planted",
    "ProbekitError": "probekit.errors",
    "Run": "probekit.results.run",
    "SparseProbe": "probekit.probes.estimator",
    "World": "probekit.theory.worlds",
    "WordGrid": "probekit.followups.word_grid",
    "Writes": "probekit.followups.writes",
    "against_nulls": "probekit.followups.null_comparison",
    "analyze": "probekit.analysis.api",
    "analyze_arrays": "probekit.analysis.api",
    "audit": "probekit.followups.audit",
    "benchmark": "probekit.followups.benchmark",
    "causal": "probekit.followups.causal",
    "channels": "probekit.theory.channels.decode",
    "difference": "probekit.followups.difference",
    "estimate": "probekit.analysis.estimate",
    "experts": "probekit.analysis.experts",
    "latents": "probekit.model.latents",
    "list_concepts": "probekit.followups.concepts",
    "compare": "probekit.followups.compare",
    "compression_curve": "probekit.followups.compression",
    "load": "probekit.results.run",
    "plant": "probekit.model.planted",
    "runs": "probekit.results.listing",
    "select_readouts": "probekit.probes.select",
    "word_grid": "probekit.followups.word_grid",
    "worlds": "probekit.theory.worlds",
    "writes": "probekit.followups.writes",
}
_MODULES = {"bounds": "probekit.theory.bounds", "circuits": "probekit.theory.circuits"}

__all__ = [*sorted((*_HOME, *_MODULES))]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:  # to a checker every name would exist

    def __getattr__(name: str) -> Any:
        """Load a public name from its home on first use."""
        if name in _MODULES:
            return import_module(_MODULES[name])
        if name in _HOME:
            return getattr(import_module(_HOME[name]), name)
        raise AttributeError(f"module 'probekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
