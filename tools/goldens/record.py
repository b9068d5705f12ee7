"""Writing one golden: arrays in <case>.npz, and in <case>.json where they come from and how exact they are.

Imports numpy alone, so that it works in every original's environment.
"""

import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEYS", "ROOT", "sha256", "write"]

ROOT = Path(__file__).parents[2]
KEYS = ("schema", "suite", "case", "source", "command", "seed", "tools", "versions", "platform", "tolerance", "reason")


def write(
    out: Path,
    suite: str,
    case: str,
    arrays: Mapping[str, NDArray[Any]],
    *,
    source: str,  # what computed the arrays, in words
    tools: Sequence[str],  # files of this repository that had a part in it
    packages: Sequence[str],
    seed: int | None,
    tolerance: Mapping[str, float],  # by array: largest absolute difference; 0 is exact
) -> None:
    """Write one case. Every array has its tolerance; raises ValueError where one has none."""
    if set(tolerance) != set(arrays):
        raise ValueError(f"{case}: tolerances {sorted(tolerance)} for arrays {sorted(arrays)}")
    out.mkdir(parents=True, exist_ok=True)
    ordered: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
    np.savez_compressed(out / f"{case}.npz", **ordered)
    about = {
        "schema": 1,
        "suite": suite,
        "case": case,
        "source": source,
        "command": f"python -m tools.golden regen --suite {suite} --reason ...",
        "seed": seed,
        "tools": {name: sha256(ROOT / name) for name in tools},
        "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages},
        "platform": {"system": sys.platform, "machine": platform.machine()},
        "tolerance": dict(tolerance),
        "reason": "",  # `tools.golden regen` notes why it was made again
    }
    (out / f"{case}.json").write_text(json.dumps(about, indent=1) + "\n")


def sha256(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
