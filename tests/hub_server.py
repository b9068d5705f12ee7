"""A local server that speaks the protocol of the Hugging Face hub, as far as a download needs it."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMITS = {"main": "1" * 40, "v1": "2" * 40}  # both hold the same files


class Hub(ThreadingHTTPServer):
    """Repositories by their ids, each a folder; `sent` lists the files whose content was sent."""

    def __init__(self, repositories) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = repositories
        self.sent = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def run(self, cache, *arguments):
        """Run Python with this hub as its only one and `cache` as its folder of downloads."""
        env = os.environ | {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
        env = {name: value for name, value in env.items() if name not in ("HF_HUB_CACHE", "HF_TOKEN")}
        return subprocess.run([sys.executable, *map(str, arguments)], env=env, capture_output=True, text=True)


class Handler(BaseHTTPRequestHandler):
    """Model info, tree of files, and files; safetensors are answered with a redirection, as large files are."""

    def do_GET(self):
        """Any path of the protocol."""
        path = unquote(urlsplit(self.path).path).strip("/")
        if match := re.fullmatch(r"api/models/([^/]+/[^/]+?)(?:/(revision|tree)/([^/]+))?", path):
            return self.info(*match.groups())
        if match := re.fullmatch(r"([^/]+/[^/]+)/(resolve|cdn)/([^/]+)/(.+)", path):
            return self.file(*match.groups())
        return self.answer(404, b"", {})

    do_HEAD = do_GET  # noqa: N815

    def info(self, repository, what, revision):
        """JSON about a repository: its commit and names, or its files one by one."""
        folder, commit = self.server.repositories.get(repository), commit_of(revision or "main")
        if folder is None or commit is None:
            code = "RepoNotFound" if folder is None else "RevisionNotFound"
            return self.answer(404, b"{}", {"X-Error-Code": code})
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        if what == "tree":
            sizes = {name: (folder / name).stat().st_size for name in names}
            found = [{"type": "file", "path": n, "size": sizes[n], "oid": etag(folder / n)} for n in names]
        else:
            found = {"_id": "0", "id": repository, "sha": commit, "private": False, "tags": [], "downloads": 0}
            found["siblings"] = [{"rfilename": name} for name in names]
        return self.answer(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def file(self, repository, kind, revision, name):
        """One file, with the commit that it belongs to."""
        path, commit = self.server.repositories[repository] / name, commit_of(revision)
        if not path.is_file():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag(path)}"'}
        if kind == "resolve" and path.suffix == ".safetensors":
            linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(path.stat().st_size)}
            location = {"Location": f"{self.server.url}/{repository}/cdn/{revision}/{name}"}
            return self.answer(302, b"", headers | linked | location)
        if self.command == "GET":
            self.server.sent.append(name)
        return self.answer(200, path.read_bytes(), headers)

    def answer(self, status, body, headers):
        """Send a response."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *unused):
        """Nothing on stderr."""


def etag(path):
    """A name for a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commit_of(revision):
    """The commit of a branch, tag or commit."""
    return revision if revision in COMMITS.values() else COMMITS.get(revision)


@contextmanager
def serving(repositories):
    """A hub of these repositories, which ends with the block."""
    with Hub(repositories) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
