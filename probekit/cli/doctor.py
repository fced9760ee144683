"""`probekit doctor`: what is installed and can be imported, what the machine has, and where files go.

Imports are tried in a process of its own (`probekit.cli.imports`), so that one that crashes is reported like any other. No
model is loaded, no network is asked, nothing is written.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from probekit.cli.imports import MARK
from probekit.cli.terminal import in_bytes, print_json
from probekit.version import VERSION

CORE: dict[str, str] = {
    "numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "pyarrow": "pyarrow", "llvmlite": "llvmlite",
    "numba": "numba", "scikit-learn": "sklearn", "torch": "torch", "einops": "einops", "jaxtyping": "jaxtyping",
    "safetensors": "safetensors", "tokenizers": "tokenizers", "huggingface_hub": "huggingface_hub",
    "datasets": "datasets", "transformers": "transformers", "transformer-lens": "transformer_lens",
    "altair": "altair", "vl-convert-python": "vl_convert", "jinja2": "jinja2", "markupsafe": "markupsafe",
    "pydantic": "pydantic", "rich": "rich", "threadpoolctl": "threadpoolctl", "tqdm": "tqdm", "typer": "typer",
    "xxhash": "xxhash",
}  # fmt: skip
"""What every analysis needs: distribution → module. What others import comes before them, so that blame falls right."""
EXTRAS: dict[str, dict[str, str]] = {
    "gguf": {"accelerate": "accelerate", "gguf": "gguf"},
    "lexicon": {"textblob": "textblob", "vaderSentiment": "vaderSentiment", "wordfreq": "wordfreq"},
    "ray": {"ray": "ray"},
}
"""What one option needs: extra of pyproject.toml → distribution → module."""
FOR: dict[str, str] = {
    "gguf": "models in GGUF files",
    "lexicon": "concepts from word lists of other packages",
    "ray": "--engine ray",
}
"""What an extra is for."""
OURS = "probekit.analysis.api"
"""What `import probekit` does not import by itself: the whole of the analysis."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
PYTHONS = ((3, 11), (3, 13))
PATIENCE = 300
"""Seconds after which an import counts as one that never ends."""

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Package:
    """One distribution, and whether it can be imported."""

    name: str
    """Its distribution."""
    module: str
    """What is imported of it."""
    extra: str | None
    """The extra that asks for it; None: every analysis does."""
    version: str | None
    """As installed; None where it is not."""
    state: State
    """Whether the import went well."""
    what: str = ""
    """What a failure means."""
    do: str = ""
    """What to do about it."""


@dataclass(frozen=True)
class Diagnosis:
    """Everything `probekit doctor` finds."""

    probekit: str
    """Version."""
    home: str
    """Where it lies."""
    python: str
    """Version of Python."""
    python_fits: bool
    """Whether probekit supports it."""
    packages: list[Package]
    """Those of the core first."""
    machine: dict[str, Any] = field(default_factory=dict[str, Any])
    """Cores, threads, accelerators and free memory; null where nobody knows."""
    folders: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Caches and the current folder: path, whether they are there and writable, size, free space."""
    offline: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the environment says about the network."""

    @property
    def ok(self) -> bool:
        """Whether the core works."""
        return self.python_fits and all(one.state == "ok" for one in self.packages if one.extra is None)


