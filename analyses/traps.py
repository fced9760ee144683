"""Traps: layers in which nothing is computed but what was planted, and what the rule says of them.

    python analyses/traps.py --draws 50 --workers 16      # the full run; a draw is some 5 to 10 s of one core
    python analyses/traps.py --draws 1 --out -            # one draw a scene, printed
    python analyses/traps.py --only relay --minutes 10    # scenes whose name holds a word; stops cleanly, goes on later

Every draw is one line of traps.draws.jsonl beside the page (scene, variant, form, seed, rule → counts by class of pair), so
that a run which was stopped is taken up where it was. Scenes and classes are those of trap_scenes.py. Even draws of plain
layers are ReLU, odd ones GELU; gated layers are SiLU. Writes traps.md and traps.json.

What is wanted, scene by scene and for plain and gated layers apart: of the pairs that are not computed (null and relayed) at
most 1 % are called so; innocent layers with any such pair at most q + 3 standard errors of the draws, planted layers with a
mean false discovery share V/max(V + S, 1) of at most that; of the relayed pairs above plain twins at least 90 % are called
relayed.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measured import RESULTS, mean_and_error, table

# isort: split
from trap_scenes import N_NEURONS, N_TOKENS, RECIPES, Form, draw

from probekit.evidence.decide import adjusted
from probekit.storage.store import write_text
from probekit.testing.synthetic import run_layer

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
RULE = "relays removed, leave-one-out in two stages"
"""Name of the decision under test; draws of another rule are not mixed in."""
Q, N_TWINS = 0.05, 20
CLASSES = ("null", "relayed", "shared channel", "planted")
FLAGS = ("raw", "above_plain", "relayed", "above_twins", "computed")
EFFECTS = ("d_prime", "d_prime_twins", "d_prime_relay")
MOST_NULL = 0.01
"""Share of the pairs that are not computed which may be called so."""
LEAST_RELAYED = 0.9
"""Share of the relayed pairs above plain twins that must be called relayed."""
KINDS = ("plain", "gated")


@dataclass(frozen=True)
class Task:
    """One draw to be made."""

    scene: str
    """A key of `RECIPES`."""
    variant: str
    """innocent, planted or twin."""
    kind: str
    """plain or gated."""
    seed: int
    """Of the draw."""
    rule: str
    """The decision under test."""
    twins: int = N_TWINS
    """PC-sign twins of the layer."""

    @property
    def form(self) -> Form:
        """The layer's form: ReLU and GELU in turn where it is plain."""
        if self.kind == "gated":
            return "silu gated"
        return "gelu" if self.seed % 2 else "relu"

    @property
    def key(self) -> tuple[str, str, str, int, str, int]:
        """What tells draws apart."""
        return self.scene, self.variant, self.kind, self.seed, self.rule, self.twins


def tasks(
    n_draws: int, only: Sequence[str], rule: str, twins: int, variants: Sequence[str] = ()
) -> list[Task]:
    """All draws, seed by seed, so that a run which was stopped holds every scene equally often."""
    return [
        Task(scene, variant, kind, seed, rule, twins)
        for seed in range(n_draws)
        for scene, recipe in RECIPES.items()
        if not only or any(word in scene for word in only)
        for variant in recipe.variants
        if not variants or variant in variants
        for kind in KINDS
    ]


def run_task(task: Task) -> dict[str, Any]:
    """Draw, measure, decide and count by class; what fails is told and tried again by the next run."""
    torch.set_num_threads(1)
    line: dict[str, Any] = {
        "scene": task.scene, "variant": task.variant, "kind": task.kind, "form": task.form, "seed": task.seed,
        "rule": task.rule, "twins": task.twins,
    }  # fmt: skip
    began = time.process_time()
    try:
        trap = draw(task.scene, task.variant, task.form, task.seed)
        judged = run_layer(trap.scene, trap.weights, twins=task.twins, seed=task.seed)
        classes = trap.class_of(judged.design.tested.pairs)
        line["classes"] = counts(judged.result.pairs, raw_flags(judged), classes)
    except Exception as error:  # noqa: BLE001  (one draw of thousands: told in its line and on the page)
        line["error"] = f"{type(error).__name__}: {error}"
    return line | {"seconds": round(time.process_time() - began, 1)}


def raw_flags(judged: Any) -> np.ndarray:
    """Benjamini–Hochberg on κ/se alone."""
    kappa = judged.result.pairs
    z = kappa["kappa"].to_numpy(float) / kappa["kappa_se"].to_numpy(float)
    p = np.array([0.5 * math.erfc(v / math.sqrt(2)) if math.isfinite(v) else 1.0 for v in z])
    return adjusted(p) <= Q


