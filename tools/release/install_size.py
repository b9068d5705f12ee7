"""Print what a new user gets: megabytes of a new environment with the core, and seconds to a first answer.

python -m tools.release.install_size
"""

import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from tools import ROOT

TRIES = 5
FIRST = """
import time
start = time.perf_counter()
import refcolbert
imported = time.perf_counter()
with refcolbert.Index.open({index!r}) as index:
    hits = index.search("how do I parse a date", 3)
print(imported - start, time.perf_counter() - start, time.process_time(), len(hits))
"""


def megabytes(folder: Path) -> float:
    """Size of the files of a folder; a file with two names counts once."""
    files = (path.stat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values()) / 1e6


def packaged(libraries: Path) -> list[Path]:
    """The models that the package installed among these libraries brings along."""
    return sorted((libraries / "refcolbert").glob("*_model"))


def main() -> None:
    """Make the environment, measure, and print."""
    with tempfile.TemporaryDirectory() as made:
        home, index = Path(made) / "env", Path(made) / "docs.index"
        venv.create(home, with_pip=True)
        empty = megabytes(home)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", ROOT], check=True)
        (libraries,) = (home / "lib").glob("python*/site-packages")
        together, models = megabytes(home) - empty, packaged(libraries)
        for package in sorted(libraries.iterdir(), key=megabytes, reverse=True)[:6]:
            print(f"  {package.name:24} {megabytes(package):7.1f} MB")
        shares = [f"of which {model.name} {megabytes(model):.1f} MB" for model in models]
        print(", ".join([f"together {together:.1f} MB (aim: 270)", *shares]), flush=True)
        command: list[str | Path] = [home / "bin" / "refcolbert", "index", index, ROOT / "README.md", ROOT / "docs"]
        subprocess.run(command, check=True)
        first(home / "bin" / "python", index)


def first(python: Path, index: Path) -> None:
    """Import and first search in new processes; where others work on the same cores, processor time says more."""
    found, whole = [], []
    for _ in range(TRIES):
        start = time.perf_counter()
        done = subprocess.run(
            [python, "-c", FIRST.format(index=str(index))], check=True, capture_output=True, text=True
        )
        whole.append(time.perf_counter() - start)
        found.append([float(value) for value in done.stdout.split()[:3]])
    imported, answered, worked = (statistics.median(values) for values in zip(*found, strict=True))
    print(f"import {imported:.2f} s, import and first search {answered:.2f} s (aim: 1), ", end="")
    print(f"processor time until then {worked:.2f} s, the whole process {statistics.median(whole):.2f} s: ", end="")
    print(f"medians of {TRIES}, {sys.platform}")


if __name__ == "__main__":
    main()