def doctor(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Check the installation: packages, devices, memory, disk, caches and offline settings; nothing is changed.

    Every package is imported once. Exit code 0 if the core works, 1 if something in it cannot be imported.

    Example: probekit doctor
    """
    found = diagnose()
    if json_:
        print_json({"ok": found.ok, **asdict(found)})
    else:
        _print(found)
    if not found.ok:
        raise typer.Exit(1)


def diagnose() -> Diagnosis:
    """Look at the installation and the machine."""
    wanted = [(name, module, None) for name, module in CORE.items()]
    wanted += [(name, module, extra) for extra, held in EXTRAS.items() for name, module in held.items()]
    tried, facts = _answers([*(module for _, module, _ in wanted), OURS])
    packages = [_package(*one, tried[one[1]]) for one in wanted]
    packages.append(_package("probekit", OURS, None, tried[OURS]))
    return Diagnosis(
        VERSION,
        str(Path(__file__).parents[1]),
        platform.python_version(),
        PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1],
        packages,
        _machine(facts),
        list(_folders(facts)),
        {name: os.environ.get(name) for name in OFFLINE} | {"asks_the_hub": _asks_the_hub(facts)},
    )


# -------------------------------------------------------------------------------- imports


def _answers(modules: Sequence[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What each import came to, and the facts; a process that dies is started again with what is left."""
    tried: dict[str, dict[str, Any]] = {}
    while True:
        left = [module for module in modules if module not in tried]
        lines, ended = _child(left)
        tried |= {line["module"]: line for line in lines if "module" in line}
        facts = {line["fact"]: line["value"] for line in lines if "value" in line}
        begun = lines[-1].get("begin") if lines else None
        if begun not in left:  # all imports were tried, or the process could not even begin
            for module in (module for module in modules if module not in tried):
                tried[module] = {"ended": ended}
            return tried, facts
        tried[str(begun)] = {"ended": ended}


def _child(modules: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """The lines one process answers, and how it ended."""
    script = (
        f"import sys; sys.path[:] = {sys.path!r}; from probekit.cli.imports import try_imports; try_imports()"
    )
    asked = json.dumps({"path": sys.path, "modules": list(modules)})
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, on our own module
            [sys.executable, "-c", script],
            input=asked,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        out, ended = done.stdout, _ended(done.returncode)
    except subprocess.TimeoutExpired as late:
        out = late.stdout.decode() if isinstance(late.stdout, bytes) else (late.stdout or "")
        ended = f"did not end within {PATIENCE} s"
    answers = [line.removeprefix(MARK) for line in out.splitlines() if line.startswith(MARK)]
    # a process that died may leave half a line
    return [json.loads(answer) for answer in answers if answer.endswith("}")], ended


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended the process with exit code {code}"
    import signal

    return f"ended the process by {signal.Signals(-code).name}"


def _package(name: str, module: str, extra: str | None, told: dict[str, Any]) -> Package:
    version = VERSION if module == OURS else _version(name)
    if "ended" not in told and "error" not in told:
        return Package(name, module, extra, version, "ok")
    if told.get("error") == "ModuleNotFoundError" and told.get("missing") == module.partition(".")[0]:
        use = f'pip install -e ".[{extra}]"' if extra else "pip install -c constraints.txt -e ."
        what = f"not installed; needed for {FOR[extra] if extra else 'every analysis'}"
        return Package(name, module, extra, version, "missing", what, f"{use} in the clone of probekit")
    what, do = explained(name, module, told)
    return Package(name, module, extra, version, "broken", what, do)


def explained(name: str, module: str, told: dict[str, Any]) -> tuple[str, str]:
    """What a failed import means, and what to do.

    Args:
        name: the distribution.
        module: what was imported.
        told: how it failed: "ended", or "error", "message", "missing" and "file".
    """
    again = f"pip install --force-reinstall --no-cache-dir -c constraints.txt {name}"
    if "ended" in told:
        return (
            f"its import {told['ended']}: most often a build for another processor or system",
            f"{again}; if that changes nothing, look for a build for this machine ({platform.machine()})",
        )
    message, file = str(told["message"]), told.get("file")
    raised = f"its import raised {told['error']}: {message.splitlines()[0] if message else 'no message'}"
    if module != OURS and file and _is_elsewhere(Path(file), name):
        return (
            f"{raised}; {file} was imported in its place",
            f"rename that file or folder, or work in another folder: it hides the package {name}",
        )
    if told["error"] == "ModuleNotFoundError" and told.get("missing"):
        return (
            f"{raised}; it needs a package that is not installed",
            f"pip install {told['missing']}, or {again}",
        )
    if any(mark in message for mark in ("numpy.dtype size changed", "_ARRAY_API", "NumPy 1.x", "numpy.core")):
        return f"{raised}; it was built for another NumPy", f"{again} numpy"
    if any(
        mark in message
        for mark in ("shared object", "undefined symbol", "GLIBC", "DLL", "dlopen", "Library not")
    ):
        return f"{raised}; a compiled library it needs is missing or of another version", again
    if module == OURS:
        return (
            raised,
            "fix what is named above first; if all else is well, this is a defect of probekit: report it",
        )
    return f"{raised}; its files, or those of a package it imports, do not fit together", again


def _is_elsewhere(file: Path, name: str) -> bool:
    """Whether an imported file is none of the installed distribution."""
    try:
        home = Path(str(metadata.distribution(name).locate_file(""))).resolve()
    except metadata.PackageNotFoundError:
        return False
    return not file.resolve().is_relative_to(home)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# -------------------------------------------------------------------------------- the machine


def _machine(facts: dict[str, Any]) -> dict[str, Any]:
    from probekit.analysis.memory import free_memory

    device, numba = facts.get("device") or {}, facts.get("numba") or {}
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cores": os.cpu_count(),
        "cores_usable": len(affinity(0)) if affinity is not None else os.cpu_count(),
        "torch_threads": device.get("torch_threads"),
        "numba_threads": numba.get("threads"),
        "cuda": device.get("cuda"),
        "cuda_built": device.get("cuda_built"),
        "mps": device.get("mps"),
        "memory_free": free_memory(),
    }


def _folders(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from probekit.storage.cache import cache_folder

    yield _folder("current folder", Path.cwd(), measure=False)
    yield _folder("probekit's cache", cache_folder())
    hub = (facts.get("hub") or {}).get("cache")
    if hub:
        yield _folder("models and datasets (HF_HOME)", Path(hub))
    compiled = (facts.get("numba") or {}).get("cache")
    if compiled:
        yield _folder("compiled kernels (numba)", Path(compiled))


def _folder(what: str, path: Path, *, measure: bool = True) -> dict[str, Any]:
    from probekit.storage.store import free_bytes

    above = path
    while not above.exists():
        above = above.parent
    return {
        "what": what,
        "path": str(path),
        "exists": path.is_dir(),
        "writable": above.is_dir() and os.access(above, os.W_OK | os.X_OK),
        "n_bytes": _size(path) if measure else None,
        "free_bytes": free_bytes(path),
    }


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; links are not followed, so that what the hub links to counts once."""
    n_bytes = 0
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                n_bytes += (Path(here) / name).lstat().st_size
            except OSError:
                continue
    return n_bytes


def _asks_the_hub(facts: dict[str, Any]) -> bool | None:
    hub = facts.get("hub")
    return None if hub is None else not hub["offline"]


# -------------------------------------------------------------------------------- in words


def _print(found: Diagnosis) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    fits = "" if found.python_fits else " (probekit needs 3.11 to 3.13)"
    console.print(Text(f"probekit {found.probekit} in {found.home}, Python {found.python}{fits}"))
    table = Table(title="Packages", title_justify="left")
    for name in ("package", "version", "for", "state"):
        table.add_column(name)
    for one in found.packages:
        use = "core" if one.extra is None else f"{FOR[one.extra]} ([{one.extra}])"
        table.add_row(*(Text(cell) for cell in (one.name, one.version or "–", use, one.state)))
    console.print(table)
    for one in found.packages:
        if one.state != "ok":
            console.print(Text.assemble((one.name, "red"), f": {one.what}.\n  Do: {one.do}."))
    for line in (
        *_machine_words(found.machine),
        *map(_folder_words, found.folders),
        _offline_words(found.offline),
    ):
        console.print(Text(line))
    core = "the core works" if found.ok else "the core does not work: see above"
    console.print(Text(core, "green" if found.ok else "red"))


def _machine_words(machine: dict[str, Any]) -> Iterator[str]:
    threads = [f"{n} threads in {who}" for who in ("torch", "numba") if (n := machine[f"{who}_threads"])]
    cores = f"{machine['cores_usable']} of {machine['cores']} cores usable"
    yield f"processor: {', '.join([cores, *threads])}"
    if machine["cuda"] is None:
        yield "accelerator: unknown, since torch cannot be imported"
    elif machine["cuda"]:
        yield f"accelerator: {', '.join(machine['cuda'])} (--device cuda)"
    else:
        built = "is built for CUDA and sees no device" if machine["cuda_built"] else "is built without CUDA"
        mps = "; Apple's (mps) is there, and probekit does not use it" if machine["mps"] else ""
        yield f"accelerator: none, torch {built}{mps}"
    free = machine["memory_free"]
    yield f"free memory: {'unknown on this system' if free is None else in_bytes(free)}"


def _folder_words(folder: dict[str, Any]) -> str:
    size = "" if folder["n_bytes"] is None else f"{in_bytes(folder['n_bytes'])}, "
    there = "" if folder["exists"] else "not made yet, "
    writable = "writable" if folder["writable"] else "NOT writable"
    return (
        f"{folder['what']}: {folder['path']}: {size}{there}{writable}, {in_bytes(folder['free_bytes'])} free"
    )


def _offline_words(offline: dict[str, Any]) -> str:
    told = ", ".join(f"{name}={offline[name]}" for name in OFFLINE if offline[name] is not None)
    match offline["asks_the_hub"]:
        case None:
            return f"network: unknown, since huggingface_hub cannot be imported ({told or 'nothing is set'})"
        case True:
            return f"network: models and datasets that are not in the cache are asked for ({told or 'nothing is set'})"
        case _:
            return f"network: none is used, only what is in the cache or on disk ({told})"
