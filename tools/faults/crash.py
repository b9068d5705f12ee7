"""Power loss: every state that a disk can be in when it comes back, opened by the real reader.

An operation runs once on a real folder while every change of the disk is recorded. What was not synced when the power
went may be there or not, each name on its own, and content that was not synced may be cut, zero or garbage. So for
every prefix of the record, subsets of the pending names are lost and unsynced files take each of those contents; the
state is written to a folder and opened. It must answer as before the operation or as after it, and after the operation
has returned only as after it. A state that came up already is not opened again.

`MUTANTS` break the record in the ways in which a store could be wrong; each must make some state fail.
"""

import hashlib
import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from refcolbert.errors import RefColbertError

from .inject import Stepping
from .scenarios import Answer, Scenario, answers, fresh, on, proceed

__all__ = ["MUTANTS", "Findings", "Operation", "Recorder", "enumerate_states", "lab"]

Path_ = str  # relative to the folder that holds the index
Image = tuple[tuple[Path_, bytes | None], ...]  # sorted (path, content); None: a folder
CONTENTS = ("whole", "cut", "none", "zero", "garbage")
MOST_SUBSETS = 64


class Operation(NamedTuple):
    """One change of the disk; names are relative to the folder that holds the index."""

    kind: str
    name: str
    source: str = ""  # of a rename
    data: bytes = b""  # of an append


