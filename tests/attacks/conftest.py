"""Where folders are attacked: in memory where there is such a disk."""

import shutil
import tempfile
from pathlib import Path

import pytest

RAM = Path("/dev/shm")  # noqa: S108 - a new folder of our own is made in it


@pytest.fixture
def scratch(tmp_path):
    """A folder that does not exist yet."""
    folder = Path(tempfile.mkdtemp(dir=RAM if RAM.is_dir() else tmp_path))
    yield folder / "x"
    shutil.rmtree(folder, ignore_errors=True)
