"""Output folders that appear complete or not at all."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from refcolbert.errors import ExportError, RefColbertError

__all__ = ["check_free", "new_folder", "replace_folder"]

T = TypeVar("T")


def check_free(out: Path, error: type[RefColbertError]) -> None:
    """Raise `error` when a file, folder or link is at `out`."""
    if out.exists() or out.is_symlink():
        raise error(f"expected nothing at {out}, but something is already there; remove it or choose another path")


def new_folder(out: Path, write: Callable[[Path], T]) -> T:
    """As `replace_folder`, but raise `ExportError` when something is at `out`, before and after writing."""

    def write_and_check(folder: Path) -> T:
        written = write(folder)
        check_free(out, ExportError)
        return written

    check_free(out, ExportError)
    out.parent.mkdir(parents=True, exist_ok=True)
    return replace_folder(out, write_and_check)


def replace_folder(out: Path, write: Callable[[Path], T]) -> T:
    """Let `write` fill a new folder beside `out`, move it to `out`, and return what `write` returned.

    When anything fails, the previous content of `out` stays.
    """
    staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    old = staged.with_name(f"{staged.name}.old")
    try:
        staged.chmod(0o755)
        written = write(staged)
        if out.exists():
            out.rename(old)
        staged.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(staged, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return written
