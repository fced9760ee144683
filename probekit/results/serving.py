"""The explorer over HTTP, for the browser of this machine alone.

The files are held in memory and asked for by name, so that no request can name anything else on the disk; what is in none of
them (the tokens of a pair that is not among the strongest) is made when somebody opens the pair. Another site cannot read a
run through the visitor's browser: requests must name this machine as their host (a name that an attacker points at 127.0.0.1
is refused), and answers say that no other origin may load them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from probekit.errors import InputError, StoreError
from probekit.report.explorer import detail_script, mode
from probekit.results.explore import Details

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
"""Hosts that a request may name; any port, since a tunnel (ssh -L) may lead here from another one."""
TYPES = {
    "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
    "json": "application/json",
}  # fmt: skip
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_ONE_PAIR = re.compile(r"details/row-(\d{1,9})\.js")


class ExplorerServer(ThreadingHTTPServer):
    """Answers for one run until it is closed.

    Args:
        files: the explorer's files, name → bytes.
        details: of the run, for pairs whose tokens lie in no file.
        port: 0: one that the operating system chooses.

    Raises:
        InputError: no such port.
        StoreError: the port is in use, or may not be used.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], details: Details, port: int = 0) -> None:
        if not 0 <= port < 2**16:
            raise InputError(f"port: got {port}, wanted 0 (any free one) to 65535.")
        self.files: dict[str, bytes] = {**files, "mode.js": mode(on_demand=True)}
        self.details: Details = details
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise StoreError(
                f"port {port}: cannot be listened on ({error.strerror}); choose another, or leave it out for a free one."
            ) from error

    @property
    def url(self) -> str:
        """What to open."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def answer(self, target: str) -> tuple[bytes, str] | None:
        """The bytes of a request's target and their type; None where there is no such thing."""
        name = urlsplit(target).path.removeprefix("/") or "index.html"
        data = self.files.get(name)
        if data is not None:
            return data, TYPES[name.rpartition(".")[2]]
        asked = _ONE_PAIR.fullmatch(name)
        if asked is None or int(asked[1]) >= len(self.details.pairs):
            return None
        row = int(asked[1])
        return detail_script(row, self.details.of(row)), TYPES["js"]


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server_version = "probekit"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a file or a pair."""
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        """The same without the bytes."""
        self._respond(with_body=False)

    def _respond(self, *, with_body: bool) -> None:
        assert isinstance(self.server, ExplorerServer)
        host = (self.headers.get("host") or "").rpartition(":")
        if (host[0] or host[2]) not in NAMES:
            self._send(
                HTTPStatus.FORBIDDEN,
                b"This explorer answers to 127.0.0.1 and localhost.\n",
                "text/plain",
                with_body,
            )
            return
        found = self.server.answer(self.path)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, b"No such file in this explorer.\n", "text/plain", with_body)
            return
        self._send(HTTPStatus.OK, found[0], found[1], with_body)

    def _send(self, status: HTTPStatus, data: bytes, kind: str, with_body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""
