"""The schema of summary.json, which is `run.summary`: the one owner of its keys and their types.

What was not measured is None, never 0. What the numbers of a layer mean: `evidence/columns.py`.
"""

from typing import Any, Literal, NotRequired, TypedDict

SCHEMA = "probekit.summary/2"

RungKey = Literal[
    "n_tested", "n_significant_raw", "n_represented", "n_beyond_linear", "n_above_plain", "n_relayed", "n_above_twins",
    "n_computed", "n_superposed",
]  # fmt: skip
"""Keys of a layer's row that the report draws as rungs of its ladder."""


class RungCounts(TypedDict):
    """Pairs on every rung, of a layer or of one kind of pair; None where the rung was not measured."""

    n_significant_raw: int
    n_represented: int
    n_beyond_linear: int | None
    n_above_plain: int | None
    n_relayed: int | None
    n_above_twins: int | None
    n_computed: int | None
    n_distributed: int | None
    n_superposed: int | None


class TwinRange(TypedDict):
    """A count in the twins put in the layer's place."""

    mean: float
    low: float
    high: float


class Tail(TypedDict):
    """Share of the pairs with p ≤ t and with p ≥ 1 − t, beside the twins' means."""

    t: float
    low: float
    high: float
    twin_low_mean: float
    twin_high_mean: float


class GroupMean(TypedDict):
    """Mean standardised z of one kind of pair, and the 95 % prediction interval of one more twin."""

    kind: str
    n_tested: int
    mean_z: float
    twin_low: float
    twin_high: float


class Group(RungCounts):
    """One kind of pair: its mean z as in `GroupMean`, None where no twin ran, and its counts."""

    kind: str
    n_tested: int
    mean_z: float | None
    twin_low: float | None
    twin_high: float | None
    n_at_least: int | None
    n_at_least_above: int | None


class ByK(TypedDict):
    """Counts against plain twins at one size of the readout."""

    k: int | Literal["all"]
    form: Literal["pooled", "balanced"]
    n_above_plain: int
    n_specific_plain: int
    share_low_p_twin: float
    share_high_p_twin: float
    share_low_p: float
    share_high_p: float


class SupportRecall(TypedDict):
    """Share of the added ANDs of one stratum of support that was found."""

    n_spiked: int
    recall: float


class Recall(TypedDict):
    """Share of the added ANDs that was found, with its exact 95 % interval."""

    recall: float
    low: float
    high: float
    by_support: list[SupportRecall]


class RecallStep(TypedDict):
    """One amplitude of the recall curve, in standard deviations of a neuron; 0: nothing was added."""

    amplitude: float
    above_twins: Recall
    computed: Recall


class Sensitivity(TypedDict):
    """The recall curve, and the amplitudes at which half ("0.5") and nine tenths ("0.9") are found; None: never."""

    n_spiked: int
    channel: int
    curve: list[RecallStep]
    above_twins_at: dict[str, float | None]
    computed_at: dict[str, float | None]


class Total(TypedDict):
    """Computed pairs among all testable ones, from the tested ones, with a 95 % interval."""

    method: str
    value: float
    low: float
    high: float


class NonNullBound(TypedDict):
    """`evidence.lower_bound.NonNull`."""

    n_low: int | None
    control: int | None
    beta: float | None
    why_not: str


AtLeast = TypedDict(
    "AtLeast",
    {
        "level": float, "lambda": float | None, "n_twins": int, "n_low": int | None, "control": int | None, "why_not": str,
    },
)  # fmt: skip
"""The bound of `evidence.at_least`: its calibration λ, the bound on all tested pairs, and the same on 1 − p."""


class Floor(TypedDict):
    """What a layer could show at best (`evidence.floor`)."""

    smallest_p: float | None
    fewest_nameable: int | None
    detectable_d: float | None
    assumptions: str


class Verdict(TypedDict):
    """The finite bound under other bits a weight and another tolerance δ."""

    bits: float
    delta: float
    max_selected: float | None
    bits_needed: float
    bits_held: float
    verdict: Literal["vacuous", "holds", "exceeded"]


