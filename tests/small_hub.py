"""A hub of models on this machine, with the faults a real one can have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class SmallHub:
    """Files by (repository, file), served like those of the public hub: `resolve` redirects large ones elsewhere.

    Attributes:
        address: what `HF_ENDPOINT` should say.
        token: what a request must carry; None where everyone may read.
        status: answered instead of anything else, if set.
        stops_at: byte of a file where every connection breaks.
        breaks_after: bytes after which a connection breaks, wherever it began.
        knows_ranges: whether a request for the rest of a file gets just that.
        claims: content whose size and sha256 are named instead of those of what is sent.
        shortened: send half, and say that it is all.
        headless: answer as any web server does, without the headers of a hub.
        silent: close every connection without an answer.
        requests: what was asked, in order.
    """

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    token: str | None = None
    status: int | None = None
    stops_at: int | None = None
    breaks_after: int | None = None
    knows_ranges: bool = True
    claims: bytes | None = None
    shortened: bool = False
    headless: bool = False
    silent: bool = False
    requests: list[Request] = field(default_factory=list)
    address: str = ""
    elsewhere: str = ""

    def asked(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]


@contextmanager
def serving() -> Iterator[SmallHub]:
    """The hub, answering until the block ends."""
    hub = SmallHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    # Another host by name, as the public hub's storage is: what is said to the one must not be told to the other.
    hub.elsewhere = f"http://localhost:{server.server_port}/storage/"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: SmallHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        hub = self.hub
        hub.requests.append(Request(self.command, self.path, dict(self.headers.items())))
        if hub.silent:
            self.close_connection = True
        elif hub.status is not None:
            self._say(hub.status)
        elif self.path.startswith("/storage/"):
            repository, _, file = self.path.removeprefix("/storage/").partition("//")
            self._send(hub.files[repository, file])
        elif self.path.startswith("/api/models/"):
            repository = "/".join(self.path.split("/")[3:5])
            siblings = [{"rfilename": file} for owner, file in hub.files if owner == repository]
            self._say(200 if siblings else 404, body=json.dumps({"sha": COMMIT, "siblings": siblings}).encode())
        elif found := RESOLVE.fullmatch(self.path):
            self._resolve(found["repository"], found["file"])
        else:
            self._say(404)

    def _resolve(self, repository: str, file: str) -> None:
        hub = self.hub
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._say(401, {"X-Error-Code": "GatedRepo", "X-Repo-Commit": COMMIT})
        elif not any(owner == repository for owner, _ in hub.files):
            self._say(401 if self.headers.get("Authorization") is None else 404, {"X-Error-Code": "RepoNotFound"})
        elif (repository, file) not in hub.files:
            self._say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif hub.headless:
            self._say(200, body=b"<html>Please sign in</html>")
        else:
            named = hub.claims or hub.files[repository, file]
            about = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{sha256(named).hexdigest()}"',
                "X-Linked-Size": str(len(named)),
                "Location": f"{hub.elsewhere}{repository}//{file}",
            }
            self._say(302, about)

    def _send(self, content: bytes) -> None:
        """The bytes asked for, as far as the connection holds."""
        hub = self.hub
        if hub.shortened:
            content = content[: len(content) // 2]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if hub.knows_ranges else None
        first = int(asked[1]) if asked else 0
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(len(content) - first)}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if asked else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            last = hub.stops_at if hub.breaks_after is None else first + hub.breaks_after
            self.wfile.write(content[first:last])
            self.close_connection = last is not None

    def _say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
