"""A Hugging Face hub on this machine, for one repository whose files lie in a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """requests: "METHOD /path" of everything that was asked. damage: whether files arrive with other bytes."""

    daemon_threads = True

    def __init__(self, repository: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository, self.folder = repository, folder
        self.requests: list[str] = []
        self.damage = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.requests.append(f"{self.command} {path}")
        start = f"/{hub.repository}/resolve/main/"
        if path == f"/api/models/{hub.repository}":
            self.send(json.dumps(self.facts()).encode(), {"Content-Type": "application/json"}, body)
        elif path.startswith(start) and (file := hub.folder / path.removeprefix(start)).is_file():
            content = file.read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            content = bytes(len(content)) if hub.damage else content
            self.send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def facts(self) -> dict:
        """What the hub says of the repository, with each file's size and sha256."""
        files = []
        for file in sorted(one for one in self.server.folder.rglob("*") if one.is_file()):
            content = file.read_bytes()
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            name = str(file.relative_to(self.server.folder))
            files.append({"rfilename": name, "size": len(content), "blobId": "0", "lfs": lfs})
        return {"id": self.server.repository, "sha": COMMIT, "siblings": files}

    def send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def hub_of(repository: str, folder: Path) -> Iterator[Hub]:
    with Hub(repository, folder) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()
