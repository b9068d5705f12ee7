"""Writers that start at once, and a disk that is really full.

`races`: of sixteen processes that reach for the lock together exactly one writes, the others are told at once; every
third winner is killed while it writes, and the next one must win all the same.

`real_limits`: the kernel itself refuses to make a file larger than a limit, for many limits, in a child.
"""

import multiprocessing
import os
import resource
import signal
from pathlib import Path
from typing import Any

from refcolbert.errors import IndexLocked, IndexWriteError
from refcolbert.store import Store

from .inject import Report
from .scenarios import Scenario, answers, fresh, proceed

__all__ = ["races", "real_limits"]

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
        found = [results.get() for _ in children]
        for child in children:
            child.join()
        report.cases += 1
        report.new += number % 3 == 2
        if sorted(found) != ["locked"] * (WRITERS - 1) + ["won"]:
            report.bad.append(f"round {number}: {sorted(found)}")
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
        child = os.fork()
        if child == 0:
            os._exit(_limited(scenario, path, limit))
        _, status = os.waitpid(child, 0)
        code, found = os.waitstatus_to_exitcode(status), answers(path)
        report.cases += 1
        report.new += found != old
        if (code, found == old) not in ((0, False), (3, True)):
            report.bad.append(f"{scenario.name}, limit {limit}: ended with {code}, answers as before: {found == old}")
        proceed(path)
    return report


def _limited(scenario: Scenario, path: Path, limit: int) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        scenario.operate(path)
    except IndexWriteError:
        return 3
    except Exception:  # noqa: BLE001 - the parent counts whatever else
        return 4
    return 0