def counts(pairs: pd.DataFrame, raw: np.ndarray, classes: np.ndarray) -> dict[str, dict[str, Any]]:
    """Pairs tested and flagged in every class, and median effects; None for a column that this build does not have."""
    flags: dict[str, np.ndarray | None] = {
        "raw": raw,
        "above_plain": adjusted(pairs["p_twin"].to_numpy(float)) <= Q,
        **{name: pairs[name].to_numpy(bool) if name in pairs else None for name in FLAGS[2:]},
    }
    found: dict[str, dict[str, Any]] = {}
    for name in CLASSES:
        rows = classes == name
        if not rows.any():
            continue
        held: dict[str, Any] = {"tested": int(rows.sum())}
        held |= {key: None if flag is None else int(flag[rows].sum()) for key, flag in flags.items()}
        # of the pairs above plain twins: the relayed flag is asked of these
        relayed, above = flags["relayed"], flags["above_plain"]
        held["relayed_of_above"] = (
            None if relayed is None or above is None else int((relayed & above)[rows].sum())
        )
        for effect in EFFECTS:
            value = float(pairs[effect][rows].median()) if effect in pairs else math.nan
            held[effect] = round(value, 3) if math.isfinite(value) else None
        found[name] = held
    return found


# ------------------------------------------------------------------------------------------- all draws


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Draws made so far, without those that failed and without a last line that was cut off."""
    if not path.exists():
        return []
    held: list[dict[str, Any]] = []
    for text in path.read_text().splitlines():
        try:
            held.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return held


def key_of(line: dict[str, Any]) -> tuple[str, str, str, int, str, int]:
    """As `Task.key`."""
    return line["scene"], line["variant"], line["kind"], line["seed"], line["rule"], line["twins"]


def made(pending: list[Task], workers: int, until: float) -> Iterator[dict[str, Any]]:
    """Lines as they come; no draw is begun after `until`."""
    queue = iter(pending)
    os.environ.update(dict.fromkeys(THREADS, "1"))  # the workers load what reads them
    # spawned: a forked worker would share the compiled code's thread pool with its parent
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: set[Future[dict[str, Any]]] = set()
        while True:
            while len(running) < workers and time.monotonic() < until:
                task = next(queue, None)
                if task is None:
                    break
                running.add(pool.submit(run_task, task))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def run_all(wanted: list[Task], path: Path | None, workers: int, minutes: float) -> list[dict[str, Any]]:
    """Make what is missing and return all wanted lines there are."""
    keys = {task.key for task in wanted}
    lines = {key_of(line): line for line in (read_lines(path) if path else []) if key_of(line) in keys}
    pending = [task for task in wanted if "classes" not in lines.get(task.key, {})]
    began = time.monotonic()
    for n, line in enumerate(made(pending, workers, began + 60 * minutes), 1):
        lines[key_of(line)] = line
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        told = line.get("error") or ", ".join(
            f"{name} {c['computed']}/{c['tested']}" for name, c in line["classes"].items()
        )
        print(
            f"{n}/{len(pending)} {time.monotonic() - began:.0f} s: {line['scene']}, {line['variant']}, "
            f"{line['form']}, {line['seed']} ({line['seconds']} s): {told}",
            flush=True,
        )
    return [lines[task.key] for task in wanted if task.key in lines]


# ------------------------------------------------------------------------------------------------- page


@dataclass(frozen=True)
class Summary:
    """All draws of one scene, variant and kind of layer."""

    scene: str
    variant: str
    kind: str
    lines: list[dict[str, Any]]
    """Draws that went through."""
    n_failed: int
    """Draws that did not."""

    def total(self, of: str, what: str) -> int | None:
        """Sum over the draws; None where the build has no such column or no draw such a class."""
        held = [line["classes"][of][what] for line in self.lines if of in line["classes"]]
        return None if not held or None in held else int(sum(held))

    def false_in(self, line: dict[str, Any]) -> int:
        """Pairs called computed that are not."""
        return sum(line["classes"][of]["computed"] for of in ("null", "relayed") if of in line["classes"])

    @property
    def null_share(self) -> float:
        """Share of the null and relayed pairs that are called computed."""
        n = sum((self.total(of, "tested") or 0) for of in ("null", "relayed"))
        return sum(map(self.false_in, self.lines)) / n if n else math.nan

    @property
    def rate(self) -> tuple[float, float, float]:
        """What must stay below q + 3 s.e. over the draws, its s.e., and the bound.

        In layers without a planted pair the share of draws with any false find, with the binomial s.e. at q; in planted
        ones the mean false discovery share, with its own.
        """
        if self.variant != "planted":
            mean, error = float(np.mean([self.false_in(x) > 0 for x in self.lines])), math.nan
            error = math.sqrt(Q * (1 - Q) / len(self.lines))
        else:
            mean, error = mean_and_error([self._false_share(line) for line in self.lines])
        return mean, error, Q + 3 * (0.0 if math.isnan(error) else error)

    def _false_share(self, line: dict[str, Any]) -> float:
        false, true = self.false_in(line), line["classes"].get("planted", {}).get("computed", 0)
        return false / max(false + true, 1)

    @property
    def relayed_share(self) -> float | None:
        """Of the relayed pairs above plain twins the share that is called relayed; None where there is none."""
        above, called = self.total("relayed", "above_plain"), self.total("relayed", "relayed_of_above")
        return None if not above or called is None else called / above

    @property
    def holds(self) -> bool:
        """Whether all that is wanted holds."""
        mean, _, bound = self.rate
        share = self.relayed_share
        return self.null_share <= MOST_NULL and mean <= bound and (share is None or share >= LEAST_RELAYED)

    def cell(self, of: str, what: str) -> str:
        """Flagged of tested."""
        n, m = self.total(of, what), self.total(of, "tested")
        if not m:
            return "–"
        return "no column" if n is None else f"{n:,} / {m:,} = {n / m:.2%}"

    def as_dict(self) -> dict[str, Any]:
        """For traps.json."""
        mean, error, bound = self.rate
        return {
            "scene": self.scene, "variant": self.variant, "kind": self.kind, "draws": len(self.lines),
            "failed": self.n_failed, "null_share": self.null_share, "rate": mean,
            "rate_se": None if math.isnan(error) else error, "rate_bound": bound,
            "relayed_share": self.relayed_share, "holds": self.holds,
            "seconds": float(np.mean([line["seconds"] for line in self.lines])),
            "classes": {
                of: {what: self.total(of, what) for what in ("tested", *FLAGS, "relayed_of_above")}
                | {effect: self.median(of, effect) for effect in EFFECTS}
                for of in CLASSES
                if self.total(of, "tested")
            },
        }  # fmt: skip

    def median(self, of: str, effect: str) -> float | None:
        """Median over the draws of the median over the pairs of a class."""
        held = [line["classes"][of][effect] for line in self.lines if of in line["classes"]]
        known = [value for value in held if value is not None]
        return round(float(np.median(known)), 3) if known else None


def summaries(lines: list[dict[str, Any]]) -> list[Summary]:
    """One for every scene, variant and kind of which a draw went through, in the order of the scenes."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        groups[line["scene"], line["variant"], line["kind"]].append(line)
    found: list[Summary] = []
    for scene, recipe in RECIPES.items():
        for variant in recipe.variants:
            for kind in KINDS:
                held = groups[scene, variant, kind]
                made_it = [line for line in held if "classes" in line]
                if made_it:
                    found.append(Summary(scene, variant, kind, made_it, len(held) - len(made_it)))
    return found


