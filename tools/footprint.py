"""Print what a new user gets: megabytes of a new environment with the core, and seconds to a first answer.

python -m tools.footprint
"""

import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from refcolbert.encoder import default_model_folder

ROOT = Path(__file__).parent.parent
TRIES = 5
FIRST = """
import time
start = time.perf_counter()
import refcolbert
imported = time.perf_counter()
with refcolbert.Index.open({index!r}) as index:
    hits = index.search("how do I parse a date", 3)
print(imported - start, time.perf_counter() - start, len(hits))
"""


def megabytes(folder: Path) -> float:
    """What the files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def main() -> None:
    """Make the environment, measure, and print."""
    with tempfile.TemporaryDirectory() as made:
        home, index = Path(made) / "env", Path(made) / "docs.index"
        venv.create(home, with_pip=True)
        empty = megabytes(home)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", ROOT], check=True)
        core, model = megabytes(home) - empty, megabytes(default_model_folder())
        for package in sorted((home / "lib").glob("python*/site-packages/*"), key=megabytes, reverse=True)[:6]:
            print(f"  {package.name:24} {megabytes(package):7.1f} MB")
        print(f"core {core:.1f} MB, default model {model:.1f} MB, together {core + model:.1f} MB (aim: 270)")
        subprocess.run([home / "bin" / "refcolbert", "index", index, ROOT / "README.md", ROOT / "docs"], check=True)
        first(home / "bin" / "python", index)


def first(python: Path, index: Path) -> None:
    """Import and first search in new processes."""
    found, whole = [], []
    for _ in range(TRIES):
        start = time.perf_counter()
        done = subprocess.run(
            [python, "-c", FIRST.format(index=str(index))], check=True, capture_output=True, text=True
        )
        whole.append(time.perf_counter() - start)
        found.append([float(value) for value in done.stdout.split()[:2]])
    imported, answered = (statistics.median(values) for values in zip(*found, strict=True))
    print(f"import {imported:.2f} s, import and first search {answered:.2f} s (aim: 1), ", end="")
    print(f"the whole process {statistics.median(whole):.2f} s: medians of {TRIES}, {sys.platform}")


if __name__ == "__main__":
    main()
