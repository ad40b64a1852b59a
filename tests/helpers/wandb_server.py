"""A stand-in for W&B's server on loopback: it keeps what wandb sends, or fails in a chosen way.

wandb makes a run by GraphQL, streams its history and summary to `/files/<entity>/<project>/<run>/file_stream`, and
uploads its files, and those of artifacts, by PUT to addresses that it has asked for by GraphQL.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("error", "hang", "die")
ENTITY = "somebody"
SAYS = {
    403: "permission denied: the run is locked",
    409: "run was previously created and deleted; try a new run name",
    413: "request entity too large",
}


class Refusal(Exception):
    """An answer that is an error: its HTTP status."""


@dataclass
class Run:
    """facts: the variables of UpsertBucket: groupName, jobType, displayName, tags, ... media: by path, such as
    `media/images/...`. history: its rows. events: of the machine. used: the names of its input artifacts. exit_code:
    None until the run is over. begun: how often it was begun."""

    project: str
    facts: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    begun: int = 0

    def media(self, key: str) -> bytes:
        """The file behind an image, a table or a page of the summary."""
        return self.files[self.summary[key]["path"]]


@dataclass
class Artifact:
    run: str
    type: str
    name: str
    digest: str
    metadata: dict
    committed: bool = False
    files: dict[str, bytes] = field(default_factory=dict)


class WandbServer:
    """Serves at `url` from `with WandbServer() as server` to the end of the block.

    fault: error answers 500, hang accepts and never answers, die closes every connection and the port.
    after: the number of the run whose beginning is the last request that is answered; 0: none is. entity: the
    account's default one. refused, cut, large: by the ids of runs, the HTTP status that answers beginning a run,
    sending its rows, or uploading its files.
    """

    def __init__(self, fault: str | None = None, *, after: int = 0, entity: str = ENTITY):
        assert fault is None or fault in FAULTS
        self.fault, self.after, self.entity = fault, after, entity
        self.refused: dict[str, int] = {}
        self.cut: dict[str, int] = {}
        self.large: dict[str, int] = {}
        self.runs: dict[str, Run] = {}
        self.artifacts: list[Artifact] = []
        self.views: dict[str, dict] = {}
        self.requests = 0
        self.lock, self.is_over = threading.Lock(), threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads, self.http.block_on_close, self.http.owner = True, False, self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        if not self.is_over.is_set():
            self.is_over.set()
            self.http.shutdown()
            self.http.server_close()

    def environment(self) -> dict[str, str]:
        """What sends a process's wandb here, with an account."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0123456789" * 4}

    def of_type(self, kind: str) -> list[Artifact]:
        """Artifacts of a type that are complete."""
        return [artifact for artifact in self.artifacts if artifact.type == kind and artifact.committed]

    # What each GraphQL operation answers; variables as wandb names them.

    def Viewer(self, **_) -> dict:
        names = {"entity": self.entity, "username": self.entity}
        return {"viewer": {"id": "1", **names, "flags": "{}", "teams": {"edges": []}}}

    def RunResumeStatus(self, *, name: str, project: str, entity: str | None = None, **_) -> dict:
        run = self.runs.get(name)
        bucket = run and {
            "id": name,
            "name": name,
            "displayName": run.facts.get("displayName"),
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps(run.config),
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "tags": run.facts.get("tags", []),
            "wandbConfig": json.dumps({"t": 1}),
        }
        of = {"id": "1", "name": entity or self.entity}
        return {"model": {"id": "1", "name": project, "entity": of, "bucket": bucket}}

    def UpsertBucket(self, *, name: str, project: str, config: str = "{}", summaryMetrics: str = "{}", **facts) -> dict:
        if name in self.refused:
            raise Refusal(self.refused[name])
        run = self.runs.setdefault(name, Run(project))
        run.begun += 1
        run.facts.update({key: value for key, value in facts.items() if value is not None})
        run.config.update(json.loads(config or "{}"))
        run.summary.update(json.loads(summaryMetrics or "{}"))
        of = {"id": "1", "name": project, "entity": {"id": "1", "name": facts.get("entity") or self.entity}}
        shown = {"displayName": run.facts.get("displayName"), "config": json.dumps(run.config)}
        bucket = {"id": name, "name": name, "project": of, "historyLineCount": len(run.history), **shown}
        return {"upsertBucket": {"bucket": bucket, "inserted": run.begun == 1}}

    def CreateRunFiles(self, *, run: str, files: list[str], **_) -> dict:
        urls = [{"name": name, "uploadUrl": f"{self.url}/run/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": urls}}

    def ArtifactType(self, **_) -> dict:
        return {"project": {"artifact": None}}

    def CreateArtifact(self, *, input: dict) -> dict:
        artifact = Artifact(
            run=input["runName"],
            type=input["artifactTypeName"],
            name=input["artifactCollectionName"],
            digest=input["digest"],
            metadata=json.loads(input.get("metadata") or "{}"),
        )
        known = [i for i, other in enumerate(self.artifacts) if other.committed and same_contents(other, artifact)]
        if not known:
            self.artifacts.append(artifact)
        number = known[0] if known else len(self.artifacts) - 1
        state = "COMMITTED" if known else "PENDING"
        latest = {"id": "1", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": str(number), "state": state, "artifactSequence": latest}}}

    def CreateArtifactManifest(self, *, artifactID: str, **_) -> dict:
        file = {"id": artifactID, "uploadUrl": f"{self.url}/manifest/{artifactID}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": artifactID, "file": file}}}

    def UpdateArtifactManifest(self, *, artifactManifestID: str, **_) -> dict:
        answer = self.CreateArtifactManifest(artifactID=artifactManifestID)
        return {"updateArtifactManifest": answer["createArtifactManifest"]}

    def CreateArtifactFiles(self, *, input: dict) -> dict:
        nodes = [
            {
                "storagePath": file["name"],
                "uploadUrl": f"{self.url}/artifact/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in input["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def CommitArtifact(self, *, artifactID: str) -> dict:
        artifact = self.artifacts[int(artifactID)]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": artifact.digest}}}

    def UseArtifact(self, *, input: dict) -> dict:
        self.runs[input["runName"]].used.append(self.artifacts[int(input["artifactID"])].name)
        return {"useArtifact": {"artifact": {"id": input["artifactID"]}}}

    def UpsertView2(self, *, name: str, **view) -> dict:
        is_new = name not in self.views
        self.views[name] = view
        return {"upsertView": {"view": {"id": name, "name": name}, "inserted": is_new}}

    # What arrives outside GraphQL.

    def stream(self, run: str, body: dict) -> None:
        """History is appended at its offset; each line of the summary is a whole one."""
        if run in self.cut:
            raise Refusal(self.cut[run])
        files = body.get("files", {})
        if part := files.get("wandb-history.jsonl"):
            self.runs[run].history[part["offset"] :] = map(json.loads, part["content"])
        if part := files.get("wandb-events.jsonl"):
            self.runs[run].events += map(json.loads, part["content"])
        if part := files.get("wandb-summary.json"):
            self.runs[run].summary = json.loads(part["content"][-1])
        if body.get("complete"):
            self.runs[run].exit_code = body["exitcode"]

    def store(self, kind: str, owner: str, name: str, data: bytes) -> None:
        if kind == "run" and owner in self.large:
            raise Refusal(self.large[owner])
        if kind == "run":
            self.runs[owner].files[name] = data
        elif kind == "artifact":
            self.artifacts[int(owner)].files[name] = data


def same_contents(one: Artifact, other: Artifact) -> bool:
    return (one.type, one.name, one.digest) == (other.type, other.name, other.digest)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as by the real server

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the other side is gone
            self.close_connection = True

    def do_GET(self) -> None:
        self.respond(lambda server, body: {})

    def do_POST(self) -> None:
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.respond(lambda server, body: server.stream(match[1], json.loads(body)) or {})
        else:
            self.respond(graphql)

    def do_PUT(self) -> None:
        kind, owner, *name = self.path.strip("/").split("/")
        self.respond(lambda server, body: server.store(kind, owner, "/".join(name), body) or {})

    def respond(self, action) -> None:
        server, body = self.server.owner, self.rfile.read(int(self.headers["Content-Length"] or 0))
        with server.lock:
            is_faulty = server.fault and len(server.runs) >= server.after
            server.requests += 1
            status, answer = 500, {}
            if not is_faulty:
                try:
                    status, answer = 200, action(server, body)
                except Refusal as refusal:
                    (status,) = refusal.args
                    answer = {"errors": [{"message": SAYS.get(status, "refused")}], "data": None}
        if is_faulty and server.fault == "hang":
            server.is_over.wait()
        if server.is_over.is_set() or (is_faulty and server.fault == "die"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return server.close()
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        pass


def graphql(server: WandbServer, body: bytes) -> dict:
    """An operation that isn't known here gets no data, which wandb takes as an older server's answer."""
    request = json.loads(body)
    operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
    answer = getattr(server, operation, lambda **_: {})
    return {"data": answer(**(request.get("variables") or {}))}
