"""Training of ColBERT: late interaction."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refcolbert.encoding.tokens import TextTokenizer
from refcolbert.errors import TrainingError

from .batches import Batch, Group
from .embed import Cached, Direct, encode, groups_of
from .losses import vectors
from .maxsim import maxsim
from .settings import Settings
from .start import Start, for_training, save_start
from .validate import Pool, Validator

__all__ = ["LateInteraction"]


class LateInteraction:
    """Trains a ColBERT model: each text becomes token vectors, scores are MaxSim of all pairs.

    The training loop uses these names. `cross_encoder.CrossInteraction` has the same ones.
    """

    def __init__(self, start: Start, settings: Settings, teacher: Start | None) -> None:
        self.start, self.model, self.settings = start, start.model, settings
        self.teacher = None if teacher is None else _Teacher(teacher, start, settings)
        self.tokens = 0  # tokens that went through the model so far, without padding
        spec = for_training(start, settings.query_length, settings.document_length)
        self._tokenizer = TextTokenizer(start.tokenizer_json, spec)
        self._embedder = (Cached if settings.cached else Direct)(self.model, settings.precision)

    @property
    def backbone(self) -> Any:
        """The transformer, whose lower layers can be frozen."""
        return self.model.backbone

    @property
    def head(self) -> list[nn.Parameter]:
        """The projection, which has its own learning rate."""
        return list(self.model.head.parameters())

    @property
    def unused(self) -> list[nn.Parameter]:
        """BERT's pooler, on which no score depends."""
        pooler = getattr(self.backbone, "pooler", None)
        return [] if pooler is None else list(pooler.parameters())

    @property
    def teacher_hash(self) -> str | None:
        """Hash of the teacher's weights, without which a run is not resumed."""
        return None if self.teacher is None else self.teacher.hash

    def scores(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:  # -> [n_queries, n_docs], name -> []
        """MaxSim of every query with every document, and the losses that need vectors instead."""
        most, pad = self.settings.group_tokens, self.start.spec.pad_id
        queries, documents = self._tokenizer.queries(batch.queries), self._tokenizer.documents(batch.documents)
        self.tokens += sum(len(t.ids) for t in (*queries, *documents))
        query_groups = groups_of(queries, batch.queries, pad, most)
        document_groups = groups_of(documents, batch.documents, pad, most)
        q, d = self._embedder.embed(query_groups), self._embedder.embed(document_groups)
        losses = {}
        if self.teacher is not None:
            rows = torch.cat([q.rows, d.rows])  # [n_rows, dim]
            losses["vectors"] = vectors(rows, self.teacher.rows([*query_groups, *document_groups]))
        return maxsim(q.rows, q.lengths, d.rows, d.lengths)[q.places][:, d.places], losses

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the weights'."""
        self._embedder.backward(loss)

    def save(self, out: Path) -> None:
        """Write the checkpoint folder. When that fails, the previous content of `out` stays."""
        save_start(self.start, out)

    def validator(self, pool: Pool) -> Validator:
        """A validator that ranks all documents of the pool."""
        return Validator(pool, self.model, self._tokenizer, self.settings)


class _Teacher:
    """A trained ColBERT model that cuts texts into the same tokens, and has as many columns."""

    def __init__(self, teacher: Start, start: Start, settings: Settings) -> None:
        wanted, found = start.spec, teacher.spec
        other = [
            f"{name} {getattr(found, name)!r} instead of {getattr(wanted, name)!r}"
            for name in wanted.__slots__
            if getattr(wanted, name) != getattr(found, name)
        ]
        if teacher.tokenizer_json != start.tokenizer_json:
            other.insert(0, "another tokenizer")
        if other:
            raise TrainingError(
                f"expected a teacher with the start's tokens, lengths and columns, found one with {', '.join(other)}; "
                "make the start from the teacher's checkpoint"
            )
        self._model, self._precision = teacher.model.eval(), settings.precision
        digest = hashlib.sha256()
        for name, tensor in teacher.model.state_dict().items():
            if "pooler." not in name:  # no vector depends on it, and where a checkpoint has none, it is random
                digest.update(tensor.numpy().tobytes())
        self.hash = digest.hexdigest()

    def rows(self, groups: Sequence[Group]) -> Tensor:  # -> [n_rows, dim]
        """Its vectors, without gradients."""
        with torch.no_grad():
            return torch.cat([encode(self._model, g, self._precision) for g in groups])
