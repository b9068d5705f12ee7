"""The matplotlib drawing: every similarity, every label, the matches; and the error without matplotlib."""

import builtins

import numpy as np
import pytest

from refcolbert import rerank
from refcolbert.errors import MissingDependency

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402 - after the choice of a backend without a screen

TEXT = "Costs $5 to $7, or $x^2 each: \u4e2d\u6587 and a date"


@pytest.fixture
def explanation(encoder):
    """The explanation of a text that holds dollar signs, which could be read as a formula."""
    (hit,) = rerank("parse a $date$", [TEXT], encoder)
    return hit.explain()


@pytest.fixture(autouse=True)
def closed():
    """No figure is left open."""
    yield
    pyplot.close("all")


def test_the_drawing_holds_every_similarity_and_label(explanation):
    """Cells and labels are the explanation's, the marks are on the matches, the title has the score."""
    ax = explanation.plot()
    (image,) = ax.get_images()
    assert np.array_equal(np.asarray(image.get_array()), explanation.similarities)
    assert [label.get_text() for label in ax.get_yticklabels()] == [m.query_token for m in explanation.matches]
    assert tuple(label.get_text() for label in ax.get_xticklabels()) == explanation.document_tokens
    (marks,) = ax.get_lines()
    assert marks.get_xdata().tolist() == [m.document_row for m in explanation.matches]
    assert list(marks.get_ydata()) == list(range(len(explanation.matches)))
    assert f"{explanation.score:.3f}" in ax.get_title()


@pytest.mark.filterwarnings("ignore:Glyph")  # the fonts of this machine may lack ideographs
def test_it_can_be_rendered(explanation, tmp_path):
    """Dollar signs are not read as formulas, and the picture is large enough for its labels."""
    ax = explanation.plot()
    ax.figure.savefig(tmp_path / "drawing.png")
    height, width, _ = pyplot.imread(tmp_path / "drawing.png").shape
    assert (tmp_path / "drawing.png").read_bytes()[:4] == b"\x89PNG"
    assert width >= 400
    assert height >= 10 * len(explanation.matches)


def test_given_axes_are_drawn_on(explanation):
    """Given axes are drawn on and returned, and no figure is made."""
    _, axes = pyplot.subplots(1, 2)
    before = pyplot.get_fignums()
    assert explanation.plot(axes[1]) is axes[1]
    assert pyplot.get_fignums() == before
    assert axes[1].get_images()
    assert not axes[0].get_images()


def test_without_matplotlib_the_error_names_the_extra(explanation, monkeypatch):
    """A missing matplotlib is a MissingDependency that names the extra to install."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"refcolbert\[plot\]"):
        explanation.plot()