COLUMNS = (
    "scene", "layer", "form", "draws", "null computed", "relayed computed", "any false find / false share (bound)",
    "relayed: above plain twins", "of these called relayed", "planted computed", "shared channel computed", "holds",
)  # fmt: skip
EFFECT_COLUMNS = (
    "scene", "layer", "form", *(f"{of}: d′ / twins / relay" for of in ("null", "relayed", "planted")),
    "null: raw", "null: above plain", "null: above twins", "planted: above twins",
)  # fmt: skip


def row(one: Summary) -> list[str]:
    """A line of the first table."""
    mean, _, bound = one.rate
    share = one.relayed_share
    return [
        one.scene, one.variant, one.kind, f"{len(one.lines)}" + (f" ({one.n_failed} failed)" if one.n_failed else ""),
        one.cell("null", "computed"), one.cell("relayed", "computed"), f"{mean:.3f} ({bound:.3f})",
        one.cell("relayed", "above_plain"), "–" if share is None else f"{share:.1%}",
        one.cell("planted", "computed"), one.cell("shared channel", "computed"), "yes" if one.holds else "NO",
    ]  # fmt: skip


def effect_row(one: Summary) -> list[str]:
    """A line of the second table."""

    def effects(of: str) -> str:
        held = [one.median(of, effect) for effect in EFFECTS]
        return "–" if held[0] is None else " / ".join("–" if v is None else f"{v:.2f}" for v in held)

    return [
        one.scene, one.variant, one.kind, *(effects(of) for of in ("null", "relayed", "planted")),
        one.cell("null", "raw"), one.cell("null", "above_plain"), one.cell("null", "above_twins"),
        one.cell("planted", "above_twins"),
    ]  # fmt: skip


