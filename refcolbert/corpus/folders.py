"""The files of a folder, without hidden ones and those that a .gitignore names."""

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InvalidInput

__all__ = ["EXTRA", "visible_files"]

EXTRA = "pip install 'refcolbert[files]'"

Rules = tuple[tuple[Path, Any], ...]  # folders with a .gitignore, and its patterns


def visible_files(folder: Path, left_out: Counter[str]) -> list[Path]:
    """Return all files below a folder, sorted, and count in `left_out` the entries that are left out.

    Links to folders are not followed. A .gitignore of a deeper folder has precedence, as in git.
    """
    return list(_walk(folder, (), left_out))


def _walk(folder: Path, rules: Rules, left_out: Counter[str]) -> Iterator[Path]:
    """Yield the files below a folder; `rules` are those of the folders above."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InvalidInput(f"{folder}: cannot be read: {error.strerror}; change its permissions") from error
    if (folder / ".gitignore").is_file():
        if find_spec("pathspec"):
            rules = (*rules, (folder, _patterns(folder / ".gitignore")))
        else:
            left_out[f".gitignore, which is followed after {EXTRA}"] += 1
    for path in paths:
        if path.name.startswith("."):
            left_out["hidden"] += 1
        elif _ignored(path, rules):
            left_out["in .gitignore"] += 1
        elif path.is_dir() and not path.is_symlink():
            yield from _walk(path, rules, left_out)
        elif path.is_file():
            yield path


def _patterns(file: Path) -> Any:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8", errors="replace").splitlines())


def _ignored(path: Path, rules: Rules) -> bool:
    for folder, patterns in reversed(rules):
        name = path.relative_to(folder).as_posix() + "/" * path.is_dir()
        decision = patterns.check_file(name).include
        if decision is not None:
            return bool(decision)
    return False
