"""What a user gives as settings, from Python and from a file, and how it is held."""

from __future__ import annotations

import inspect
import json
import re
import typing
from pathlib import Path

import pytest

import probekit as pk
from probekit.analysis import settings
from probekit.analysis.settings import Settings, as_sizes, read_config
from probekit.cli import analysis as commands
from probekit.cli.resuming import _known
from probekit.errors import ConfigError, InputError, StoreError


def test_all_neurons_have_a_word() -> None:
    assert as_sizes((16, "all")) == as_sizes([16, 0]) == (16, 0)
    assert Settings(twin_ks=as_sizes((16, "all"))) == Settings(twin_ks=(16, 0))


@pytest.mark.parametrize("wrong", [(True,), (5,), (-1,)])
def test_no_other_size_is_taken(wrong: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"twin_ks: got .*, wanted sizes from \(1, 4, 16, 64\), or 'all'"):
        Settings(twin_ks=as_sizes(wrong))


def test_one_size_alone_is_a_list_of_one_and_nothing_is_none() -> None:
    assert as_sizes("all") == as_sizes(0) == (0,)
    assert as_sizes(64) == (64,)
    with pytest.raises(InputError, match="twin_ks: got '', wanted a list"):
        as_sizes("")


def test_a_file_may_use_the_word(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[science]\ntwin_ks = [16, "all"]\n')
    assert as_sizes(read_config(path)["twin_ks"]) == (16, 0)
    path.write_text('[science]\ntwin_ks = [16, "some"]\n')
    with pytest.raises(ConfigError, match=r"science\.twin_ks\.1.*got 'some'"):
        read_config(path)


class TestOneTable:
    """Every spelling of a setting follows from `Settings`, or is held against it here."""

    def test_keywords_and_their_defaults(self) -> None:
        defaults = Settings()
        for entry in (pk.analyze, pk.estimate):
            keywords = inspect.signature(entry).parameters
            assert Settings.of({name: keywords[name].default for name in settings.names()}) == defaults
        other = inspect.signature(pk.analyze_arrays).parameters
        shared = {name: other[name].default for name in settings.names() if name in other}
        assert len(shared) == 9
        assert Settings.of(shared) == defaults
        assert Settings.of({"twins": 4, "model": "no setting"}).twins == 4

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "run.toml"
        record = Settings().record()
        path.write_text(
            "[science]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in record.items())
        )
        read = read_config(path)
        assert list(read) == list(settings.names())
        assert Settings.of(read) == Settings()
        for name, value in record.items():  # each has its type: none takes a table
            path.write_text(f"[science]\n{name} = {{x = 1}}\n")
            with pytest.raises(ConfigError, match=rf"science\.{name}.*know max_tokens"):
                read_config(path)
            assert value is not None

    def test_what_is_resumed(self, tmp_path: Path) -> None:
        record = {"model": "nano", "pairs": None, **Settings().record()}
        assert Settings.of(_known(record, tmp_path)) == Settings()
        with pytest.raises(StoreError, match=r"no call that can be repeated \(out\)"):
            _known({**record, "out": "elsewhere"}, tmp_path)

    def test_what_the_shell_says_of_defaults(self) -> None:
        hints = typing.get_type_hints(commands.analyze, include_extras=True)
        said = {name: hints[name].__metadata__[0].help for name in settings.names() if name in hints}
        assert len(said) == 8
        for name, words in said.items():
            default = re.search(r"Default: ([\d.]*\d)\.?$", words)
            assert default is not None, (name, words)
            assert float(default[1]) == getattr(Settings(), name), name
