"""A stand-in for the Hugging Face Hub: serves the files of one data set over HTTP on this machine."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubHandler(BaseHTTPRequestHandler):
    """Answers what the Hub's client asks: the data set's description, its file tree, and the files with ranges."""

    protocol_version = "HTTP/1.1"
    server: "HubServer"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")
        path = self.path.partition("?")[0]
        name = self.server.dataset
        if listing := re.fullmatch(rf"/api/datasets/{name}/tree/[^/]+/?(.*)", path):
            self.send_json(self.tree(unquote(listing.group(1)), "recursive=true" in self.path.lower()), with_body)
        elif path == f"/api/datasets/{name}" or path.startswith(f"/api/datasets/{name}/revision/"):
            siblings = [{"rfilename": entry["path"]} for entry in self.tree()]
            self.send_json(
                {"id": name, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "siblings": siblings},
                with_body,
            )
        elif match := re.fullmatch(rf"/datasets/{name}/resolve/[^/]+/(.+)", path):
            self.send_file(self.server.folder / unquote(match.group(1)), with_body)
        else:
            self.send_bytes(404, b"not found", {"X-Error-Code": "EntryNotFound"}, with_body)

    def tree(self, under: str = "", recursive: bool = True) -> list[dict[str, Any]]:
        """The Hub's listing of a folder: files with sizes and, where it is not recursive, the folders in it."""
        entries = []
        folder = self.server.folder / under
        for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
            name = path.relative_to(self.server.folder).as_posix()
            if path.is_file():
                digest = hashlib.sha1(path.read_bytes()).hexdigest()
                entries.append({"type": "file", "path": name, "size": path.stat().st_size, "oid": digest})
            elif not recursive:
                entries.append({"type": "directory", "path": name, "size": 0, "oid": COMMIT})
        return entries

    def send_file(self, path: Path, with_body: bool) -> None:
        if not path.is_file():
            self.send_bytes(
                404, b"Entry not found", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, with_body
            )
            return
        content = path.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        status = 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted.group(1)), int(wanted.group(2) or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        cut = self.server.cut_after
        if with_body and cut is not None and path.suffix == ".parquet":
            self.server.cut_after = None  # once
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[:cut])
            self.close_connection = True
            return
        self.send_bytes(status, content, headers, with_body)

    def send_json(self, value: Any, with_body: bool) -> None:
        self.send_bytes(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, with_body)

    def send_bytes(self, status: int, content: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, dataset: str, cut_after: int | None) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.folder = folder
        self.dataset = dataset
        self.cut_after = cut_after
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub_stand_in(folder: Path, dataset: str, cut_after: int | None = None) -> Iterator[HubServer]:
    """Serve `folder` as the data set; the first Parquet download breaks off after `cut_after` bytes, if given."""
    server = HubServer(folder, dataset, cut_after)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
