"""Reading a store back without importing mlflow: over REST from a server, or straight from the SQLite file."""

import json
import sqlite3
import time
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any


class Server:
    """A running MLflow server as its reader sees it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(url.rsplit(":", 1)[1])

    def call(self, path: str, /, *, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        url = f"{self.url}/api/2.0/mlflow/{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def runs(self, uid: str, *, view: str = "ACTIVE_ONLY") -> list[dict[str, Any]]:
        experiments = self.call("experiments/search", max_results=1000)["experiments"]
        body = {
            "experiment_ids": [experiment["experiment_id"] for experiment in experiments],
            "filter": f"tags.`framework.run_uid` = '{uid}'",
            "run_view_type": view,
        }
        return self.call("runs/search", body=body).get("runs", [])

    def run(self, uid: str) -> dict[str, Any]:
        """The one run of this uid: a twin is a failure."""
        found = self.runs(uid)
        assert len(found) == 1, f"{len(found)} runs for one uid"
        return found[0]

    def wait_for_run(self, uid: str, *, timeout_seconds: float = 60.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.runs(uid):
                return self.run(uid)
            time.sleep(0.2)
        raise AssertionError("the run never appeared")

    def points(self, uid: str, name: str) -> list[tuple[int, float]]:
        """All stored `(step, value)` of a metric, sorted, repeats included."""
        run_id = self.run(uid)["info"]["run_id"]
        points: list[tuple[int, float]] = []
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            answer = self.call("metrics/get-history", run_id=run_id, metric_key=name, max_results=20000, **more)
            points += [(int(m["step"]), m["value"]) for m in answer.get("metrics", [])]
            token = answer.get("next_page_token", "")
            if not token:
                return sorted(points)

    def tags(self, uid: str) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.run(uid)["data"].get("tags", [])}

    def params(self, uid: str) -> dict[str, str]:
        return {param["key"]: param["value"] for param in self.run(uid)["data"].get("params", [])}

    def status(self, uid: str) -> str:
        return self.run(uid)["info"]["status"]

    def files(self, uid: str, folder: str) -> list[str]:
        run_id = self.run(uid)["info"]["run_id"]
        found = self.call("artifacts/list", run_id=run_id, path=folder).get("files", [])
        return sorted(file["path"] for file in found)


class Database:
    """The embedded store, read with nothing but sqlite3."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            return connection.execute(sql, values).fetchall()

    def run_id(self, uid: str) -> str:
        found = self.query("SELECT run_uuid FROM tags WHERE key = 'framework.run_uid' AND value = ?", uid)
        assert len(found) == 1, f"{len(found)} runs for one uid"
        return found[0][0]

    def points(self, uid: str, name: str) -> list[tuple[int, float]]:
        run_id = self.run_id(uid)
        return sorted(self.query("SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ?", run_id, name))

    def tags(self, uid: str) -> dict[str, str]:
        return dict(self.query("SELECT key, value FROM tags WHERE run_uuid = ?", self.run_id(uid)))

    def params(self, uid: str) -> dict[str, str]:
        return dict(self.query("SELECT key, value FROM params WHERE run_uuid = ?", self.run_id(uid)))

    def status(self, uid: str) -> str:
        return self.query("SELECT status FROM runs WHERE run_uuid = ?", self.run_id(uid))[0][0]

    def artifacts(self, uid: str) -> Path:
        location = self.query("SELECT artifact_uri FROM runs WHERE run_uuid = ?", self.run_id(uid))[0][0]
        return Path(urllib.parse.urlsplit(location).path)