class Recorder(Stepping):
    """Does everything, and remembers it as operations on paths relative to `root`."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root, self.operations = root, list[Operation]()

    def at(self, kind: str, path: Path) -> bool:
        """One more operation; notes in the lock file are none, since nothing depends on them."""
        if kind != "note":
            self.operations.append(Operation(kind, self._relative(path)))
        return False

    def append(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """More content."""
        super().append(file, data)
        self.operations[-1] = self.operations[-1]._replace(data=bytes(data))

    def fill(self, path: Path, write: Callable[[Path], None]) -> None:
        """All of the content in one call."""
        super().fill(path, write)
        self.operations[-1] = self.operations[-1]._replace(data=path.read_bytes())

    def replace(self, source: Path, target: Path) -> None:
        """A rename."""
        super().replace(source, target)
        self.operations[-1] = self.operations[-1]._replace(source=self._relative(source))

    def _relative(self, path: Path) -> str:
        return path.absolute().relative_to(self.root).as_posix()


@dataclass(slots=True)
class File:
    """A file's content as programs see it, and how much of that is durable."""

    content: bytes = b""
    durable: bytes = b""

    def after_crash(self, fate: str) -> bytes:
        """Its content when the power comes back."""
        rest = self.content[len(self.durable) :]
        if fate == "whole" or not rest:
            return self.content
        garbage = hashlib.shake_128(rest).digest(len(rest))
        kept = {"cut": rest[: len(rest) // 2], "none": b"", "zero": bytes(len(rest)), "garbage": garbage}
        return self.durable + kept[fate]


@dataclass(slots=True)
class Disk:
    """Durable names, and the changes of names that a crash may lose one by one."""

    durable: dict[str, File | None] = field(default_factory=dict)  # None: a folder
    pending: list[tuple[str, str, str, File | None]] = field(default_factory=list)  # (kind, name, from, what)
    visible: dict[str, File | None] = field(default_factory=dict)

    def do(self, operation: Operation) -> None:
        """One operation of a record."""
        kind, name = operation.kind, operation.name
        if kind == "append":
            self.file(name).content += operation.data
        elif kind == "sync":
            self.file(name).durable = self.file(name).content
        elif kind == "sync_folder":
            synced = [change for change in self.pending if _folder(change[1]) == name]
            self.pending = [change for change in self.pending if _folder(change[1]) != name]
            for change in synced:
                _apply(self.durable, change)
        else:
            change = self._change(operation)
            _apply(self.visible, change)
            self.pending.append(change)

    def _change(self, operation: Operation) -> tuple[str, str, str, File | None]:
        kind, name = operation.kind, operation.name
        if kind == "replace":
            return "rename", name, operation.source, self.visible[operation.source]
        return {
            "create": ("link", name, "", File()),
            "make_folder": ("link", name, "", None),
            "remove": ("unlink", name, "", None),
        }[kind]

    def file(self, name: str) -> File:
        """The file that programs see under a name."""
        file = self.visible[name]
        if file is None:
            raise ValueError(f"{name} is a folder")
        return file

    def images(self, rng: np.random.Generator) -> Iterator[Image]:
        """Every state after a crash now, as far as `MOST_SUBSETS` allows."""
        for kept in _subsets(len(self.pending), rng):
            names = dict(self.durable)
            for change in itertools.compress(self.pending, kept):
                _apply(names, change)
            unsynced = any(f is not None and f.content != f.durable for f in names.values())
            for fate in CONTENTS if unsynced else CONTENTS[:1]:
                yield _image(names, fate)


def _folder(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _apply(names: dict[str, File | None], change: tuple[str, str, str, File | None]) -> None:
    kind, name, source, what = change
    if kind == "unlink":
        names.pop(name, None)
        return
    if kind == "rename":
        names.pop(source, None)
    if kind == "rename" and what is None:  # a folder moves with its content
        for child in [n for n in names if n.startswith(f"{source}/")]:
            names[name + child[len(source) :]] = names.pop(child)
    if not (what is None and name in names):
        names[name] = what


def _subsets(n: int, rng: np.random.Generator) -> Iterator[Sequence[bool]]:
    """Choices of the pending changes that survive: all 2^n, or the extreme ones and a random sample."""
    if 2**n <= MOST_SUBSETS:
        yield from itertools.product((False, True), repeat=n)
        return
    yield (True,) * n
    yield (False,) * n
    for i in range(n):
        yield tuple(j == i for j in range(n))
        yield tuple(j != i for j in range(n))
    for _ in range(MOST_SUBSETS - 2 - 2 * min(n, 20)):
        yield tuple((rng.random(n) < 0.5).tolist())


def _image(names: dict[str, File | None], fate: str) -> Image:
    there = sorted(names)
    reachable = [n for n in there if _folder(n) == "." or _folder(n) in names]
    return tuple((n, None if names[n] is None else names[n].after_crash(fate)) for n in reachable)  # type: ignore[union-attr]


def enumerate_states(start: Path, operations: Sequence[Operation], seed: int) -> Iterator[tuple[bool, Image]]:
    """(has the operation returned, state) for a crash at every point of a record."""
    rng = np.random.default_rng(seed)
    disk = Disk(_read(start))
    disk.visible = dict(disk.durable)
    for image in disk.images(rng):
        yield False, image
    for i, operation in enumerate(operations):
        if len(operation.data) > 1:
            yield from ((False, image) for image in _half_appended(disk, operation, rng))
        disk.do(operation)
        for image in disk.images(rng):
            yield i == len(operations) - 1, image


def _half_appended(disk: Disk, operation: Operation, rng: np.random.Generator) -> list[Image]:
    """The states in which only half of some content had been written."""
    file, data = disk.file(operation.name), operation.data
    whole = file.content
    file.content = whole + data[: len(data) // 2]
    images = list(disk.images(rng))
    file.content = whole
    return images


def _read(folder: Path) -> dict[str, File | None]:
    """The files of a folder, all durable, without the lock file."""
    files: dict[str, File | None] = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if path.name != "writer.lock":
            files[path.relative_to(folder).as_posix()] = None if path.is_dir() else File(content, content)
    return files


@dataclass(slots=True)
class Findings:
    """Counts of all and of different states, their verdicts, and the wrong ones."""

    states: int = 0
    opened: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)


def lab(
    scenario: Scenario,
    scratch: Path,
    mutate: Callable[[list[Operation]], list[Operation]] = list,
    *,
    seed: int = 0,
    every: int = 1,
    until_bad: bool = False,
) -> Findings:
    """Crash one scenario everywhere. `every` n-th state only, and all after the return; `until_bad` stops early."""
    prepared = scratch / "prepared"
    (prepared).mkdir(parents=True)
    scenario.prepare(prepared / "i")
    work = fresh(scenario, prepared, scratch / "work")
    recorder = Recorder(work.parent)
    old = answers(work)
    with on(recorder):
        scenario.operate(work)
    new = answers(work)
    findings, seen = Findings(), dict[bytes, str]()
    record = mutate(recorder.operations)
    if until_bad and record == recorder.operations:
        record = []  # this operation has nothing that the mutant breaks
    for number, (returned, image) in enumerate(enumerate_states(prepared, record, seed)):
        if number % every and not returned:
            continue
        findings.states += 1
        key = hashlib.sha256(repr(image).encode()).digest()
        if key not in seen:
            findings.opened += 1
            seen[key] = _judge(image, scratch / "state", old, new, then_write=findings.opened % 5 == 0)
        verdict = seen[key]
        findings.verdicts[verdict] += 1
        if verdict not in ("old", "new") or (returned and verdict == "old" and old != new):
            findings.bad.append(f"{scenario.name}: {verdict}{' after it had returned' if returned else ''}")
            if until_bad:
                break
    shutil.rmtree(scratch)
    return findings


def _judge(image: Image, folder: Path, old: Answer, new: Answer, *, then_write: bool) -> str:
    """Write a state to a folder, open it, and now and then let the next writer go on from there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in image:
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    try:
        answer = answers(folder / "i")
        if then_write and answer in (old, new):
            proceed(folder / "i")
    except (RefColbertError, OSError, ValueError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return "new" if answer == new else "old" if answer == old else "a third answer"


def _without(kind: str, ending: str = "") -> Callable[[list[Operation]], list[Operation]]:
    return lambda record: [o for o in record if not (o.kind == kind and o.name.endswith(ending))]


def _published(record: list[Operation]) -> int:
    return next(i for i, o in enumerate(record) if o.kind == "replace")


def _collect_first(record: list[Operation]) -> list[Operation]:
    """Remove the generation that is being replaced before the new one is published."""
    made = next(o.name for o in record if o.kind == "create" and o.name.endswith("-manifest.json"))
    old = f"i/data/{int(Path(made).name[:8]) - 1:08d}-manifest.json"
    removal = [Operation("remove", old), Operation("sync_folder", "i/data")]
    return [*record[: _published(record)], *removal, *record[_published(record) :]]


def _sync_late(record: list[Operation]) -> list[Operation]:
    """Sync everything, but only once it is published."""
    return [*(o for o in record if o.kind != "sync"), *(o for o in record if o.kind == "sync")]


def _in_place(record: list[Operation]) -> list[Operation]:
    """Write the manifest over the old one instead of renaming."""
    manifest = "i/manifest.json"
    first = next(i for i, o in enumerate(record) if o.name == manifest + ".tmp")
    moved = [o._replace(name=manifest) if o.name == manifest + ".tmp" else o for o in record if o.kind != "replace"]
    return [*moved[:first], Operation("remove", manifest), *moved[first:]]


def _publish_first(record: list[Operation]) -> list[Operation]:
    """Rename the manifest before the data it names is written."""
    at = _published(record)
    start = next(i for i, o in enumerate(record) if o.name.endswith("manifest.json.tmp") and o.kind == "create")
    first = next(i for i, o in enumerate(record) if o.kind == "create")
    return [*record[:first], *record[start : at + 1], *record[first:start], *record[at + 1 :]]


MUTANTS: dict[str, Callable[[list[Operation]], list[Operation]]] = {
    "no file is synced": _without("sync"),
    "arrays are not synced": _without("sync", ".npy"),
    "documents are not synced": _without("sync", ".sqlite"),
    "the manifest is not synced": _without("sync", "manifest.json.tmp"),
    "the pinned copy is not synced": _without("sync", "-manifest.json"),
    "data/ is not synced": _without("sync_folder", "data"),
    "the folder is not synced after the rename": _without("sync_folder", "i"),
    "an index is moved before its folder is synced": _without("sync_folder", "i.building"),
    "syncs come after the rename": _sync_late,
    "the manifest is renamed before its data is written": _publish_first,
    "the manifest is overwritten in place": _in_place,
    "garbage is collected before the manifest": _collect_first,
}
