"""Random damage to whatever refcolbert parses, re-signed where it is signed: only its own errors may come out.

    python -m tools.faults.fuzz [--seconds 60] [--seed 0] [--only NAME]

A target takes an input apart from a sound seed, changes it in a few places and reads it. An input that led to an answer
or message not seen before joins the seeds, so the search goes deeper. Every target runs in a forked child with a limit
on memory and a deadline for each input; a child that dies and any exception that is not refcolbert's is a finding, and
its input is kept.
"""

import gzip
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert import Index
from refcolbert.corpus.readers import read_documents
from refcolbert.errors import RefColbertError
from refcolbert.interchange.plaid import open_plaid
from refcolbert.storage.document_file import DocumentFile
from refcolbert.storage.filters import compile_filter
from refcolbert.storage.format import Manifest
from tools import ROOT

from .damage import small_index
from .hostile import Folder
from .manifests import PLAIN, sign
from .scenarios import vectors

__all__ = ["TARGETS", "Count", "fuzz"]

FORK = get_context("fork")
ROOM, SECONDS = 1 << 30, 20
MOST_SEEDS = 512
GOLDEN = ROOT / "golden" / "plaid" / "2bits"
NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, -1)
TEXTS = ("", "x", "\0", "\ud800", "x" * 5000)
SCALARS: tuple[Any, ...] = (None, True, False, -1, 0, 1, 1.5, 1e308, 2**62, 2**63, 10**400, *TEXTS, [], {})
Rng = np.random.Generator
Names = dict[str, bytes]


def change_bytes(data: bytes, rng: Rng) -> bytes:
    """One to four changes: a bit, a number, a piece gone, doubled, moved or random."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(0, len(changed) + 1))
        size = int(rng.integers(1, 9))
        kind = int(rng.integers(0, 6))
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            number = NUMBERS[int(rng.integers(len(NUMBERS)))] % 2**64
            changed[place : place + size] = number.to_bytes(8, "little")[:size]
        elif kind == 2:
            del changed[place : place + int(rng.integers(1, 65))]
        elif kind == 3:
            changed[place:place] = changed[place : place + 4 * size]
        elif kind == 4:
            changed[place : place + size] = rng.bytes(size)
        else:
            other = int(rng.integers(0, len(changed) + 1))
            changed[place : place + size] = changed[other : other + size]
    return bytes(changed)


def change_json(value: Any, rng: Rng) -> Any:
    """One place in a JSON value gone, new, or replaced by a scalar or by another place."""
    places = [(value, None), *_places(value)]
    owner, key = places[int(rng.integers(len(places)))]
    if key is None:
        return SCALARS[int(rng.integers(len(SCALARS)))] if rng.random() < 0.05 else value
    kind = rng.random()
    if kind < 0.15:
        del owner[key]
    elif kind < 0.25 and isinstance(owner, dict):
        owner[str(rng.integers(3))] = owner[key]
    elif kind < 0.5:
        other, there = places[int(rng.integers(1, len(places)))]
        owner[key] = json.loads(json.dumps(other[there])) if there is not None else None
    elif kind < 0.6 and type(owner[key]) is int:
        owner[key] += int(rng.integers(-3, 4))
    else:
        owner[key] = SCALARS[int(rng.integers(len(SCALARS)))]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(owner, key) of every value inside."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


class Target(ABC):
    """Something that parses: sound inputs as named contents, and how to read one. Reads in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.seeds: list[Names] = [self.sound()]

    @abstractmethod
    def sound(self) -> Names:
        """A sound input."""

    def change(self, names: Names, rng: Rng) -> Names:
        """Some of the files changed."""
        chosen = rng.choice(sorted(names), int(rng.integers(1, 3)))
        return names | {str(name): change_bytes(names[str(name)], rng) for name in chosen}

    @abstractmethod
    def read(self, names: Names) -> Any:
        """Read it all."""

    def put(self, names: Names) -> None:
        """Write the files below the folder."""
        for name, content in names.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


class ManifestBytes(Target):
    """A manifest whose JSON has changed."""

    def sound(self) -> Names:
        """The example."""
        return {"manifest": json.dumps(PLAIN).encode()}

    def change(self, names: Names, rng: Rng) -> Names:
        """Its text, or a value in it."""
        try:
            value = json.loads(names["manifest"])
        except (ValueError, RecursionError):
            value = None
        if value is None or rng.random() < 0.2:
            return super().change(names, rng)
        for _ in range(int(rng.integers(1, 4))):
            value = change_json(value, rng) if isinstance(value, dict | list) else value
        return {"manifest": json.dumps(value).encode()}

    def read(self, names: Names) -> Any:
        """An accepted manifest is written again as it was read."""
        manifest = Manifest.from_bytes(sign(names["manifest"]))
        if Manifest.from_bytes(manifest.to_bytes()) != manifest:
            raise ValueError("a manifest that does not read back as it was")
        return "read"


