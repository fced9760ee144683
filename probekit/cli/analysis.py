"""`probekit demo`, `analyze`, `report`, `resume` and `verify`: runs and what becomes of them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probekit.cli.options as options
from probekit.cli.look import go_offline, pairs_asked
from probekit.cli.resuming import Directory, continue_run, verified
from probekit.cli.terminal import print_json, print_run, say, watched
from probekit.errors import ConfigError, InputError

if TYPE_CHECKING:
    from probekit.analysis.estimate import Estimate
    from probekit.results.run import Run

DEMO_DOCS = 320
DEMO_TOKENS = 40_000
DEMO_PAIRS = 300
DEMO_TWINS = 8


def demo(
    out: Annotated[Path, typer.Option(help="Where the two runs and their report go.")] = Path("demo-report"),
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print both summaries as JSON instead of tables.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Analyse the bundled model and one planted circuit, offline, in a few minutes.

    The planted circuit is a transformer whose ANDs are known, spread over neurons that they share: it shows what finds in
    superposition look like beside a really trained model.
    """
    from probekit.analysis.api import analyze
    from probekit.model.planted import plant
    from probekit.theory.circuits import net_and

    # of 56 concepts every pair is tested; about 500 tokens with both, or the readouts would not be spread
    planted = plant(net_and(seed=0), n_docs=DEMO_DOCS, n_active=2.2, noise=0.07, together=0.05, seed=0)
    say("  a planted circuit: 28 ANDs in 49 neurons, each neuron serving four", lead="1/2", quiet=quiet)
    known = watched(
        lambda report: analyze(
            planted.model, planted.corpus, concepts=planted.concepts, max_pairs=2_000, twins=DEMO_TWINS,
            out=out / "planted", force=force, progress=report, command="probekit demo", truth=planted,
        ),
        quiet=quiet,
    )  # fmt: skip
    say("  nano, the bundled language model, on docstrings it has not seen", lead="2/2", quiet=quiet)
    found = watched(
        lambda report: analyze(
            "nano", "docs", max_tokens=DEMO_TOKENS, max_pairs=DEMO_PAIRS, twins=DEMO_TWINS, out=out / "nano",
            force=force, progress=report, command="probekit demo",
        ),
        quiet=quiet,
    )  # fmt: skip
    page = found.report(out / "report.html", companions=(known,))
    if json_:
        print_json({"planted": known.summary, "nano": found.summary})
    if json_ or quiet:
        return
    print_run(known)
    truth = set(planted.truth)
    pairs = known.pairs()
    shared = set(planted.shared_channel)
    names = list(zip(pairs["a"], pairs["b"], strict=True))
    classes = {
        "planted pairs": [name in truth for name in names],
        "pairs that some neuron reads together as well": [name in shared for name in names],
        "pairs that no neuron reads together": [name not in truth and name not in shared for name in names],
    }
    counts = [
        f"{int(pairs['computed'][held].sum())} of {sum(held):,} {kind}" for kind, held in classes.items()
    ]
    say(
        f"the answer is known here: found {', '.join(counts)}; "
        f"{int(pairs['superposed'][classes['planted pairs']].sum())} of the planted ones in superposition.\n"
    )
    print_run(found)
    say(f"report: {page}", quiet=quiet)


