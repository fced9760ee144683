"""A run's explorer on disk and over HTTP: what it holds, what it replaces, whom it answers."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import run

import probekit as pk
from probekit.errors import InputError, StaleError, StoreError
from probekit.results.explore import Details, files_of
from probekit.results.serving import ExplorerServer


@pytest.fixture(scope="module")
def folder(planted_run: pk.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_run.explore(tmp_path_factory.mktemp("explore") / "out", contexts=5).parent


@pytest.fixture(scope="module")
def details(planted_run: pk.Run) -> Details:
    return Details(planted_run)


def held(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class TestFolder:
    def test_is_what_the_run_says_and_leaves_no_debris(
        self, planted_run: pk.Run, folder: Path, details: Details
    ):
        assert held(folder) == files_of(pk.load(planted_run.path), details, 5)
        assert [path.name for path in folder.parent.iterdir()] == ["out"]

    def test_details_are_those_of_the_pair(self, planted_run: pk.Run, details: Details):
        best = planted_run.top(0, 1).iloc[0]
        pairs = details.pairs
        row = int(pairs.index[(pairs["a"] == best["a"]) & (pairs["b"] == best["b"])][0])
        look, mine = planted_run.pair(best["a"], best["b"]), details.of(row)
        assert mine["twins"] == look.twins["d_prime"].tolist()
        for quadrant in look.quadrants.to_dict("records"):
            assert mine["counts"][quadrant["quadrant"]] == quadrant["counts"]
        shown = look.contexts[look.contexts["quadrant"] == "11"]
        assert len(shown) > 0
        assert [entry[3] for entry in mine["contexts"]["11"]] == shown["value"].tolist()
        assert [entry[1] for entry in mine["contexts"]["11"]] == [
            t.replace("\n", "↵") for t in shown["token"]
        ]

    def test_how_many_pairs_have_tokens(self, planted_run: pk.Run, folder: Path, details: Details):
        def n_detailed(contexts: int | None) -> int:
            files = files_of(planted_run, details, contexts)
            return sum(
                len(json.loads(data[17:-3])) for name, data in files.items() if name.startswith("details/")
            )

        assert n_detailed(5) == 5
        assert n_detailed(0) == 0
        assert n_detailed(None) == len(planted_run.pairs())
        with pytest.raises(InputError, match=r"contexts: got -1, wanted a whole number ≥ 0, or None"):
            planted_run.explore(folder, contexts=-1)

    def test_is_written_again_in_its_own_place(self, planted_run: pk.Run, folder: Path, tmp_path: Path):
        out = tmp_path / "again"
        shutil.copytree(folder, out)
        (out / "meta.js").write_text("damaged")
        planted_run.explore(out, contexts=5)
        assert held(out) == held(folder)

    def test_nothing_but_an_explorer_is_replaced(self, planted_run: pk.Run, folder: Path, tmp_path: Path):
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        (theirs / "thesis.tex").write_text("years of work")
        for force in (False, True):
            with pytest.raises(
                StaleError, match=r"theirs: holds files that are no explorer \(thesis\.tex\); choose an empty"
            ):
                planted_run.explore(theirs, force=force)
        assert held(theirs) == {"thesis.tex": b"years of work"}
        # an explorer with somebody's file in it, a run, a file, and what lies behind a link
        mixed = shutil.copytree(folder, tmp_path / "mixed")
        (mixed / "notes.txt").write_text("mine")
        with pytest.raises(
            StaleError, match=r"mixed: an explorer, and files that do not belong to it \(notes\.txt\)"
        ):
            planted_run.explore(mixed, force=True)
        with pytest.raises(StaleError, match="holds files that are no explorer"):
            planted_run.explore(planted_run.path, force=True)
        with pytest.raises(StoreError, match="a file, wanted a folder"):
            planted_run.explore(theirs / "thesis.tex")
        link = tmp_path / "link"
        link.symlink_to(theirs)
        with pytest.raises(StaleError, match="holds files that are no explorer"):
            planted_run.explore(link, force=True)
        assert held(theirs) == {"thesis.tex": b"years of work"}

    def test_another_runs_explorer_takes_force(self, planted_run: pk.Run, folder: Path, tmp_path: Path):
        other = shutil.copytree(folder, tmp_path / "other")
        record = json.loads((other / "explorer.json").read_text())
        (other / "explorer.json").write_text(json.dumps({**record, "identity": "1" * 64}))
        with pytest.raises(
            StaleError, match=r"holds the explorer of another run. Choose another --out, or --force"
        ):
            planted_run.explore(other, contexts=5)
        planted_run.explore(other, contexts=5, force=True)
        assert held(other) == held(folder)

    def test_a_run_of_an_older_version(self, planted_run: pk.Run, tmp_path: Path):
        old = shutil.copytree(planted_run.path, tmp_path / "old")
        shutil.rmtree(old / "pair_details")
        with pytest.raises(StoreError, match=r"layer-00\.parquet: missing.*older version"):
            pk.load(old).explore(tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestServed:
    @pytest.fixture(scope="class")
    def server(self, planted_run: pk.Run, details: Details) -> Iterator[ExplorerServer]:
        with ExplorerServer(files_of(planted_run, details, 0), details) as held:
            thread = threading.Thread(target=held.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            yield held
            held.shutdown()
            thread.join()

    @staticmethod
    def ask(
        server: ExplorerServer, target: str, host: str | None = None, method: str = "GET"
    ) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
        connection.request(method, target, headers={} if host is None else {"host": host})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer.headers

    def test_listens_to_this_machine_alone(self, server: ExplorerServer):
        assert server.server_address[0] == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"

    def test_answers_with_its_files_and_says_that_it_makes_the_rest(self, server: ExplorerServer):
        for target, name in (
            ("/", "index.html"),
            ("/columns/d_prime.js?x=1", "columns/d_prime.js"),
            ("/explorer.css", "explorer.css"),
        ):
            status, body, headers = self.ask(server, target)
            assert (status, body) == (200, server.files[name])
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert headers["X-Content-Type-Options"] == "nosniff"
        assert self.ask(server, "/mode.js")[1] == b"explorer.mode(true);\n"
        status, body, headers = self.ask(server, "/meta.js", method="HEAD")
        assert (status, body, int(headers["Content-Length"])) == (200, b"", len(server.files["meta.js"]))

    def test_makes_one_pair_on_demand(self, server: ExplorerServer, details: Details):
        last = len(details.pairs) - 1
        status, body, _ = self.ask(server, f"/details/row-{last}.js")
        assert status == 200
        assert json.loads(body[17:-3]) == {str(last): details.of(last)}
        assert self.ask(server, f"/details/row-{last + 1}.js")[0] == 404

    @pytest.mark.parametrize(
        "target",
        [
            "/../run.json", "/columns/../../run.json", "/%2e%2e/run.json", "//etc/passwd", "/etc/passwd", "/columns/",
            "/details/row--1.js", "/details/row-1.js/../../run.json", "/explorer.js%00.html", "/details/row-%31.js",
        ],
    )  # fmt: skip
    def test_nothing_else_is_reached(self, server: ExplorerServer, target: str):
        assert self.ask(server, target)[0] == 404

    def test_another_name_for_this_machine_is_refused(self, server: ExplorerServer):
        """What a page of another site can make a browser send after pointing its own name at 127.0.0.1."""
        port = server.server_address[1]
        for host in (
            f"evil.example:{port}",
            "evil.example",
            f"127.0.0.1.evil.example:{port}",
            "",
            f"0.0.0.0:{port}",
        ):
            status, body, _ = self.ask(server, "/meta.js", host=host)
            assert status == 403, host
            assert b"127.0.0.1 and localhost" in body
        for host in (f"localhost:{port}", "127.0.0.1", "localhost:9999"):  # a tunnel has a port of its own
            assert self.ask(server, "/meta.js", host=host)[0] == 200, host

    def test_only_reading(self, server: ExplorerServer):
        assert self.ask(server, "/meta.js", method="POST")[0] == 501

    def test_a_port_that_is_none(self, server: ExplorerServer, details: Details):
        with pytest.raises(InputError, match=r"port: got 70000, wanted 0 \(any free one\) to 65535"):
            ExplorerServer({}, details, 70_000)
        with pytest.raises(StoreError, match=r"port \d+: cannot be listened on \(.*\); choose another"):
            ExplorerServer({}, details, server.server_address[1])


class TestCommand:
    def test_writes_a_folder(
        self, capsys: pytest.CaptureFixture[str], planted_run: pk.Run, folder: Path, tmp_path: Path
    ):
        out = tmp_path / "out"
        code, _, err = run(capsys, "explore", str(planted_run.path), "--out", str(out), "--contexts", "5")
        assert code == 0
        assert str(out / "index.html") in err
        assert held(out) == held(folder)
        code, _, err = run(capsys, "explore", str(planted_run.path), "--out", str(tmp_path), "--force")
        assert code == 3
        assert "holds files that are no explorer" in err
        code, _, err = run(capsys, "explore", str(planted_run.path), "--out", str(out), "--contexts", "few")
        assert code == 2
        assert "--contexts: got 'few', wanted a whole number, or all" in err

    def test_serves_until_ctrl_c(
        self, capsys: pytest.CaptureFixture[str], planted_run: pk.Run, monkeypatch: pytest.MonkeyPatch
    ):
        asked: list[int] = []

        def serve(self: ExplorerServer, poll_interval: float) -> None:
            asked.append(len(self.files))
            raise KeyboardInterrupt

        monkeypatch.setattr(ExplorerServer, "serve_forever", serve)
        code, out, err = run(capsys, "explore", str(planted_run.path))
        assert code == 0
        assert out.startswith("http://127.0.0.1:")
        assert "Ctrl-C ends it. closed." in err
        assert asked[0] > 50
