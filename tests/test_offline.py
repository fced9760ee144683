"""With the network refused every local path works, and every hub path fails soon with one error that says what to do."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import probekit as pk
from probekit import cli
from probekit.analysis.api import (
    analyze,  # here, not by the first call: what is measured is the wait for the network
)
from probekit.errors import InputError, ModelError, ProbekitError
from probekit.model.folder import NANO_FOLDER
from probekit.model.hooked_model import load_hooked_model, load_reader
from probekit.text.corpus import as_corpus

MOST_SECONDS = 10
ROWS = [{"text": f"Returns the value of array {i}, as a list."} for i in range(30)]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No name is resolved and no connection made; what was tried is noted. The hub's own offline switch is off."""
    tried: list[Any] = []

    def refuse(*what: Any, **more: Any) -> Any:
        tried.append(what)
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    return tried


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that swallows everything: names are looked up for ever."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *what, **more: time.sleep(60))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)


HUB: dict[str, tuple[Callable[[], Any], type[ProbekitError], str]] = {
    "model": (lambda: load_hooked_model("gpt2"), ModelError, "pass the folder"),
    "short name": (
        lambda: load_hooked_model("pythia-70m"),
        ModelError,
        "'EleutherAI/pythia-70m' .*pass the folder",
    ),
    "checkpoint": (
        lambda: load_hooked_model("EleutherAI/pythia-70m@step3000"),
        ModelError,
        "pythia-70m@step3000' .*pass the folder",
    ),
    "tokenizer": (lambda: load_reader("someone/something"), ModelError, "pass the folder"),
    "dataset": (lambda: as_corpus("someone/texts"), InputError, r"hub cannot be reached; pass a local file"),
    "dataset at a revision": (
        lambda: pk.Corpus.from_dataset("someone/texts", split="train", revision="v1"),
        InputError,
        r"hub cannot be reached; pass a local file",
    ),
    "analyze": (lambda: analyze("gpt2", progress=False), ModelError, "pass the folder"),
    "corpus of analyze": (
        lambda: analyze("nano", "someone/texts", progress=False),
        InputError,
        "corpus='docs'",
    ),
}


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("name", HUB)
def test_hub_paths_fail_soon_where_the_network_is_refused(name: str) -> None:
    call, error, message = HUB[name]
    start = time.monotonic()
    with pytest.raises(error, match=message):
        call()
    assert time.monotonic() - start < MOST_SECONDS


@pytest.mark.slow
@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("name", ["model", "checkpoint", "dataset"])
def test_hub_paths_fail_soon_where_nothing_answers(name: str) -> None:
    call, error, message = HUB[name]
    start = time.monotonic()
    with pytest.raises(error, match=message):
        call()
    assert time.monotonic() - start < MOST_SECONDS


def test_the_network_was_really_asked(refused: list[Any]) -> None:
    """Positive control: without the refusal these calls would have gone out."""
    with pytest.raises(ModelError):
        load_hooked_model("no-such-organisation/no-such-model")
    assert refused
    tried = len(refused)
    with pytest.raises(InputError):
        as_corpus("no-such-organisation/no-such-texts")
    assert len(refused) > tried


def local_corpora(folder: Path) -> dict[str, Any]:
    import datasets

    columns = pa.Table.from_pylist(ROWS)
    (folder / "t.txt").write_text("<|endoftext|>".join(row["text"] for row in ROWS))
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    pq.write_table(columns, folder / "t.parquet")
    with pa.ipc.new_stream(folder / "t.arrow", columns.schema) as sink:
        sink.write_table(columns)
    (folder / "data").mkdir()
    pq.write_table(columns, folder / "data" / "train.parquet")
    held = datasets.Dataset.from_list(ROWS)
    held.save_to_disk(folder / "saved")
    names = ("t.txt", "t.jsonl", "t.parquet", "t.arrow", "data", "saved")
    return {name: str(folder / name) for name in names} | {
        "object": held,
        "texts": pk.Corpus.from_texts([r["text"] for r in ROWS]),
    }


def test_local_paths_work_where_the_network_is_refused(refused: list[Any], tmp_path: Path) -> None:
    reader = load_reader("nano")
    seen: dict[str, str] = {}
    for name, corpus in local_corpora(tmp_path).items():
        tokens = as_corpus(corpus).tokenize(
            reader.tokenizer, context=32, max_tokens=10_000, bos_id=reader.bos_id
        )
        assert tokens.n_docs == len(ROWS)
        seen[name] = tokens.fingerprint
    assert len(set(seen.values())) == 1, seen  # one text, one fingerprint, by whatever way
    assert next(pk.Corpus.docs().texts())
    folder = load_hooked_model(str(NANO_FOLDER))
    again = load_hooked_model(folder.bridge)
    assert folder.d_mlp == again.d_mlp
    assert refused == []


def test_a_whole_run_without_network(refused: list[Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [" value", " array", " of", " the", " list", " is"]
    (tmp_path / "t.txt").write_text("<|endoftext|>".join("".join(rng.choice(words, 30)) for _ in range(120)))
    run = analyze(
        "nano", str(tmp_path / "t.txt"), layers=[0], twins=4, max_pairs=20, min_support=20, progress=False,
        pairs="support",
    )  # fmt: skip
    assert len(run.pairs()) == 20
    assert refused == []


def test_the_offline_switch(
    refused: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--offline: nothing is even tried, and the message says so."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for words in (("analyze", "gpt2", "--offline"), ("concepts", "gpt2", "--offline")):
        monkeypatch.setattr(sys, "argv", ["probekit", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code == 5
        assert "HF_HUB_OFFLINE is set" in " ".join(capsys.readouterr().err.split())
        assert refused == []
