"""A web server of files in byte ranges, as object stores are: slow to answer, and faulty if told so."""

from __future__ import annotations

import email.utils
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Ranges(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        delay_s: before each answer.
        drop: answers with bytes that are still to be broken off halfway.
        most: requests that were at work at the same time, at most.
    """

    daemon_threads = True

    def __init__(self, folder: Path, delay_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder, self.delay_s, self.drop = folder, delay_s, 0
        self.requests = self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a last small packet would wait for an answer to those before
    server: Ranges

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        server = self.server
        with server.lock:
            server.requests += 1
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            time.sleep(server.delay_s)
            self._send(body=body)
        finally:
            with server.lock:
                server.now -= 1

    def _send(self, *, body: bool) -> None:
        path = self.server.folder / self.path.lstrip("/").partition("?")[0]
        if not path.is_file():
            self.send_error(404)
            return
        status = path.stat()
        first, last = 0, status.st_size - 1
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(max(0, last - first + 1)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{status.st_size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{status.st_mtime_ns:x}"')
        self.send_header("Last-Modified", email.utils.formatdate(status.st_mtime, usegmt=True))
        self.end_headers()
        if not body:
            return
        with path.open("rb") as file:
            file.seek(first)
            content = file.read(last - first + 1)
        with self.server.lock:
            broken = self.server.drop > 0 and asked is not None and first > 0
            self.server.drop -= broken
        if broken:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, delay_s: float = 0.0) -> Iterator[Ranges]:
    """Within, a server is at work in a thread."""
    server = Ranges(folder, delay_s)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    alone = Ranges(Path(sys.argv[1]), float(sys.argv[2]))
    print(alone.address, flush=True)
    alone.serve_forever()
