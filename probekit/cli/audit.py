"""`probekit audit`: is what somebody claims a layer computes made there, relayed, or no more than null layers show?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import probekit.cli.options as options
from probekit.cli.look import go_offline
from probekit.cli.terminal import print_answer, print_json, say
from probekit.errors import ConfigError

if TYPE_CHECKING:
    from probekit.followups.audit import Audit


def audit(  # noqa: PLR0913
    model: options.Model,
    layer: Annotated[int, typer.Option(help="The layer that is said to compute it.")] = 0,
    pair: Annotated[
        list[str] | None, typer.Option("--pair", help='A pair of concepts, "A & B"; again for more.')
    ] = None,
    directions: Annotated[
        Path | None,
        typer.Option(
            help="A .safetensors file of directions of neurons or output: a tensor of one, or one a row."
        ),
    ] = None,
    dictionary: Annotated[
        Path | None,
        typer.Option(help="Folder of an autoencoder or transcoder, as pk.latents reads it."),
    ] = None,
    latents: Annotated[str, typer.Option(help="Its latents, such as 0,5,17.")] = "",
    site: Annotated[str | None, typer.Option(help="The hook it reads, if its files do not say.")] = None,
    space: Annotated[str | None, typer.Option(help="neuron or output, if the width does not say.")] = None,
    corpus: options.Corpus = None,
    concepts: options.ConceptSet = "default",
    max_tokens: options.MaxTokens = 60_000,
    max_pairs: Annotated[int, typer.Option(help="Pairs by which a claim can be described.")] = 300,
    min_support: options.MinSupport = 60,
    twins: Annotated[int, typer.Option(help="Null layers.")] = 20,
    q: Annotated[float, typer.Option("-q", help="Level of the false discovery rate over the claims.")] = 0.05,
    seed: options.Seed = 0,
    out: options.Page = None,
    device: options.Device = "auto",
    offline: options.Offline = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Hold claimed pairs, directions or latents of a layer against its null layers: made here, relayed, or neither.

    Example: probekit audit nano --layer 1 --pair "cur:word-start & prev:full-stop" --out audit.html
    """
    if offline:
        go_offline()
    from probekit.evidence.tables import json_rows
    from probekit.followups.audit import audit as audit_claims

    claim, names = _claim(pair or [], directions, dictionary)
    found = audit_claims(
        claim, model, corpus, layer=layer, space=space, latents=_whole(latents), site=site, names=names,
        concepts=None if concepts == "default" else concepts, max_tokens=max_tokens, max_pairs=max_pairs,
        min_support=min_support, twins=twins, q=q, seed=seed, device=device, progress=False if quiet else None,
    )  # fmt: skip
    if out is not None:
        found.report(out)
    if json_:
        print_json({"summary": found.summary, "claims": json_rows(found.table)})
    if not (json_ or quiet):
        _print(found)
    if out is not None:
        say(f"report: {out}", quiet=quiet)


def _claim(
    pairs: list[str], directions: Path | None, dictionary: Path | None
) -> tuple[Any, list[str] | None]:
    """What is claimed, and its names where the file has some."""
    if sum(map(bool, (pairs, directions, dictionary))) != 1:
        raise ConfigError("claim: wanted one of --pair, --directions and --dictionary.")
    if dictionary is not None:
        return dictionary, None
    if directions is not None:
        import numpy as np

        from probekit.model.dictionaries.files import read_safetensors

        rows = {
            name: np.atleast_2d(tensor.float().numpy())
            for name, tensor in read_safetensors(directions).items()
        }
        names = [
            name if len(held) == 1 else f"{name} {i}"
            for name, held in sorted(rows.items())
            for i in range(len(held))
        ]
        widths = {held.shape[-1] for held in rows.values()}
        if len(widths) != 1:
            raise ConfigError(
                f"--directions: {directions} holds tensors of {len(widths)} widths, wanted one; split them."
            )
        return np.concatenate([held for _, held in sorted(rows.items())]), names
    parted = [tuple(name.strip() for name in text.split(" & ")) for text in pairs]
    wrong = [text for text, names in zip(pairs, parted, strict=True) if len(names) != 2 or not all(names)]
    if wrong:
        raise ConfigError(f"--pair: got {wrong[0]!r}, wanted two concepts with ' & ' between them.")
    return parted, None


def _whole(text: str) -> list[int] | None:
    try:
        return [int(part) for part in text.split(",") if part.strip()] or None
    except ValueError:
        raise ConfigError(
            f"--latents: got {text!r}, wanted whole numbers with commas between them."
        ) from None


def _print(found: Audit) -> None:
    from probekit.report.claims import answer, claims_table

    print_answer(claims_table(found), answer(found), width=200)
