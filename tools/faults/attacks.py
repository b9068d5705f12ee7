"""Attacks on index folders (`hostile`): each must be refused by type, in bounded memory, without a hang.

A folder is opened in a forked child with 256 MiB of new address space and 20 seconds, which then searches, reads its
documents and filters. `MUTANTS` are readers that check less; each must let some attack through.
"""

import os
import resource
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

from refcolbert import Index

from .hostile import CASES, make
from .inject import Report
from .scenarios import vectors

__all__ = ["MUTANTS", "attacks", "outcome"]

FORK = get_context("fork")
ROOM, SECONDS = 256 << 20, 20


def visit(path: Path, verify: str, pipe: Any) -> None:
    """In a child: open, search, read, filter, check; report what was raised."""
    signal.alarm(SECONDS)
    os.chdir(path.parent)  # where the canary of an attack that knows no path would be
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    try:
        index = Index.open(path, verify=verify)
        if verify == "fast":
            index.check()
        index.search(vectors(1, seed=1)[0], 50, where={"n": {"$gte": 0}})
        index.search(vectors(1, seed=1)[0], 50)
        if index.view.manifest.words:
            index.search("text 4", 50, mode="words")
        index.get(index.ids())
        pipe.send("nothing was raised")
    except Exception as error:  # noqa: BLE001 - the parent judges
        pipe.send(f"{type(error).__name__}: {error}")


def outcome(path: Path, verify: str) -> str:
    """The report of a visitor."""
    receive, send = FORK.Pipe(duplex=False)
    child = FORK.Process(target=visit, args=(path, verify, send))
    child.start()
    send.close()
    try:
        return str(receive.recv())
    except EOFError:
        return "the visitor died"
    finally:
        child.join()


def attacks(scratch: Path, *, until_bad: bool = False) -> Report:
    """Let every attack be visited; `until_bad` stops at the first that is not refused as it must be."""
    report = Report()
    for name, (scenario, attack) in CASES.items():
        folder = make(scratch / str(report.cases), scenario)
        attack(folder)
        folder.sign()
        found = outcome(folder.path, "full")
        report.cases += 1
        if (
            not found.startswith("CorruptIndexError: ")
            or folder.canary.exists()
            or folder.victim.read_bytes() != b"precious"
        ):
            report.bad.append(f"{name}: {found}")
            if until_bad:
                break
    return report


MUTANTS: dict[str, Callable[[], Any]] = {
    "links are followed": lambda: mock.patch(
        "refcolbert.storage.store.open_regular_file", lambda path: path.open("rb")
    ),
    "tokens are not checked": lambda: mock.patch("refcolbert.storage.segment_files._check_tokens"),
    "words are not checked": lambda: mock.patch("refcolbert.storage.segment_files._check_words"),
    "what must rise may fall": lambda: mock.patch("refcolbert.storage.segment_files._rises", return_value=True),
    "no array is checked": lambda: mock.patch("refcolbert.storage.segment_files._expect"),
    "documents are not read": lambda: mock.patch("refcolbert.storage.document_file.DocumentFile.check"),
}
