"""The losses of one batch, from the scores of all its queries with all its documents."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from refcolbert.errors import TrainingError

from .batches import Batch
from .data import Example
from .losses import LOSSES, in_batch, kl_divergence
from .settings import Settings

__all__ = ["check_losses", "losses_of", "weighted"]


def check_losses(settings: Settings, examples: Sequence[Example]) -> None:
    """Refuse a loss for which no example has what it reads. Raises `TrainingError`."""
    negatives = settings.negatives != 0 and any(e.negatives for e in examples)
    has = {"batch": True, "negatives": negatives, "teacher": negatives and any(e.scores for e in examples)}
    for name in settings.losses:
        reads = LOSSES[name][0]
        if not has[reads]:
            wanted = "negatives" if reads == "negatives" else "negatives with a teacher's 'scores'"
            raise TrainingError(f"the loss {name} needs examples with {wanted}; there is none, or --negatives is 0")
    if settings.batch < 2 and set(settings.losses) == {"in-batch"} and not negatives:
        raise TrainingError("the loss in-batch needs a batch of at least 2 examples, or negatives: it compares them")


def losses_of(scores: Tensor, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Name -> loss [] of this batch, unweighted; a loss that no query here has the data for is left out.

    `scores` is [n_queries, n_docs], columns as in `batch.documents`.
    """
    found: dict[str, Tensor] = {}
    for name in settings.losses:
        loss = _in_batch(scores, batch, settings) if name == "in-batch" else _own(name, scores, batch, settings)
        if loss is not None:
            found[name] = loss
    return found


def weighted(losses: dict[str, Tensor], settings: Settings, scores: Tensor) -> Tensor:
    """The weighted sum []; a zero that has a graph where there is no loss."""
    return sum((settings.losses[name] * loss for name, loss in losses.items()), start=0 * scores.sum())


def _in_batch(scores: Tensor, batch: Batch, settings: Settings) -> Tensor:
    positives = torch.tensor([columns[0] for columns in batch.columns])  # [n_queries]
    return in_batch(scores, positives, settings.temperature, batch.compared)


def _own(name: str, scores: Tensor, batch: Batch, settings: Settings) -> Tensor | None:
    """The mean over the queries that have negatives (and a teacher), those with equally many together."""
    reads, loss = LOSSES[name]
    widths: defaultdict[int, list[int]] = defaultdict(list)  # how many documents -> queries
    for i, columns in enumerate(batch.columns):
        if len(columns) > 1 and (reads != "teacher" or batch.teacher[i] is not None):
            widths[len(columns)].append(i)
    parts = []
    for rows in widths.values():
        given = [_gathered(scores, batch, rows)]
        if reads == "teacher":
            given.append(scores.new_tensor([batch.teacher[i] for i in rows]))
        if loss is kl_divergence:
            given = [given[0] / settings.student_temperature, given[1] / settings.teacher_temperature]
        parts.append(len(rows) * loss(*given))
    n = sum(len(rows) for rows in widths.values())
    return torch.stack(parts).sum() / n if parts else None


def _gathered(scores: Tensor, batch: Batch, rows: list[int]) -> Tensor:  # -> [n_rows, width]
    columns = torch.tensor([batch.columns[i] for i in rows])  # [n_rows, width]
    return scores[torch.tensor(rows)].gather(1, columns)
