"""The `probekit` command. Heavy modules are imported by the commands that need them, so that --help is quick."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probekit import cli_look
from probekit.cli_circuits import app as circuits_app
from probekit.cli_runs import Directory, continue_run, verified
from probekit.errors import ConfigError, InputError, ProbekitError

if TYPE_CHECKING:
    from probekit.run.result import Run

app = typer.Typer(
    name="probekit",
    help="How many AND-like features does each MLP layer of a transformer compute in superposition?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(circuits_app, name="circuits")
cli_look.register(app)

DEMO_TOKENS = 80_000
DEMO_PAIRS = 500
DEMO_TWINS = 8
INTERRUPTED = 130
_NO_COMMAND: Any = typer.BadParameter.__mro__[
    2
]  # ClickException: typer carries its own copy or takes click's

Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the two runs and their report go.")] = Path("demo-report"),
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print both summaries as JSON instead of tables.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Analyse the bundled model and one planted circuit, offline, in a few minutes.

    The planted circuit is a transformer whose computed ANDs are known: it shows what a find looks like beside a really
    trained model.
    """
    from probekit.model.planted import plant
    from probekit.run.pipeline import analyze
    from probekit.theory.circuits import two_and

    # 16 neurons hold 2,336 bits at b = 2 while 2,556 pairs are tested: here the finite bound is not vacuous
    circuit = two_and(pairs=16, n_concepts=72, n_neurons=16, channel=4, n_active=5, seed=0)
    planted = plant(circuit, n_docs=600, noise=0.1, seed=0)
    say = _say(quiet=quiet)
    say("[bold]1/2[/bold]  a planted circuit: 16 ANDs in 16 neurons, known in advance")
    known = _watched(
        lambda report: analyze(
            planted.model, planted.corpus, concepts=planted.concepts, max_pairs=3_000, twins=DEMO_TWINS,
            out=out / "planted", force=force, progress=report, command="probekit demo",
        ),
        quiet=quiet,
    )  # fmt: skip
    say("[bold]2/2[/bold]  nano, the bundled language model, on docstrings it has not seen")
    found = _watched(
        lambda report: analyze(
            "nano", "docs", max_tokens=DEMO_TOKENS, max_pairs=DEMO_PAIRS, twins=DEMO_TWINS, out=out / "nano",
            force=force, progress=report, command="probekit demo",
        ),
        quiet=quiet,
    )  # fmt: skip
    page = found.report(out / "report.html", companions=(known,))
    if json_:
        _print_json({"planted": known.summary, "nano": found.summary})
    if json_ or quiet:
        return
    _print_run(known)
    truth = set(planted.truth)
    pairs = known.pairs()
    shared = set(planted.shared_channel)
    names = list(zip(pairs["a"], pairs["b"], strict=True))
    classes = {
        "planted pairs": [name in truth for name in names],
        "pairs that share a neuron by accident": [name in shared for name in names],
        "pairs that share no neuron": [name not in truth and name not in shared for name in names],
    }
    counts = [
        f"{int(pairs['computed'][held].sum())} of {sum(held):,} {kind}" for kind, held in classes.items()
    ]
    say(f"the answer is known here: found {', '.join(counts)}.\n")
    _print_run(found)
    say(f"report: {page}")


