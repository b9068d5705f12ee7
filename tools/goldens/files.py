"""Goldens on disk: golden/<suite>/<case>.json says where golden/<suite>/<case>.npz comes from and how exact it is.

MANIFEST.json holds the SHA-256 of every file under golden/ and the reason of its last change, so that a changed, new or
lost file is noticed.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools import ROOT

GOLDEN = ROOT / "golden"
MANIFEST = GOLDEN / "MANIFEST.json"
LARGEST = 5_000_000  # bytes of all goldens together
KEYS = {
    *("schema", "suite", "case", "generated_by", "command", "date", "seed"),
    *("source", "versions", "platform", "tolerance", "reason"),
}
TREES = (  # provenance of the folders that other tools fill
    *("encode/stanford.json", "encode/pylate.json", "encode/multivector.json"),
    "encode/bge_m3.json",
    *("plaid/provenance.json", "index/provenance.json"),
)
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """One case: arrays, the absolute tolerance of each (0: exact), and where they come from."""

    suite: str
    case: str
    arrays: Arrays
    about: dict[str, Any]

    @property
    def paths(self) -> tuple[Path, Path]:
        """The files of the provenance and of the arrays."""
        return GOLDEN / self.suite / f"{self.case}.json", GOLDEN / self.suite / f"{self.case}.npz"


def read(suite: str, case: str) -> Golden:
    """One case from disk."""
    about = json.loads((GOLDEN / suite / f"{case}.json").read_text())
    with np.load(GOLDEN / suite / f"{case}.npz") as held:
        return Golden(suite, case, dict(held), about)


def read_tree(folder: Path) -> Golden:
    """A folder of golden/encode: ids, attention, kept rows and vectors of each text, and the checkpoint's bytes."""
    expected = json.loads((folder / "expected.json").read_text())
    arrays: dict[str, NDArray[Any]] = {"texts": np.array(json.dumps(expected["texts"]))}
    for side, texts in expected["tokens"].items():
        for i, text in enumerate(texts):
            arrays |= {f"{key} of {side} {i}": np.array(values, np.int64) for key, values in text.items()}
    with np.load(folder / "expected.npz") as held:
        arrays |= held
    for path in sorted((folder / "checkpoint").rglob("*")):
        if path.is_file():
            arrays[str(path.relative_to(folder))] = np.frombuffer(path.read_bytes(), np.uint8)
    return Golden("encode", folder.name, arrays, expected)


def write_about(name: str, about: Mapping[str, Any]) -> None:
    """Write the provenance of a folder of goldens."""
    (GOLDEN / name).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def write(golden: Golden) -> None:
    """One case to disk."""
    about, arrays = golden.paths
    about.parent.mkdir(parents=True, exist_ok=True)
    about.write_text(json.dumps(golden.about, indent=1, ensure_ascii=False) + "\n")
    np.savez_compressed(arrays, allow_pickle=False, **golden.arrays)


def differences(old: Golden | None, new: Golden) -> list[str]:
    """A line for each array that changes: how far, in numbers and in units of the last place, and how many ranks."""
    held = {} if old is None else old.arrays
    lines = [f"{new.suite}/{new.case} {name}: gone" for name in held if name not in new.arrays]
    for name, array in new.arrays.items():
        before = held.get(name)
        if before is None or before.shape != array.shape or before.dtype != array.dtype:
            lines.append(f"{new.suite}/{new.case} {name}: new, {array.dtype} {list(array.shape)}")
        elif before.tobytes() != array.tobytes():
            lines.append(f"{new.suite}/{new.case} {name}: {_how_far(name, before, array)}")
    return lines


def _how_far(name: str, before: NDArray[Any], after: NDArray[Any]) -> str:
    changed = int((before != after).sum())
    if name.startswith("order"):
        return f"{changed} of {after.size} ranks changed"
    if after.dtype.kind != "f":
        return f"{changed} of {after.size} values changed"
    gap = np.abs(after.astype(np.float64) - before)
    units = gap / np.spacing(np.maximum(np.abs(before), np.finfo(before.dtype).tiny)).astype(np.float64)
    return f"max-abs {gap.max():.3g}, {units.max():.3g} ULP, {changed} of {after.size} values"


def hashes() -> dict[str, str]:
    """SHA-256 of every file under golden/, by path."""
    files = sorted(path for path in GOLDEN.rglob("*") if path.is_file() and path != MANIFEST)
    return {str(p.relative_to(GOLDEN)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def write_manifest(reason: str) -> None:
    """Take the files as they are."""
    MANIFEST.write_text(json.dumps({"reason": reason, "sha256": hashes()}, indent=1) + "\n")


def tree_faults(checkpoints: Collection[str]) -> list[str]:
    """Checkpoints without a command that makes them, commands without their checkpoint, folders of unknown origin."""
    there = {path.parent.name for path in (GOLDEN / "encode").glob("*/expected.json")}
    wrong = [f"encode/{name}: no command makes it" for name in there - set(checkpoints)]
    wrong += [f"encode/{name}: missing" for name in set(checkpoints) - there]
    for name in TREES:
        if not (GOLDEN / name).is_file():
            wrong.append(f"{name}: missing")
        else:
            gaps = sorted(KEYS - set(json.loads((GOLDEN / name).read_text())))
            wrong += [f"{name}: says nothing of {key}" for key in gaps]
    return wrong


def faults(suites: Mapping[str, Any]) -> list[str]:
    """Faults of the committed goldens: changed, orphaned or missing files, gaps in their provenance."""
    kept, found = json.loads(MANIFEST.read_text())["sha256"], hashes()
    wrong = [f"{name}: not in MANIFEST.json" for name in found if name not in kept]
    wrong += [f"{name}: missing" for name in kept if name not in found]
    wrong += [f"{name}: changed" for name in found if kept.get(name, found[name]) != found[name]]
    size = sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file())
    if size > LARGEST:
        wrong.append(f"{size:,} bytes, at most {LARGEST:,}")
    for suite, cases in suites.items():
        folder = GOLDEN / suite
        there = {path.stem for path in folder.glob("*")}
        wrong += [f"{suite}/{name}: no command makes it" for name in there - set(cases)]
        wrong += [f"{suite}/{name}: missing" for name in set(cases) - there]
        for name in there & set(cases):
            golden = read(suite, name)
            wrong += [f"{suite}/{name}: says nothing of {key}" for key in sorted(KEYS - set(golden.about))]
            if set(golden.about.get("tolerance", ())) != set(golden.arrays):
                wrong.append(f"{suite}/{name}: a tolerance for each array, and no other")
    return wrong
