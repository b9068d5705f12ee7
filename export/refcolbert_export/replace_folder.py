"""A folder is written beside its place and then put into it."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["replace_folder"]


def replace_folder(out: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder beside `out`, then put it at `out`; when anything fails what was there stays."""
    staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    old = staged.with_name(f"{staged.name}.old")
    try:
        staged.chmod(0o755)
        write(staged)
        if out.exists():
            out.rename(old)
        staged.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(staged, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
