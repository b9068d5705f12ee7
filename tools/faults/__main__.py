"""The fault campaign: crashes, kills, full disks, damage, attacks, readers beside a writer. Prints a table of figures.

    python -m tools.faults [--every N] [--only NAME]

Each row says what was done, how often, what the aim was, and what went wrong (nothing, if all is well); the mutants are
broken stores that the harness must catch. Ends with code 1 when a row is bad. `tools/faults/` has the machinery.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from . import attacks, crash, inject, manifests
from .damage import careless, cuts, flips, small_index, swaps, without_sizes
from .fuzz import TARGETS, fuzz
from .inject import Report
from .races import full_disk, races, real_limits, small_disk
from .readers import lying, read_while_writing
from .scenarios import SCENARIOS

__all__ = ["CAMPAIGN", "Row", "main"]

RAM = Path("/dev/shm")  # noqa: S108 - crash states are written to memory where there is such a disk
COMMITS = 500
FUZZ_SECONDS = 60


@dataclass(slots=True)
class Row:
    """One line of the table."""

    cases: int
    aim: int
    note: str
    bad: list[str] = field(default_factory=list)


def crashes(scratch: Path, every: int) -> Row:
    """Every crash state of every scenario."""
    findings = [crash.lab(s, scratch / "c", every=every) for s in SCENARIOS]
    states, opened = sum(f.states for f in findings), sum(f.opened for f in findings)
    new = sum(f.verdicts["new"] for f in findings)
    return Row(
        states, 7_000, f"{opened:,} differ, {new:,} show the new generation", [b for f in findings for b in f.bad]
    )


def crash_mutants(scratch: Path, every: int) -> Row:
    """Each broken commit order must make some state fail."""
    missed = [name for name, mutant in crash.MUTANTS.items() if not _caught(scratch, mutant)]
    return Row(len(crash.MUTANTS) - len(missed), len(crash.MUTANTS), "broken commit orders caught", missed)


def _caught(scratch: Path, mutant: Callable[[list[crash.Operation]], list[crash.Operation]]) -> bool:
    return any(crash.lab(s, scratch / "m", mutant, until_bad=True).bad for s in SCENARIOS)


def kills(scratch: Path, every: int) -> Row:
    """SIGKILL before each operation and in the middle of each write."""
    return _sum((inject.kills(s, scratch / "k", every=every) for s in SCENARIOS), 500, "show the new generation")


def random_kills(scratch: Path, every: int) -> Row:
    """SIGKILL at random moments; that children are sometimes done by then is why there are more."""
    n = max(90 // every, 1)
    reports = (inject.random_kills(s, scratch / "k", n, 0.02) for s in SCENARIOS)
    return _sum(reports, 200 // every, "show the new generation")


def injections(scratch: Path, every: int) -> Row:
    """ENOSPC, EDQUOT, EIO and short writes at each operation, once and from then on."""
    reports = (inject.injections(s, scratch / "i", every=every) for s in SCENARIOS)
    return _sum(reports, 2_000, "failed after the rename")


def injection_mutants(scratch: Path, every: int) -> Row:
    """Each store that handles errors wrongly must be caught."""
    missed = [
        name
        for name, disk in inject.MUTANTS.items()
        if not inject.injections(SCENARIOS[1], scratch / "i", disk_type=disk).bad
    ]
    return Row(len(inject.MUTANTS) - len(missed), len(inject.MUTANTS), "broken error handling caught", missed)


def flipped(scratch: Path, every: int) -> Row:
    """One bit in every byte of a small index."""
    path = small_index(scratch / "d")
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return _sum([flips(path, every=every)], size, f"of {size:,} bytes answered as before")


def cut(scratch: Path, every: int) -> Row:
    """Every length of every file of a small index."""
    path = small_index(scratch / "d")
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return _sum([cuts(path, every=every)], size, f"of {size:,} lengths answered as before")


def swapped(scratch: Path, every: int) -> Row:
    """Files swapped, zeroed, doubled, removed."""
    return _sum([swaps(small_index(scratch / "d"))], 500, "answered as before")


def readers(scratch: Path, every: int) -> Row:
    """Eight reader processes beside a writer."""
    mixture = read_while_writing(scratch / "r", commits=COMMITS // every, queries=50_000 // every)
    note = f"{mixture.commits} commits, one reader saw {mixture.generations} generations"
    return Row(mixture.queries, 50_000, note, mixture.bad)


def limits(scratch: Path, every: int) -> Row:
    """A limit on file sizes that the kernel enforces, from nothing to more than the largest file."""
    sizes = range(0, 16_000, 160 * every)
    reports = []
    for scenario in SCENARIOS[1:7]:
        reports.append(real_limits(scenario, scratch / "l", sizes))
        shutil.rmtree(scratch / "l")
    return _sum(reports, 100, "fitted")


def writers(scratch: Path, every: int) -> Row:
    """Sixteen processes take the writer lock at the same time."""
    path = small_index(scratch / "w")
    return _sum([races(path, 200 // every)], 200, "winners were killed while they wrote")


def full(scratch: Path, every: int) -> Row:
    """A small file system of its own on which little is free."""
    with small_disk(scratch / "f", 1 << 20) as disk:
        if disk is None:
            return Row(0, 0, "this process may not mount a file system")
        free_bytes = range(0, 90_000, 4_096 * every)
        return _sum((full_disk(s, disk, free_bytes) for s in SCENARIOS[1:7]), 100 // every, "fitted")


def attacked(scratch: Path, every: int) -> Row:
    """Folders made by an attacker."""
    return _sum([attacks.attacks(scratch / "a")], 25, "let through")


def attack_mutants(scratch: Path, every: int) -> Row:
    """Each reader that checks less must let some attack through."""
    missed = []
    for number, (name, mutant) in enumerate(attacks.MUTANTS.items()):
        with mutant():
            if not attacks.attacks(scratch / f"am{number}", until_bad=True).bad:
                missed.append(name)
    return Row(len(attacks.MUTANTS) - len(missed), len(attacks.MUTANTS), "careless readers caught", missed)


def resigned(scratch: Path, every: int) -> Row:
    """Every field of a manifest with every wrong value."""
    return _sum([manifests.manifests()], 300, "more are allowed and were read")


def manifest_mutants(scratch: Path, every: int) -> Row:
    """Each rule of the format that allows anything must be noticed."""
    n, missed = len(list(manifests.rules())), manifests.missed()
    return Row(n - len(missed), n, "missing rules caught", missed)


def damage_mutants(scratch: Path, every: int) -> Row:
    """A reader that verifies no hash, one that looks at no size, and one that mixes generations must be caught."""
    path, missed = small_index(scratch / "d"), []
    if not flips(path, every=97, opener=careless).bad:
        missed.append("no hash is verified")
    with without_sizes():
        if not swaps(path, opener=careless).bad:
            missed.append("no size is compared")
    with lying():
        if not read_while_writing(scratch / "rm", readers=2, commits=6, queries=50).bad:
            missed.append("generations are mixed")
    return Row(3 - len(missed), 3, "careless readers caught", missed)


def fuzzed(scratch: Path, every: int) -> Row:
    """Random damage to whatever is parsed."""
    names = [name for name in TARGETS if name != "PLAID .pt" or importlib.util.find_spec("torch")]
    campaigns = [fuzz(name, scratch / "z" / str(i), FUZZ_SECONDS / every / len(names)) for i, name in enumerate(names)]
    note = f"of {len(names)} kinds, {sum(f.kinds for f in campaigns):,} different answers"
    return Row(sum(f.inputs for f in campaigns), 0, note, [b for f in campaigns for b in f.bad])


CAMPAIGN: dict[str, Callable[[Path, int], Row]] = {
    "crash states": crashes,
    "crash mutants": crash_mutants,
    "kill -9 at each operation": kills,
    "kill -9 at random": random_kills,
    "failed operations": injections,
    "failure mutants": injection_mutants,
    "limits of the kernel": limits,
    "full disk": full,
    "writers that race": writers,
    "flipped bits": flipped,
    "cut files": cut,
    "swapped files": swapped,
    "damage mutants": damage_mutants,
    "re-signed manifests": resigned,
    "manifest mutants": manifest_mutants,
    "attack folders": attacked,
    "attack mutants": attack_mutants,
    "fuzzed inputs": fuzzed,
    "queries beside a writer": readers,
}


def _sum(reports: Iterable[Report], aim: int, what: str) -> Row:
    total = list(reports)
    bad = [b for report in total for b in report.bad]
    return Row(sum(r.cases for r in total), aim, f"{sum(r.new for r in total):,} {what}", bad)


def _rows(only: str | None, every: int, scratch: Path) -> Iterator[tuple[str, Row, float]]:
    for name, run in CAMPAIGN.items():
        if only is None or only in name:
            start = time.perf_counter()
            yield name, run(scratch, every), time.perf_counter() - start


@click.command()
@click.option("--every", default=1, show_default=True, help="Run every n-th case: a short campaign.")
@click.option("--only", help="Rows whose name contains this.")
def main(every: int, only: str | None) -> None:
    """Run the campaign and print its table."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    scratch = Path(tempfile.mkdtemp(dir=RAM if RAM.is_dir() else None))
    failed = False
    click.echo(f"{'':26} {'cases':>9} {'aim':>7} {'bad':>4} {'seconds':>8}")
    try:
        for name, row, seconds in _rows(only, every, scratch):
            failed |= bool(row.bad)
            click.echo(f"{name:26} {row.cases:9,} {row.aim:7,} {len(row.bad):4} {seconds:8.1f}  {row.note}")
            for bad in row.bad[:5]:
                click.echo(f"    {bad}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
