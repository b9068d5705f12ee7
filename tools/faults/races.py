"""Writers that start at the same time, and limits that the kernel enforces.

`races`: of sixteen processes that take the lock together exactly one writes, and the others get an error immediately.
Every third winner is killed while it writes, and another process must win the next round.

`real_limits`: the kernel refuses to make a file larger than a limit, for many limits, in a child.

`full_disk`: a small file system of its own, filled before each operation up to a number of free bytes.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refcolbert.errors import IndexLocked, IndexWriteError
from refcolbert.storage.store import Store

from .inject import Report
from .scenarios import Scenario, answers, fresh, proceed

__all__ = ["full_disk", "races", "real_limits", "small_disk"]

FORK = multiprocessing.get_context("fork")
WRITERS = 16


def races(path: Path, rounds: int) -> Report:
    """Let sixteen processes race for the writer lock of an index, `rounds` times."""
    report = Report()
    for number in range(rounds):
        barrier, results = FORK.Barrier(WRITERS), FORK.SimpleQueue()
        children = [FORK.Process(target=_race, args=(path, barrier, results, number % 3 == 2)) for _ in range(WRITERS)]
        for child in children:
            child.start()
        outcomes = [results.get() for _ in children]
        for child in children:
            child.join()
        report.cases += 1
        report.new += number % 3 == 2
        if sorted(outcomes) != ["locked"] * (WRITERS - 1) + ["won"]:
            report.bad.append(f"round {number}: {sorted(outcomes)}")
    return report


def _race(path: Path, barrier: Any, results: Any, die: bool) -> None:
    barrier.wait()
    try:
        with Store(path).writing():
            results.put("won")
            barrier.wait()
            if die:
                os.kill(os.getpid(), signal.SIGKILL)
    except IndexLocked:
        results.put("locked")
        barrier.wait()


def real_limits(scenario: Scenario, scratch: Path, limits: range) -> Report:
    """Run a scenario in a child that may write no file larger than a limit, for each limit in bytes."""
    prepared, report = scratch / "prepared", Report()
    prepared.mkdir(parents=True)
    scenario.prepare(prepared / "i")
    old = answers(prepared / "i")
    for limit in limits:
        path = fresh(scenario, prepared, scratch / "work")
        _judge(report, scenario, path, old, f"limit {limit}", limit)
        proceed(path)
    return report


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A file system in memory of `size` bytes, mounted at `folder`; None where one may not mount."""
    folder.mkdir(parents=True)
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(scenario: Scenario, disk: Path, free_bytes: range) -> Report:
    """Run a scenario on a nearly full disk, for each number of free bytes."""
    report = Report()
    for wanted in free_bytes:
        shutil.rmtree(disk / "work", ignore_errors=True)
        path = disk / "work" / "i"
        path.parent.mkdir()
        scenario.prepare(path)
        old = answers(path)
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write_bytes(bytes(max(free - wanted, 0)))
        _judge(report, scenario, path, old, f"{wanted} bytes free")
        filler.unlink()
        proceed(path)
    return report


def _judge(report: Report, scenario: Scenario, path: Path, old: Any, where: str, limit: int | None = None) -> None:
    """Run a scenario in a child: it must be done, or refused with the index as it was."""
    child = os.fork()
    if child == 0:
        os._exit(_limited(scenario, path, limit))
    _, status = os.waitpid(child, 0)
    code, answer = os.waitstatus_to_exitcode(status), answers(path)
    report.cases += 1
    report.new += answer != old
    if (code, answer == old) not in ((0, False), (3, True)):
        report.bad.append(f"{scenario.name}, {where}: ended with {code}, answers as before: {answer == old}")


def _limited(scenario: Scenario, path: Path, limit: int | None) -> int:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        scenario.operate(path)
    except IndexWriteError:
        return 3
    except Exception:  # noqa: BLE001 - the parent counts whatever else
        return 4
    return 0
