"""Writes the reference of the command line from the commands themselves, when the pages are built."""

from __future__ import annotations

from typing import Any

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put every command with its arguments and options in place of the mark."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n\n".join(_commands()))


def _commands() -> list[str]:
    import typer

    from probekit.cli import app

    root = typer.main.get_command(app)
    return [text for name, command in _walk(root, ()) for text in _told(name, command)]


def _walk(command: Any, path: tuple[str, ...]) -> list[tuple[str, Any]]:
    below = [
        pair
        for name, child in getattr(command, "commands", {}).items()
        for pair in _walk(child, (*path, name))
    ]
    return ([(" ".join(path), command)] if path else []) + below


def _told(name: str, command: Any) -> list[str]:
    paragraphs = (command.help or "").split("\n\n")
    text = [" ".join(part.split()) for part in paragraphs]
    told = [
        f"## probekit {name}",
        *(f"`{part[9:]}`" if part.startswith("Example: ") else part for part in text),
    ]
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        told.append("\n".join(["| Argument or option | Meaning |", "|---|---|", *rows]))
    return told


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [parameter.name.upper()]
    shown = ", ".join(f"`{name}`" for name in names)
    words = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    words = words.replace("\\[", "[")  # escaped for the terminal, where brackets are markup
    return f"| {shown} | {words} |"