@app.command()
def analyze(
    model: Annotated[
        str,
        typer.Argument(
            help="Hub name (gpt2, EleutherAI/pythia-70m@step3000), folder in Hugging Face format, or nano (bundled)."
        ),
    ],
    corpus: Annotated[
        str, typer.Option("--corpus", help="docs (offline), a text/jsonl/parquet file, or a hub dataset.")
    ] = "docs",
    out: Annotated[Path | None, typer.Option("--out", help="Run directory. Default: runs/MODEL.")] = None,
    layers: Annotated[str | None, typer.Option(help="Such as 0,2-4. Default: all.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Counted tokens to read. Default: 300000.")] = None,
    context: Annotated[int | None, typer.Option(help="Positions read of a document. Default: 128.")] = None,
    max_pairs: Annotated[
        int | None, typer.Option(help="Pairs tested at most (uniform sample). Default: 2000.")
    ] = None,
    min_support: Annotated[
        int | None, typer.Option(help="Tokens every quadrant must hold. Default: 60.")
    ] = None,
    twins: Annotated[int | None, typer.Option(help="Random twins a layer. Default: 20.")] = None,
    q: Annotated[float | None, typer.Option(help="False discovery rate. Default: 0.05.")] = None,
    concepts: Annotated[str, typer.Option(help="default, or a TOML file.")] = "default",
    config: Annotated[
        Path | None, typer.Option(help="TOML with [science] and [execution]; options win over it.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of halves, twins and the sample of pairs. Default: 0.")
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            help="uniform (default), stratified (equal shares of each kind), support (the fullest), a kind such as "
            "'token x token', or a file with two concepts a line, a tab between them. May be given several times."
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16. Default: float32 on a CPU.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the network.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. Default: auto.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="local, or ray: tasks on a cluster or on all cores. Default: local.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another run in the same directory.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print summary.json instead of a table.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole analysis of one model and write tables, summary.json and report.html.

    Examples: probekit analyze gpt2 --corpus docs --layers 0-3 --twins 20 --out runs/gpt2;
    probekit analyze EleutherAI/pythia-70m@step3000 --corpus rows.jsonl --pairs stratified
    """
    if offline:
        cli_look.go_offline()
    from probekit.run.config import read_config

    given = {
        "max_tokens": max_tokens, "context": context, "max_pairs": max_pairs, "min_support": min_support,
        "twins": twins, "q": q, "seed": seed, "device": device, "engine": engine,
    }  # fmt: skip
    options = read_config(config) | {key: value for key, value in given.items() if value is not None}
    folder = out if out is not None else Path("runs") / Path(model).name
    run = _watched(
        lambda report: _analyze(
            model, corpus, concepts=None if concepts == "default" else concepts, layers=_layers(layers), out=folder,
            pairs=cli_look.pairs_asked(pairs), dtype=dtype, force=force, progress=report, command=_command(), **options,
        ),
        quiet=quiet,
    )  # fmt: skip
    if json_:
        _print_json(run.summary)
    if json_ or quiet:
        return
    _print_run(run)
    _say()(f"report: {run.path / 'report.html'}")


def _analyze(*args: Any, **options: Any) -> Run:
    from probekit.run.pipeline import analyze as run_analysis

    return run_analysis(*args, **options)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; several are set side by side.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file. Default: report.html in the run.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write figures (SVG, PDF) and tables (CSV, LaTeX) here.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write the HTML report of a finished run again, or one page that compares several runs.

    Example: probekit report runs/gpt2 runs/pythia --out compare.html
    """
    from probekit.run.compare import compare
    from probekit.run.result import load

    held = [load(path) for path in runs]
    if len(held) > 1 and (out is None or export is not None):
        raise InputError("report: several runs need --out FILE.html, and --export takes one run at a time.")
    page = held[0].report(out) if out is None or len(held) == 1 else compare(held, out)
    say = _say(quiet=quiet)
    say(f"report: {page}")
    if export is not None:
        say(f"{len(held[0].export(export))} figures and tables: {export}")
    if json_:
        _print_json(held[0].summary if len(held) == 1 else [run.summary for run in held])


@app.command()
def resume(run: Directory) -> None:
    """Finish a run that was killed, interrupted or stopped by a full disk; the result is the same to the bit."""
    done = _watched(lambda report: continue_run(run, report))
    _print_run(done)
    _say()(f"report: {done.path / 'report.html'}")


@app.command()
def verify(run: Directory) -> None:
    """Compare every file of a run with the digest taken when it was written."""
    _say()(verified(run))


@app.command()
def capacity(
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")],
    d_mlp: Annotated[int, typer.Option(help="Neurons of the layer.")],
    concepts: Annotated[int, typer.Option(help="Base concepts of the dictionary.")],
    gated: Annotated[bool, typer.Option("--gated", help="The layer is gated (SwiGLU and the like).")] = False,
    delta: Annotated[float, typer.Option(help="Share of the selected set that may be wrong.")] = 0.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What the capacity bounds say about a layer of this size.

    Example: probekit capacity --d-model 768 --d-mlp 3072 --concepts 10000
    """
    import json

    from probekit.theory import bounds

    n_params = int(float(bounds.layer_params(d_model, d_mlp, site="neurons", gated=gated)))
    universe = concepts * (concepts - 1) // 2
    finite = {
        bits: bounds.max_selected(n_concepts=concepts, n_params=n_params, bits=bits, delta=delta)
        for bits in (1.0, 2.0, 3.6, 16.0)
    }
    values: dict[str, Any] = {
        "d_model": d_model, "d_mlp": d_mlp, "n_concepts": concepts, "n_pairs": universe, "n_params": n_params,
        "n2_over_ln_n": float(bounds.asymptotic_features(d_mlp)),
        "n2_over_log2_n": float(bounds.asymptotic_features(d_mlp, log="2")),
        "delta": delta,
        "max_selected": {f"{bits:g}": None if b.vacuous else float(b) for bits, b in finite.items()},
    }  # fmt: skip
    if json_:
        sys.stdout.write(json.dumps(values, indent=1, allow_nan=False) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{d_mlp:,} neurons on d_model {d_model:,}, {concepts:,} concepts ({universe:,} pairs)"
    )
    table.add_column("reference")
    table.add_column("features", justify="right")
    table.add_column("what it is")
    order = "order of magnitude, constant 1 assumed, not a limit"
    table.add_row("n²/ln n", f"{values['n2_over_ln_n']:,.0f}", order)
    table.add_row("n²/log₂ n", f"{values['n2_over_log2_n']:,.0f}", order)
    for bits, bound in finite.items():
        text = "vacuous" if bound.vacuous else f"{float(bound):,.0f}"
        why = (
            "any set of pairs fits into the weights"
            if bound.vacuous
            else "most pairs that can be selected freely"
        )
        table.add_row(f"finite bound, b = {bits:g} bits", text, why)
    console = Console()
    console.print(table)
    console.print(
        f"P = {n_params:,} weights act at the neurons. The finite bound limits which pairs the weights can select, not "
        "how many ANDs some probe can read (Adler & Shavit, arXiv 2409.15318)."
    )


def _layers(text: str | None) -> list[int] | None:
    """0,2-4 → [0, 2, 3, 4]."""
    if text is None:
        return None
    chosen: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or (dash and int(high) < int(low)):
            raise ConfigError(f"--layers: got {text!r}, wanted numbers and ranges such as 0,2-4.")
        chosen |= set(range(int(low), int(high if dash else low) + 1))
    return sorted(chosen)


def _command() -> str:
    return shlex.join(["probekit", *sys.argv[1:]])


def _print_json(value: Any) -> None:
    import json

    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def _say(*, quiet: bool = False) -> Callable[[str], None]:
    from rich.console import Console

    if quiet:
        return lambda text: None
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return console.print


def _watched(work: Callable[[Any], Run], *, quiet: bool = False) -> Run:
    """Run with progress bars where a terminal watches."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        return work(False)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.completed:>9,.0f} / {task.total:,.0f} tokens"),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        state: dict[str, Any] = {"what": None, "task": None}

        def report(what: str, done: int, total: int) -> None:
            if state["what"] != what or done < bars.tasks[-1].completed:
                if state["task"] is not None:
                    bars.remove_task(state["task"])
                state["what"], state["task"] = what, bars.add_task(what, total=total, rate="")
            speed = bars.tasks[-1].speed
            bars.update(state["task"], completed=done, rate=f"{speed:,.0f} tok/s" if speed else "")

        return work(report)


def _print_run(run: Run) -> None:
    from rich.console import Console
    from rich.table import Table

    from probekit.report.words import answer

    summary = run.summary
    table = Table(title=f"{summary['model']['name']}: pairs on every rung (random twins' mean in brackets)")
    for name in (
        "layer",
        "tested",
        "significant",
        "ε-represented",
        "beyond input",
        "above twins",
        "computed",
        "superposed",
    ):
        table.add_column(name, justify="right")
    for row in summary["layers"]:
        cells = [str(row["layer"]), f"{row['n_tested']:,}"]
        for rung in (
            "significant_raw",
            "represented",
            "beyond_input",
            "above_twins",
            "computed",
            "superposed",
        ):
            value, twins = row[f"n_{rung}"], (row["twins"] or {}).get(f"n_{rung}")
            text = "–" if value is None else f"{value:,}"
            cells.append(text + (f" ({twins['mean']:,.1f})" if twins else ""))
        table.add_row(*cells)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for sentence in answer(summary):
        console.print(sentence, highlight=False)
    for note in summary["notes"]:
        console.print(note, highlight=False)
    console.print()


def main() -> None:
    """Run the command; every error probekit raises becomes one message and its exit code."""
    # on a shared machine waiting threads would burn the cores that others need: let them sleep
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(standalone_mode=False)
    except ProbekitError as error:
        _say()(f"[red]error[/red] {type(error).__name__}: {_plain(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt as stop:
        _say()("interrupted; nothing half-written was left behind.")
        for note in getattr(stop, "__notes__", ["Run the same command again."]):
            _say()(_plain(note))
        sys.exit(INTERRUPTED)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        sys.exit(1)
    except _NO_COMMAND as error:
        error.show()
        sys.exit(error.exit_code)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
