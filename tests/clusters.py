"""Builds for the tests of refcolbert.cluster, and mishaps of their workers. Workers import this module."""

import hashlib
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from distributed import WorkerPlugin

from refcolbert import Encoder, cluster

TINY = Path(__file__).parent / "models" / "tiny"
WORDS = "strptime turns a text into date csv reader gives each row as list open file path read write bytes"
SETTINGS = {"train_at": 500, "nbits": 2}


def documents(n=240):
    """Short texts, all different."""
    words = WORDS.split()
    return [
        {"id": f"d{i}", "text": " ".join(words[i * k % 17] for k in range(3, 9)) + f" {i}", "metadata": {"n": i}}
        for i in range(n)
    ]


def parts(n=4):
    """The documents in n partitions."""
    docs = documents()
    size = -(-len(docs) // n)
    return [docs[i : i + size] for i in range(0, len(docs), size)]


def tree(folder):
    """The hash of every file of a folder, by path."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def times(folder):
    """The time of change of each shard's manifest, by name."""
    return {
        path.parent.name: path.stat().st_mtime_ns for path in Path(folder).glob("shard-*-????????????/manifest.json")
    }


class SignalIn(WorkerPlugin):
    """Sends a signal to one worker process, once, some time after it has begun a step. The flag has its number."""

    def __init__(self, step, flag, after=0.0, number=signal.SIGKILL, host="") -> None:
        self.step, self.flag, self.after, self.number, self.host = step, flag, after, number, host
        self.name = f"signal-{number}-in-{step}"

    def setup(self, worker):
        """Called by the worker when it gets this object."""
        self.here = self.host in worker.address

    def transition(self, key, start, finish, **kwargs):
        """Called by the worker when a task changes its state."""
        if self.here and finish == "executing" and str(key).startswith(f"{self.step}-"):
            try:
                with Path(self.flag).open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                return
            threading.Timer(self.after, os.kill, [os.getpid(), self.number]).start()


def limit_files(n_bytes):
    """Let this process write no file of more bytes, as if its disk were full; None for no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if n_bytes is None else n_bytes, hard))


def pretend(version):
    """Give this process another version of refcolbert."""
    from refcolbert.cluster import callables

    callables.__version__ = version


if __name__ == "__main__":  # a driver that a test kills
    from refcolbert.cluster.workers import local_cluster

    with local_cluster(1) as client:
        cluster.build(sys.argv[1], parts(), client, encoder=Encoder.load(TINY), **SETTINGS)
