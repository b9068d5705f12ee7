"""The package in a process in which everything that only POSIX has is hidden, as on Windows.

The tests show that the branches for Windows import, work and refuse. They cannot show that locks and deletion behave on
Windows as its documentation says.
"""

import subprocess
import sys

import pytest

POSIX = """
import os, sys
import click, filelock, huggingface_hub, mmap, multiprocessing, onnxruntime, socket, sqlite3, tokenizers, tqdm
import numpy as np
from pathlib import Path
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
flags = {name: os.__dict__.pop(name) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY")}
for name in ("fork", "geteuid", "getuid", "mkfifo", "statvfs"):
    delattr(os, name)
sys.platform = "win32"
import refcolbert, refcolbert.cli
from refcolbert import Index
from refcolbert.errors import CorruptIndexError, IndexLocked
vars(os).update(flags)  # filelock chose its branch when it was imported
folder = Path(sys.argv[1])

def in_use(path):
    # Windows neither deletes nor replaces a file that a process has open or mapped.
    there = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
    opened = {os.readlink(link) for link in there if os.path.lexists(link)}
    return str(path) in opened or str(path) in Path("/proc/self/maps").read_text()

refused = []
def guarded(call):
    def guard(*paths):
        if in_use(paths[-1]):
            refused.append(paths[-1])
            raise PermissionError(13, "in use", str(paths[-1]))
        return call(*paths)
    return guard

os.unlink, os.replace = guarded(os.unlink), guarded(os.replace)
"""
LIFE = """
rows = [np.eye(4)[i % 4 : i % 4 + 2] for i in range(20)]
index = Index.create(folder / "i", dim=4, train_at=30)
index.add([{"id": str(i), "metadata": {"n": i}} for i in range(20)], vectors=rows)
reader = Index.open(folder / "i")
before = [hit.id for hit in reader.search(np.eye(4), 30)]
index.upsert([{"id": "3", "text": "new"}], vectors=rows[:1])
index.delete(["4", "5"])
for _ in range(3):
    index.compact(refit=True)
assert refused, "nothing was in use"
assert [hit.id for hit in reader.search(np.eye(4), 30)] == before
assert reader.get(["4"])[0].metadata == {"n": 4}
assert reader.refresh()
assert len(reader) == 18
reader.close()
index.compact()
index.compact()
assert len(list((folder / "i" / "data").glob("*-manifest.json"))) == 2
index.check()
index.snapshot(folder / "copy")
assert len(Index.open(folder / "copy")) == 18
"""
LINKS = """
Index.create(folder / "i", dim=4).add([{"id": "0"}], vectors=[np.eye(4)])
path = next((folder / "i" / "data").glob("*-vectors.npy"))
path.symlink_to(path.rename(folder / "elsewhere"))
try:
    Index.open(folder / "i")
except CorruptIndexError as error:
    assert "link" in str(error)
else:
    raise SystemExit("a link was followed")
"""
RETRY = """
from refcolbert.storage.durable import FileSystem
(folder / "a").write_bytes(b"new")
(folder / "b").write_bytes(b"old")
reading = (folder / "b").open("rb")
import threading
threading.Timer(0.2, reading.close).start()
FileSystem().replace(folder / "a", folder / "b")
assert (folder / "b").read_bytes() == b"new" and len(refused) > 1
(folder / "a").write_bytes(b"newer")
held = (folder / "b").open("rb")
try:
    FileSystem().replace(folder / "a", folder / "b")
except PermissionError:
    assert held.read() == b"new"
else:
    raise SystemExit("an open file was replaced")
"""
LOCK = """
Index.create(folder / "i", dim=4)
from refcolbert.storage.store import Store
with Store(folder / "i").writing():
    try:
        Index.open(folder / "i").compact()
    except IndexLocked as error:
        assert str(os.getpid()) in str(error)
    else:
        raise SystemExit("two writers")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="hides parts of Linux")
@pytest.mark.parametrize("script", [LIFE, LINKS, RETRY, LOCK], ids=["life", "links", "retry", "lock"])
def test_nothing_needs_posix(tmp_path, script):
    """With POSIX hidden the package imports, and an index is changed, refuses links, waits for readers and locks."""
    done = subprocess.run(
        [sys.executable, "-c", POSIX + script, str(tmp_path)], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
