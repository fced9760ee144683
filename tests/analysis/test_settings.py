"""What a user gives as settings, from Python and from a file, and how it is held."""

from __future__ import annotations

from pathlib import Path

import pytest

from probekit.analysis.settings import Settings, as_sizes, read_config
from probekit.errors import ConfigError, InputError


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
