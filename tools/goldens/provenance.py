"""The provenance of a golden: code, versions, reason."""

import hashlib
import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from typing import Any

from tools import ROOT

from .cases import SEED

__all__ = ["commit", "hashed", "provenance"]


def provenance(suite: str, case: str, more: dict[str, Any], tolerance: dict[str, float], reason: str) -> dict[str, Any]:
    """The provenance of a case, with the keys `tools.goldens.files.KEYS`."""
    own = {name: importlib.metadata.version(name) for name in ("numpy", "torch")}
    return {
        "schema": 1,
        "suite": suite,
        "case": case,
        "generated_by": f"tools/goldens/suites.py at {commit()}",
        "command": f"python -m tools.goldens regen --suite {suite}",
        "date": datetime.now(UTC).date().isoformat(),
        "seed": SEED,
        "source": {},
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "tolerance": tolerance,
        "reason": reason,
        **more,
        "versions": {"python": platform.python_version(), **more.get("versions", own)},
    }


def hashed(*names: str) -> dict[str, str]:
    """SHA-256 of files of this repository."""
    return {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in names}


def commit() -> str:
    """The commit that is checked out, in short."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