class IndexFolder(Target):
    """An index any of whose files has changed, signed anew."""

    scenario = "compact"

    def sound(self) -> Names:
        """A small index."""
        path = small_index(self.folder, self.scenario)
        return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}

    def read(self, names: Names) -> Any:
        """Open, search, filter, read and check."""
        self.put({f"i/{name}": content for name, content in names.items()})
        try:
            folder = Folder(self.folder / "i")
            owners = [*folder.manifest["segments"], *([folder.manifest["codec"]] if folder.manifest["codec"] else [])]
            for entry in (entry for owner in owners for entry in owner["files"].values()):
                folder.put_entry(entry, (folder.path / "data" / entry["name"]).read_bytes())
            folder.sign()
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            pass  # a manifest beyond repair is read as it is
        with Index.open(self.folder / "i", verify="full") as index:
            hits = index.search(vectors(1, seed=1)[0], 50, where={"n": {"$gte": 0}})
            index.get(index.ids())
            index.check()
            return len(hits)


class RawFolder(IndexFolder):
    """The same while vectors are raw."""

    scenario = "add"


class Database(Target):
    """A document file."""

    def sound(self) -> Names:
        """That of a small index."""
        path = small_index(self.folder)
        return {"documents.sqlite": min(path.rglob("*.sqlite")).read_bytes()}  # that of the first segment

    def read(self, names: Names) -> Any:
        """Every query that there is."""
        self.put(names)
        file = DocumentFile(self.folder / "documents.sqlite", 14)
        try:
            counts = [len(file.matching({"n": {"$gte": 3}, "a.b": {"$in": [1, "x"]}})), len(file.rows(["d1", "d2"]))]
            file.check()
            return [*counts, len(file.ids()), len(file.get([0, 1]))]
        finally:
            file.close()


class Filter(Target):
    """A filter, compiled and asked of a sound document file."""

    def sound(self) -> Names:
        """A filter with every operator."""
        path = small_index(self.folder)
        self._file = DocumentFile(min(path.rglob("*.sqlite")), 14)
        either = [{"n": {"$gte": 1, "$lt": 5}}, {"$not": {"a.b": {"$in": [1, "x", None]}}}]
        where: dict[str, Any] = {"$or": either, "c": {"$exists": True}}
        more = {"$and": [{"d": {"$ne": 1}}, {"e": {"$nin": [2]}}, {"f": {"$eq": "x"}}, {"g": {"$gt": 1, "$lte": 1}}]}
        return {"where": json.dumps(where | more).encode()}

    def change(self, names: Names, rng: Rng) -> Names:
        """A value in it."""
        value = json.loads(names["where"])
        for _ in range(int(rng.integers(1, 6))):
            value = change_json(value, rng) if isinstance(value, dict | list) else value
        return {"where": json.dumps(value).encode()}

    def read(self, names: Names) -> Any:
        """Compile and ask."""
        where = json.loads(names["where"])
        compile_filter(where)
        return len(self._file.matching(where))


class PlaidFolder(Target):
    """A PLAID folder of `.npy` files."""

    def sound(self) -> Names:
        """A chunk of two documents."""
        rng = np.random.default_rng(0)
        made: dict[str, NDArray[Any]] = {
            "centroids": rng.standard_normal((4, 8)).astype(np.float32),
            "bucket_weights": np.arange(4) / 4.0,
            "0.codes": np.arange(5) % 4,
            "0.residuals": rng.integers(0, 256, (5, 2)).astype(np.uint8),
        }
        for name, array in made.items():
            np.save(self.folder / f"{name}.npy", array)
        names = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return names | {"metadata.json": b'{"num_chunks": 1, "nbits": 2}', "doclens.0.json": b"[2, 3]"}

    def read(self, names: Names) -> Any:
        """Decode it all."""
        self.put(names)
        plaid = open_plaid(self.folder)
        return plaid.check(), [chunk.vectors.shape for chunk in plaid]