class Capacity(TypedDict):
    """One layer's capacity references and the verdict on its count (`evidence.audit`)."""

    n2_over_ln_n: float
    """Asymptotic reference n²/ln n, constant 1 assumed."""
    n2_over_log2_n: float
    """Asymptotic reference n²/log2 n, constant 1 assumed."""
    max_selected: float | None
    """Largest m′ with log2 C(M, m′) ≤ P·b at b = 2 (assumed); None when vacuous."""
    max_selected_stored: float | None
    """The same at the bits of the stored weights; None when vacuous."""
    bits_per_param: float
    """b of `max_selected`."""
    bits_stored: float
    """Bits of the stored weights."""
    n_params: int
    """P: weights and biases that act at the neurons."""
    universe: int
    """M: tested pairs."""
    vacuous: bool
    """No count of tested pairs could exceed P·b bits at b = 2."""
    cannot_bind: bool
    """Vacuous, or fewer pairs tested than n²/ln n: no count possible in this run could have exceeded the reference."""
    bits_needed: float
    """log2 C(M, m′) at m′ = the lower limit of the excess."""
    bits_held: float
    """P·b at b = 2."""
    min_neurons: float
    """√(m′ ln m′) for that m′: the order of neurons pairwise AND needs, constant 1 assumed."""
    min_params: float
    """m′ ln m′ for that m′: the order of parameters it needs, constant 1 assumed."""
    by_assumption: list[Verdict]
    """The verdict under other bits b and tolerances δ."""


class LayerCounts(RungCounts):
    """What is counted of a layer itself."""

    layer: int
    n_neurons: int
    n_tested: int
    n_twins: int
    n_dedicated: int | None
    n_distinct: int | None
    effective_rank: float | None
    features_per_neuron: float | None
    n_conjunctive: int | None
    n_undecidable: int
    coherence: float | None
    n_above_isotropic: int | None
    n_above_shuffled: int | None


class AgainstTwins(TypedDict):
    """What sets a layer beside its twins; None, and no tails, where none ran."""

    twins: dict[str, TwinRange | None] | None
    """Key of a rung → its count in the twins."""
    tails: list[Tail]
    twin_rate: float | None
    n_excess: float | None
    excess_low: float | None
    excess_high: float | None
    share_low_p: float | None
    share_high_p: float | None
    n_nonnull_low: int | None
    nonnull: NonNullBound | None
    at_least: AtLeast | None
    n_at_least: int | None
    at_least_above: AtLeast | None
    n_at_least_above: int | None


class LayerRow(LayerCounts, AgainstTwins):
    """One entry of `summary["layers"]`."""

    effect_levels: list[float]
    """The levels of the quantiles in `effect`."""
    effect: dict[str, list[float] | None]
    """Site or kind of twin → quantiles of d′."""
    groups: list[Group]
    by_k: list[ByK]
    total: Total | None
    sensitivity: Sensitivity | None
    floor: Floor
    capacity: Capacity
    statement: str


class ModelSection(TypedDict):
    """What was analysed; None what arrays do not tell."""

    name: str
    n_layers: int
    d_model: int | None
    d_mlp: int
    activation: str | None
    gated: bool | None
    dtype: str
    device: str
    stored: NotRequired[str]
    """How a file stores the weights, where that is not their dtype."""


class CorpusSection(TypedDict):
    """The text, and how it became tokens; what is not required is missing where there were only arrays."""

    name: str
    fingerprint: str
    n_tokens_fit: int
    n_tokens_confirm: int
    n_docs: int
    context: int | None
    bos_id: int | None
    policy: str
    column: NotRequired[str | None]
    n_rows_left_out: NotRequired[int]
    skip_first: NotRequired[int]
    special_tokens: NotRequired[dict[str, int]]


class BlockSection(TypedDict):
    """How the tested pairs were drawn among some of the concepts (`evidence.blocks.Block`)."""

    n_concepts: int
    n_drawn: int
    n_inside: int
    n_kept: int
    inclusion: float


class ConceptsSection(TypedDict):
    """How many pairs the concepts make, and which were tested."""

    n: int
    n_pairs: int
    n_testable: int
    n_tested: int
    untestable: dict[str, int]
    """Reason → pairs."""
    choice: list[Any]
    """How pairs were chosen, as `PairSampling.record` says it."""
    block: BlockSection | None


class FloorSection(TypedDict):
    """What the run could find at best: the same for all layers but the detectable d′."""

    smallest_p: float | None
    fewest_nameable: int | None
    detectable_d: dict[str, float | None]
    """Number of a layer → d′."""


class Summary(TypedDict):
    """summary.json."""

    schema: str
    model: ModelSection
    corpus: CorpusSection
    concepts: ConceptsSection
    floor: FloorSection
    layers: list[LayerRow]
    notes: list[str]
    """What the reader must know before any number."""
