"""A matplotlib drawing of the similarities of query tokens and document tokens (extra `plot`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["heatmap"]

# In inches: the row or column of one token, and the limits of a side of the drawing.
CELL, MIN_SIDE, MAX_SIDE = 0.17, 4.0, 60.0


def heatmap(
    similarities: NDArray[np.float32],  # [n_q, n_d]
    query_tokens: Sequence[str],  # n_q
    document_tokens: Sequence[str],  # n_d
    rows: Sequence[int],  # n_q, the document token of each match
    title: str,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw on `ax`, or on new axes large enough for every label, and return the axes.

    Raises `MissingDependency` without matplotlib.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingDependency(
            "a drawing needs matplotlib, which is not installed: pip install 'refcolbert[plot]'"
        ) from error
    n_q, n_d = similarities.shape
    if ax is None:
        size = (_side(n_d), _side(n_q))
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    image = ax.imshow(similarities, vmin=min(0.0, float(similarities.min())), vmax=1, cmap="viridis", aspect="auto")
    ax.plot(rows, range(n_q), linestyle="none", marker="s", fillstyle="none", color="red", label="matches")
    # parse_math=False: matplotlib would typeset text between dollar signs as a formula.
    ax.set_xticks(range(n_d), document_tokens, rotation=90, fontsize=7, parse_math=False)
    ax.set_yticks(range(n_q), query_tokens, fontsize=7, parse_math=False)
    ax.set_title(title, fontsize=9)
    ax.figure.colorbar(image, ax=ax, label="similarity", pad=0.01)
    return ax


def _side(n_tokens: int) -> float:
    return float(np.clip(1.5 + CELL * n_tokens, MIN_SIDE, MAX_SIDE))
