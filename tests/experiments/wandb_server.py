"""As much of W&B's server as a run needs to begin online: it accepts everything and remembers the names of what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Listens on a port of this machine until `stop`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: set[str] = set()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        if self.thread.is_alive():
            self.shutdown()
            self.server_close()
            self.thread.join()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.answer(json.loads(body)) if self.path == "/graphql" else {}
        text = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST  # noqa: N815  the name that http.server calls

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["query"].split()[1].split("(")[0]
        self.server.asked.add(name)
        project = {"id": "p", "name": "tests", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "r", "name": "run", "displayName": "run", "config": "{}", "historyLineCount": 0, "project": project}
        files = [{"name": file, "uploadUrl": f"{self.server.address}/put"} for file in request.get("variables", {}).get("files") or []]
        known = {
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
            "CreateRunFiles": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}},
        }
        return {"data": known.get(name, {"serverInfo": {"features": []}})}

    def log_message(self, *_: Any) -> None:
        """Silent."""


@contextmanager
def wandb_server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop()
