"""The losses of one batch, from the scores of all queries with all documents."""

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


def check_losses(settings: Settings, examples: Sequence[Example], *, teacher: bool = False) -> None:
    """Raise `TrainingError` for a loss for which no example has the data, or a model as teacher without its loss."""
    if settings.architecture == "cross-encoder" and (teacher or "vectors" in settings.losses):
        raise TrainingError("a cross-encoder has no token vectors that a model could teach; choose another loss")
    if "vectors" in settings.losses and not teacher:
        raise TrainingError("the loss vectors needs a teacher, found none; add --teacher CHECKPOINT")
    if teacher and "vectors" not in settings.losses:
        raise TrainingError(
            "a teacher is for the loss vectors alone, which is not among the losses; add --loss vectors"
        )
    negatives = settings.negatives != 0 and any(e.negatives for e in examples)
    has = {"batch": True, "negatives": negatives, "teacher": negatives and any(e.scores for e in examples)}
    for name in settings.losses.keys() & LOSSES.keys():
        reads = LOSSES[name][0]
        if not has[reads]:
            wanted = "negatives" if reads == "negatives" else "negatives with a teacher's 'scores'"
            raise TrainingError(
                f"the loss {name} needs examples with {wanted}, found none, or --negatives is 0; add them"
            )
    if settings.batch < 2 and set(settings.losses) == {"in-batch"} and not negatives:
        raise TrainingError("the loss in-batch needs a batch of at least 2 examples, or negatives; found --batch 1")


def losses_of(scores: Tensor, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Name -> loss [] of this batch, unweighted. A loss for which no query of the batch has the data is left out.

    `scores` is [n_queries, n_docs], columns as in `batch.documents`.
    """
    losses: dict[str, Tensor] = {}
    for name in (name for name in settings.losses if name in LOSSES):
        if name == "in-batch":
            positives = torch.tensor([columns[0] for columns in batch.columns])  # [n_queries]
            losses[name] = in_batch(scores, positives, settings.temperature, batch.compared)
        elif (loss := _over_own_documents(name, scores, batch, settings)) is not None:
            losses[name] = loss
    return losses


def weighted(losses: dict[str, Tensor], settings: Settings, scores: Tensor) -> Tensor:
    """The weighted sum []. Without losses it is a zero with a graph."""
    nothing = 0 * scores.sum() if not losses else scores.new_zeros(())
    return sum((settings.losses[name] * loss for name, loss in losses.items()), start=nothing)


def _over_own_documents(name: str, scores: Tensor, batch: Batch, settings: Settings) -> Tensor | None:
    """The mean over the queries that have negatives (and a teacher); None without such queries."""
    reads, loss = LOSSES[name]
    # Queries with equally many documents are computed together.
    widths: defaultdict[int, list[int]] = defaultdict(list)  # number of documents -> queries
    for i, columns in enumerate(batch.columns):
        if len(columns) > 1 and (reads != "teacher" or batch.teacher[i] is not None):
            widths[len(columns)].append(i)
    parts = []
    for rows in widths.values():
        documents = torch.tensor([batch.columns[i] for i in rows])  # [n_rows, width]
        tables = [scores[torch.tensor(rows)].gather(1, documents)]  # [n_rows, width] student, teacher
        if reads == "teacher":
            tables.append(scores.new_tensor([batch.teacher[i] for i in rows]))
        if loss is kl_divergence:
            tables = [tables[0] / settings.student_temperature, tables[1] / settings.teacher_temperature]
        parts.append(len(rows) * loss(*tables))
    n = sum(len(rows) for rows in widths.values())
    return torch.stack(parts).sum() / n if parts else None