def analyze(  # noqa: PLR0913
    model: Annotated[
        str,
        typer.Argument(
            help="Hub name (gpt2, EleutherAI/pythia-70m@step3000), folder in Hugging Face format, GGUF file, or nano."
        ),
    ],
    corpus: options.NamedCorpus = "docs",
    out: Annotated[Path | None, typer.Option("--out", help="Run directory. Default: runs/MODEL.")] = None,
    layers: options.Layers = None,
    max_tokens: Annotated[int | None, typer.Option(help="Counted tokens to read. Default: 300000.")] = None,
    context: Annotated[int | None, typer.Option(help="Positions read of a document. Default: 128.")] = None,
    skip_first: Annotated[
        int | None,
        typer.Option(help="Positions after the start mark that are read and not counted. Default: 1."),
    ] = None,
    max_pairs: Annotated[
        int | None, typer.Option(help="Pairs tested at most (a sample). Default: 2000.")
    ] = None,
    min_support: Annotated[
        int | None, typer.Option(help="Tokens every quadrant must hold. Default: 60.")
    ] = None,
    twins: Annotated[int | None, typer.Option(help="Random twins a layer. Default: 20.")] = None,
    q: Annotated[float | None, typer.Option(help="False discovery rate. Default: 0.05.")] = None,
    concepts: Annotated[str, typer.Option(help="default, or a TOML file.")] = "default",
    config: Annotated[
        Path | None, typer.Option(help=r"TOML with \[science] and \[execution]; options win over it.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of halves, twins and the sample of pairs. Default: 0.")
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            help="blocks (default: among concepts drawn so that each has many pairs), uniform (among all concepts), "
            "stratified (equal shares of each kind), support (the fullest), a kind such as "
            "'token x token', or a file with two concepts a line, a tab between them. May be given several times."
        ),
    ] = None,
    dtype: options.Dtype = None,
    offline: options.Offline = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda. Default: auto.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="local, or ray: tasks on a cluster or on all cores. Default: local.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="What sums and kept activations may take, such as 8GB; more lets more layers share a forward of the text. "
            "Default: auto, half of what is free."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another run in the same directory.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Only say what the run will take and could find; nothing is written."
        ),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print summary.json instead of a table.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Run the whole analysis of one model and write tables, summary.json and report.html.

    Examples: probekit analyze gpt2 --corpus docs --layers 0-3 --twins 20 --out runs/gpt2;
    probekit analyze EleutherAI/pythia-70m@step3000 --corpus rows.jsonl --pairs stratified
    """
    asked = locals()
    if offline:
        go_offline()
    from probekit.analysis.settings import names, read_config

    given = {name: asked.get(name) for name in (*names(), "device", "engine", "memory")}
    options = read_config(config) | {key: value for key, value in given.items() if value is not None}
    folder = out if out is not None else Path("runs") / Path(model).name
    options |= {
        "concepts": None if concepts == "default" else concepts, "layers": _layers(layers), "out": folder,
        "pairs": pairs_asked(pairs), "dtype": dtype, "force": force, "command": _command(),
    }  # fmt: skip
    if estimate:
        told = watched(lambda report: _estimate(model, corpus, progress=report, **options), quiet=quiet)
        print_json(told.as_dict()) if json_ else typer.echo(str(told))
        return
    run = watched(lambda report: _analyze(model, corpus, progress=report, **options), quiet=quiet)
    if json_:
        print_json(run.summary)
    if json_ or quiet:
        return
    print_run(run)
    say(f"report: {run.path / 'report.html'}")


def _analyze(*args: Any, **options: Any) -> Run:
    from probekit.analysis.api import analyze as run_analysis

    return run_analysis(*args, **options)


def _estimate(*args: Any, **options: Any) -> Estimate:
    from probekit.analysis.estimate import estimate as run_estimate

    return run_estimate(*args, **options)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; several are set side by side.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file. Default: report.html in the run.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write figures (SVG, PDF) and tables (CSV, LaTeX) here.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the HTML report of a finished run again, or one page that compares several runs.

    Example: probekit report runs/gpt2 runs/pythia --out compare.html
    """
    from probekit.followups.compare import compare
    from probekit.results.run import load

    held = [load(path) for path in runs]
    if len(held) > 1 and (out is None or export is not None):
        raise InputError("report: several runs need --out FILE.html, and --export takes one run at a time.")
    page = held[0].report(out) if out is None or len(held) == 1 else compare(held, out)
    say(f"report: {page}", quiet=quiet)
    if export is not None:
        say(f"{len(held[0].export(export))} figures and tables: {export}", quiet=quiet)
    if json_:
        print_json(held[0].summary if len(held) == 1 else [run.summary for run in held])


def resume(run: Directory) -> None:
    """Finish a run that was killed, interrupted or stopped by a full disk; the result is the same to the bit."""
    done = watched(lambda report: continue_run(run, report))
    print_run(done)
    say(f"report: {done.path / 'report.html'}")


def verify(run: Directory) -> None:
    """Compare every file of a run with the digest taken when it was written."""
    say(verified(run))


def _layers(text: str | None) -> list[int] | None:
    from probekit.arguments import layers_in_words

    try:
        return None if text is None else layers_in_words(text)
    except InputError as error:
        raise ConfigError(f"--{error}") from None


def _command() -> str:
    return shlex.join(["probekit", *sys.argv[1:]])
