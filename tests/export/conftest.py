"""Everything here needs the torch side."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the export extra is not installed")
pytest.importorskip("transformers", reason="the export extra is not installed")

import torch

torch.set_num_threads(1)  # tiny models: several threads only wait for each other


def pytest_collection_modifyitems(items):
    """Mark every test of this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.export)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The tiny Stanford checkpoint, read-only."""
    from tools.tiny_model import write_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_checkpoint(folder)
    return folder
