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

import datasets
import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubHandler(BaseHTTPRequestHandler):
    """Answers what the Hub's client asks: the data set's description, its file tree, and the files with ranges."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which keeps a body back for 40 ms
    server: "HubServer"

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        path, name = self.path.partition("?")[0], self.server.dataset
        if listing := re.fullmatch(rf"/api/datasets/{name}/tree/[^/]+/?(.*)", path):
            self.respond(
                200, json.dumps(self.tree(unquote(listing[1]), "recursive=true" in self.path.lower())).encode()
            )
        elif re.fullmatch(rf"/api/datasets/{name}(/revision/.*)?", path):
            siblings = [{"rfilename": entry["path"]} for entry in self.tree() if entry["type"] == "file"]
            description = {"id": name, "sha": COMMIT, "private": False, "tags": [], "downloads": 0}
            self.respond(200, json.dumps({**description, "siblings": siblings}).encode())
        elif (match := re.fullmatch(rf"/datasets/{name}/resolve/[^/]+/(.+)", path)) and (
            file := self.server.folder / unquote(match[1])
        ).is_file():
            self.send_file(file)
        else:
            self.respond(404, b"not found", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)

    do_HEAD = do_GET  # noqa: N815

    def tree(self, under: str = "", recursive: bool = True) -> list[dict[str, Any]]:
        """The Hub's listing of a folder: files with sizes, and folders."""
        entries = []
        for path in sorted((self.server.folder / under).glob("**/*" if recursive else "*")):
            kind, content = ("file", path.read_bytes()) if path.is_file() else ("directory", b"")
            name, digest = path.relative_to(self.server.folder).as_posix(), hashlib.sha1(content).hexdigest()
            entries.append({"type": kind, "path": name, "size": len(content), "oid": digest})
        return entries

    def send_file(self, file: Path) -> None:
        content, status, cut = file.read_bytes(), 200, None
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(part[1]), int(part[2] or len(content) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        if self.command == "GET" and file.suffix == ".parquet":
            cut, self.server.cut_after = self.server.cut_after, None  # once
        self.respond(status, content, cut, **headers)

    def respond(self, status: int, content: bytes, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content_Length": str(len(content))}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:cut])
        self.close_connection = self.close_connection or cut is not None

    def log_message(self, *arguments: Any) -> None:
        pass


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, dataset: str, cut_after: int | None) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.folder, self.dataset, self.cut_after = folder, dataset, cut_after
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub_stand_in(folder: Path, dataset: str, cut_after: int | None = None) -> Iterator[HubServer]:
    """Serve `folder` as the data set; the first Parquet download breaks off after `cut_after` bytes, if given."""
    with HubServer(folder, dataset, cut_after) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:  # its thread would go round and round, and slow all later tests
            server.shutdown()


def ask_hub_at(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's client, which has read HF_ENDPOINT and HF_HOME when it was imported, ask this Hub."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