def page(found: list[Summary], options: argparse.Namespace) -> Iterator[str]:
    """The whole page."""
    yield "# Traps: what is called computed where nothing is, or only what was planted\n"
    seconds = np.mean([line["seconds"] for one in found for line in one.lines])
    yield (
        f"`python analyses/traps.py --draws {options.draws} --twins {options.twins}`, rule: {options.rule}. {N_NEURONS} "
        f"neurons, 24 concepts, {N_TOKENS:,} tokens in documents of 50, {options.twins} PC-sign twins, k = 16, q = {Q}; "
        f"{seconds:.1f} s of one core a "
        "draw. Plain layers are ReLU in even and GELU in odd draws, gated ones SiLU.\n"
    )
    yield (
        "*Relayed*: pairs whose interaction lies in the input; nothing of them is computed. *Planted* layers are the "
        "innocent ones with twelve 2-ANDs added, on the same inputs. *Any false find*: share of the draws of an innocent "
        "layer or a twin in which a null or relayed pair is called computed, bound q + 3 binomial s.e.; *false share*: "
        "mean of V/max(V + S, 1) over the planted layers, bound q + 3 s.e. of that mean. Pairs that share a channel "
        "neuron with a planted pair by accident, or whose concepts hang together with those of one, count as neither. "
        f"Wanted: at most {MOST_NULL:.0%} of the null and relayed pairs computed, at least {LEAST_RELAYED:.0%} of the "
        "relayed pairs above plain twins called relayed.\n"
    )
    n_made = sum(len(one.lines) for one in found)
    if n_made < options.draws * len(found):
        yield f"**{n_made:,} of {options.draws * len(found):,} draws have been made;** the same command goes on.\n"
    missed = [one for one in found if not one.holds]
    yield (
        f"**{len(found) - len(missed)} of {len(found)} hold.**"
        + (" Not: " + "; ".join(f"{o.scene}, {o.variant}, {o.kind}" for o in missed) + "." if missed else "")
        + "\n"
    )
    yield from table(COLUMNS, map(row, found))
    yield "\n## Effects and earlier rungs\n"
    yield (
        "Median d′ as read, of plain twins, and with the relay removed (or of relay-matched twins, as the rule has it). Raw "
        "is Benjamini–Hochberg on κ/se alone: what a naive count would report.\n"
    )
    yield from table(EFFECT_COLUMNS, map(effect_row, found))


def main() -> None:
    """Make the draws and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--draws", type=int, default=50, help="draws of every scene, variant and kind of layer"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument(
        "--only", action="append", default=[], help="scenes whose name holds this; may be repeated"
    )
    parser.add_argument(
        "--variant", action="append", default=[], choices=("innocent", "planted", "twin"),
        help="only these layers; may be repeated",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no draw after so many minutes")
    parser.add_argument("--twins", type=int, default=N_TWINS)
    parser.add_argument("--rule", default=RULE, help="name of the decision under test")
    parser.add_argument(
        "--out", default=str(RESULTS / "traps.md"), help="page; - prints it and keeps nothing"
    )
    options = parser.parse_args()
    wanted = tasks(options.draws, options.only, options.rule, options.twins, options.variant)
    if not wanted:
        parser.error(f"--only {options.only}: no scene of that name; there are: {', '.join(RECIPES)}")
    out = None if options.out == "-" else Path(options.out)
    lines = run_all(
        wanted, None if out is None else out.with_suffix(".draws.jsonl"), options.workers, options.minutes
    )
    found = summaries(lines)
    if not found:
        sys.exit("no draw went through")
    text = "\n".join(page(found, options)).rstrip() + "\n"
    print(text)
    print(f"{len(lines)} of {len(wanted)} draws")
    if out is not None:
        write_text(out, text)
        held = {"rule": options.rule, "draws": options.draws, "q": Q, "twins": options.twins}
        write_text(
            out.with_suffix(".json"),
            json.dumps(held | {"scenes": [o.as_dict() for o in found]}, indent=1) + "\n",
        )


if __name__ == "__main__":
    main()