class TorchFolder(PlaidFolder):
    """A PLAID folder of `.pt` files; needs the torch side."""

    def sound(self) -> Names:
        """The golden one."""
        return {p.name: p.read_bytes() for p in GOLDEN.iterdir() if p.suffix in (".pt", ".json")}


class Corpus(Target):
    """Files of documents."""

    def sound(self) -> Names:
        """Every layout."""
        lines = '{"_id": "a", "title": "t", "text": "x", "metadata": {"n": 1}}\n{"_id": "b", "text": "y"}\n'
        markdown = b"---\na: [1, x]\n---\nx\n# A\ny\n## B `c`\n> # q\n\nC\n===\nz\n"
        return {
            "c.jsonl": lines.encode(),
            "c.tsv": b"1\tone\n2\ttwo\n",
            "c.csv": b'id,text,n\n1,"a ""b"" c",x\n2,two,\n',
            "c.md": markdown,
            "c.txt.gz": gzip.compress(markdown, mtime=0),
        }

    def read(self, names: Names) -> Any:
        """Both."""
        self.put(names)
        return [len(list(read_documents(self.folder / name))) for name in names]


TARGETS: dict[str, type[Target]] = {
    "manifest": ManifestBytes,
    "encoded index": IndexFolder,
    "raw index": RawFolder,
    "documents": Database,
    "filter": Filter,
    "PLAID .npy": PlaidFolder,
    "PLAID .pt": TorchFolder,
    "corpus": Corpus,
}


@dataclass(slots=True)
class Count:
    """Counts and findings of a target."""

    inputs: int = 0
    refused: int = 0
    kinds: int = 0  # of different answers and messages
    bad: list[str] = field(default_factory=list)


def fuzz(name: str, folder: Path, seconds: float, seed: int = 0, most: int = sys.maxsize) -> Count:
    """Fuzz a target in a child, whose findings are kept in `folder`.bad."""
    receive, send = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_run, args=(name, folder, seconds, seed, most, send))
    child.start()
    send.close()
    try:
        count: Count = receive.recv()
    except EOFError:
        child.join()
        count = Count(bad=[f"{name}: the child ended with {child.exitcode}; its last input is in {folder}"])
    child.join()
    return count


def _run(name: str, folder: Path, seconds: float, seed: int, most: int, pipe: Any) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    target, rng, count = TARGETS[name](folder), np.random.default_rng(seed), Count()
    if name == "PLAID .pt":
        target.read(target.seeds[0])  # import torch before memory is limited
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    kinds: set[str] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end and count.inputs < most:
        seed_number = int(rng.integers(len(target.seeds))) if rng.random() < 0.5 else 0
        names = target.change(target.seeds[seed_number], rng)
        count.inputs += 1
        signal.alarm(SECONDS)
        try:
            kind = f"answer {target.read(names)}"
        except RefColbertError as error:
            count.refused += 1
            kind = re.sub(r"[0-9a-f]*\d[0-9a-f]*|'[^']*'", "", f"{type(error).__name__} {error}")[:120]
        except Exception as error:  # noqa: BLE001 - that is what this looks for
            kind = f"{type(error).__name__}: {error}"[:300]
            if kind not in kinds:
                count.bad.append(f"{name}: {kind}; {_keep(folder, names, len(count.bad))}")
        if kind not in kinds and len(target.seeds) < MOST_SEEDS:
            target.seeds.append(names)
        kinds.add(kind)
    signal.alarm(0)
    count.kinds = len(kinds)
    pipe.send(count)


def _keep(folder: Path, names: Names, number: int) -> str:
    kept = folder.with_name(f"{folder.name}.bad") / str(number)
    for name, content in names.items():
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (kept / name).write_bytes(content)
    return f"kept in {kept}"


@click.command()
@click.option("--seconds", default=60, show_default=True, help="For all targets together.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", help="Targets whose name contains this.")
def main(seconds: int, seed: int, only: str | None) -> None:
    """Fuzz every target and print a table."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    scratch = Path(tempfile.mkdtemp())
    chosen = [name for name in TARGETS if only is None or only in name]
    bad: list[str] = []
    click.echo(f"{'':14} {'inputs':>9} {'refused':>9} {'kinds':>6} {'bad':>4}")
    for name in chosen:
        count = fuzz(name, scratch / name.replace(" ", "-"), seconds / len(chosen), seed)
        bad += count.bad
        click.echo(f"{name:14} {count.inputs:9,} {count.refused:9,} {count.kinds:6,} {len(count.bad):4}")
    click.echo("\n".join(bad))
    if not bad:
        shutil.rmtree(scratch)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
