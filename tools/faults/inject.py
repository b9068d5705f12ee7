"""A disk that is full or failing, and a process that is killed, at every operation.

`injections`: the n-th operation fails, for all n, with each of four errors, once or from then on. The call must raise
`IndexWriteError` or have succeeded; the object answers as before; the folder answers as before or, from the rename on,
as after; a failed sync is never tried again; and the next writer needs nothing cleaned up.

`kills`: a forked child kills itself with SIGKILL before the n-th operation, for all n, or in the middle of writing, or
is killed at a random moment. The folder answers as before or as after, and the next writer needs nothing cleaned up.
"""

import errno
import os
import select
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from refcolbert import Index
from refcolbert.errors import IndexWriteError, RefColbertError
from refcolbert.storage.durable import FileSystem

from .scenarios import NOTHING, Scenario, answer_of, answers, fresh, on, proceed

__all__ = ["FAULTS", "MUTANTS", "Report", "Stepping", "injections", "kills", "random_kills"]

FAULTS = ("ENOSPC", "EDQUOT", "EIO", "short write")


@dataclass(slots=True)
class Report:
    """Counts of all cases and of those that ended as after the operation, and the wrong ones."""

    cases: int = 0
    new: int = 0
    bad: list[str] = field(default_factory=list)


class Stepping(FileSystem):
    """Calls `at` before every operation that changes the disk, with its number and kind."""

    def __init__(self) -> None:
        self.step = 0
        self.paths: dict[int, Path] = {}

    def at(self, kind: str, path: Path) -> bool:
        """Called before an operation; True makes an append write only half."""
        self.step += 1
        return False

    def halfway(self) -> None:
        """Called after half of an append."""

    def create(self, path: Path) -> BinaryIO:
        """One step."""
        self.at("create", path)
        file = super().create(path)
        self.paths[id(file)] = path
        return file

    def append(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """One step, which may end halfway."""
        half = self.at("append", self.paths[id(file)])
        super().append(file, data[: len(data) // 2] if half else data)
        if half:
            self.halfway()

    def fill(self, path: Path, write: Callable[[Path], None]) -> None:
        """One step, which may end halfway."""
        half = self.at("append", path)
        super().fill(path, write)
        if half:
            os.truncate(path, path.stat().st_size // 2)
            self.halfway()

    def sync(self, file: BinaryIO) -> None:
        """One step."""
        self.at("sync", self.paths[id(file)])
        super().sync(file)

    def replace(self, source: Path, target: Path) -> None:
        """One step."""
        self.at("replace", target)
        super().replace(source, target)

    def sync_folder(self, path: Path) -> None:
        """One step."""
        self.at("sync_folder", path)
        super().sync_folder(path)

    def make_folder(self, path: Path) -> None:
        """One step."""
        self.at("make_folder", path)
        super().make_folder(path)

    def remove(self, path: Path) -> None:
        """One step."""
        self.at("remove", path)
        super().remove(path)

    def note(self, path: Path, text: bytes) -> None:
        """One step."""
        self.at("note", path)
        super().note(path, text)


class Failing(Stepping):
    """Fails at one step, or from it on; remembers whether a sync was tried again after it had failed."""

    def __init__(self, step: int, fault: str, *, persistent: bool) -> None:
        super().__init__()
        self._at, self._fault, self._persistent = step, fault, persistent
        self._failed_syncs: set[Path] = set()
        self.retried = self.renamed = False

    def at(self, kind: str, path: Path) -> bool:
        """Raise if it is time to."""
        super().at(kind, path)
        if kind in ("sync", "sync_folder"):
            self.retried |= path in self._failed_syncs
        if self.step == self._at or (self._persistent and self.step > self._at):
            if kind in ("sync", "sync_folder"):
                self._failed_syncs.add(path)
            if self._fault == "short write" and kind == "append":
                return True
            code = "ENOSPC" if self._fault == "short write" else self._fault
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), str(path))
        return False

    def replace(self, source: Path, target: Path) -> None:
        """Remember that the rename happened."""
        super().replace(source, target)
        self.renamed = True

    def halfway(self) -> None:
        """The disk is full for the rest of a short write."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Retrying(Failing):
    """A store that tries a failed sync again."""

    def sync(self, file: BinaryIO) -> None:
        """Twice if need be."""
        with suppress(OSError):
            return super().sync(file)
        return super().sync(file)


class Swallowing(Failing):
    """A store that takes no notice of a full disk."""

    def append(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """Write what fits."""
        with suppress(OSError):
            super().append(file, data)

    def fill(self, path: Path, write: Callable[[Path], None]) -> None:
        """Write what fits."""
        with suppress(OSError):
            super().fill(path, write)


class Unnoticing(Failing):
    """A store that takes no notice of a failed rename."""

    def replace(self, source: Path, target: Path) -> None:
        """Report success whatever happens."""
        with suppress(OSError):
            super().replace(source, target)


MUTANTS = {
    "a failed sync is tried again": Retrying,
    "a full disk is not noticed": Swallowing,
    "a failed rename is not noticed": Unnoticing,
}


class Killing(Stepping):
    """Ends the process at one step as if its power were cut: before the operation, or halfway through an append."""

    def __init__(self, step: int, *, halfway: bool) -> None:
        super().__init__()
        self._at, self._halfway = step, halfway

    def at(self, kind: str, path: Path) -> bool:
        """Die if it is time to."""
        super().at(kind, path)
        if self.step != self._at:
            return False
        if self._halfway and kind == "append":
            return True
        os.kill(os.getpid(), signal.SIGKILL)
        return False

    def halfway(self) -> None:
        """Die."""
        os.kill(os.getpid(), signal.SIGKILL)


def _prepare(scenario: Scenario, scratch: Path) -> tuple[Path, int]:
    """A prepared folder, and how many steps the operation takes."""
    prepared = scratch / "prepared"
    prepared.mkdir(parents=True)
    scenario.prepare(prepared / "i")
    counting = Stepping()
    with on(counting):
        scenario.operate(fresh(scenario, prepared, scratch / "work"))
    return prepared, counting.step


def injections(scenario: Scenario, scratch: Path, *, every: int = 1, disk_type: type[Failing] = Failing) -> Report:
    """Fail one scenario everywhere; `every` n-th case only, for a short run."""
    prepared, steps = _prepare(scenario, scratch)
    old, new = answers(prepared / "i"), answers(scratch / "work" / "i")
    cases = [(n, f, p) for n in range(1, steps + 1) for f in FAULTS for p in (False, True)]
    report = Report()
    for step, fault, persistent in cases[::every]:
        path = fresh(scenario, prepared, scratch / "work")
        disk = disk_type(step, fault, persistent=persistent)
        try:
            wrong = list(_fail(scenario, path, disk, old, new))
        except RefColbertError as error:
            wrong = [f"{type(error).__name__}: {error}"]
        report.cases += 1
        report.new += disk.renamed
        report.bad += [f"{scenario.name}, step {step}, {fault}: {what}" for what in wrong]
    shutil.rmtree(scratch)
    return report


def _fail(scenario: Scenario, path: Path, disk: Failing, old: object, new: object) -> Iterator[str]:
    raised = False
    with on(disk):
        index = None if scenario.make else Index.open(path)
        before = answer_of(index) if index else None
        try:
            scenario.change(index) if index else scenario.operate(path)
        except IndexWriteError:
            raised = True
        except OSError as error:
            yield f"an untyped {error!r}"
        if index and raised and answer_of(index) != before:
            yield "the object answers otherwise than before"
    answer = answers(path)
    if answer != new and (not raised or answer != old):
        yield f"the folder answers {'neither as before nor as after' if raised else 'as before, without an error'}"
    if answer == new != old and not disk.renamed:
        yield "the folder answers as after, without a rename"
    if disk.retried:
        yield "a failed sync was tried again"
    with suppress(AssertionError):
        proceed(path)
        return
    yield "the next writer left orphans"


def kills(scenario: Scenario, scratch: Path, *, every: int = 1) -> Report:
    """Kill one scenario everywhere; `every` n-th case only, for a short run."""
    prepared, steps = _prepare(scenario, scratch)
    old, new = answers(prepared / "i"), answers(scratch / "work" / "i")
    report = Report()
    for step, halfway in [(n, half) for n in range(1, steps + 1) for half in (False, True)][::every]:
        path = fresh(scenario, prepared, scratch / "work")
        with on(Killing(step, halfway=halfway)):
            child = _fork(scenario, path)
            _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        _after_death(report, scenario, path, f"step {step}", old, new, killed=killed)
    shutil.rmtree(scratch)
    return report


def random_kills(scenario: Scenario, scratch: Path, n: int, longest: float, seed: int = 0) -> Report:
    """Kill a child `n` times from outside, after 0 to `longest` seconds; those that were done by then count not."""
    prepared, _ = _prepare(scenario, scratch)
    old, new = answers(prepared / "i"), answers(scratch / "work" / "i")
    report, rng = Report(), np.random.default_rng(seed)
    for _ in range(n):
        path = fresh(scenario, prepared, scratch / "work")
        never, held = os.pipe()
        child = _fork(scenario, path)
        select.select([never], [], [], float(rng.uniform(0, longest)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(never)
        os.close(held)
        if os.WIFSIGNALED(status):
            _after_death(report, scenario, path, "a random moment", old, new, killed=True)
    shutil.rmtree(scratch)
    return report


def _fork(scenario: Scenario, path: Path) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            scenario.operate(path)
            code = 0
        finally:
            os._exit(code)
    return child


def _after_death(
    report: Report, scenario: Scenario, path: Path, where: str, old: object, new: object, *, killed: bool
) -> None:
    report.cases += 1
    answer = answers(path)
    report.new += answer == new
    if not killed:
        report.bad.append(f"{scenario.name}, {where}: the child was not killed")
    if answer not in (old, new, NOTHING if old == NOTHING else old):
        report.bad.append(f"{scenario.name}, {where}: a third answer")
    try:
        proceed(path)
    except AssertionError as error:
        report.bad.append(f"{scenario.name}, {where}: {error}")
