"""A Hugging Face hub on this machine, for one repository whose files lie in a folder.

Models are downloaded from it, data sets are pushed to it; it knows one user, `someone`, by the token `secret`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "secret"
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

    def do_POST(self) -> None:
        """Requests that push a data set; files arrive within the commit."""
        hub, path = self.server, self.path.partition("?")[0]
        hub.requests.append(f"POST {path}")
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self.chunks()
        place, found_at = f"/api/datasets/{hub.repository}", f"{hub.url}/datasets/{hub.repository}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401)
        if path == "/api/repos/create":
            owner, name = hub.repository.split("/")
            asked = json.loads(sent)
            if (asked.get("organization"), asked["name"], asked["type"]) != (owner, name, "dataset"):
                return self.refuse(403)
            found: dict = {"url": found_at}
        elif path == "/api/validate-yaml":
            found = {"errors": [], "warnings": []}
        elif path == f"{place}/preupload/main":
            files = json.loads(sent)["files"]
            found = {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]}
        elif path == f"{place}/commit/main":
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    file = hub.folder / line["value"]["path"]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(base64.b64decode(line["value"]["content"]))
            found = {"success": True, "commitOid": COMMIT, "commitUrl": f"{found_at}/commit/{COMMIT}", "hookOutput": ""}
        else:
            return self.refuse(404)
        self.send(json.dumps(found).encode(), {"Content-Type": "application/json"}, True)

    def chunks(self) -> bytes:
        """A body in chunks."""
        parts = []
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        return b"".join(parts)

    def answer(self, *, body: bool) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.requests.append(f"{self.command} {path}")
        start = f"/{hub.repository}/resolve/main/"
        if path == "/api/whoami-v2" and self.headers.get("Authorization") == f"Bearer {TOKEN}":
            self.send(json.dumps({"name": "someone"}).encode(), {"Content-Type": "application/json"}, body)
        elif path == f"/api/models/{hub.repository}":
            self.send(json.dumps(self.facts()).encode(), {"Content-Type": "application/json"}, body)
        elif path.startswith(start) and (file := hub.folder / path.removeprefix(start)).is_file():
            content = file.read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            content = bytes(len(content)) if hub.damage else content
            self.send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, body)
        else:
            self.refuse(401 if path == "/api/whoami-v2" else 404)

    def refuse(self, code: int) -> None:
        self.send_response(code)
        if code == 404:
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
