"""Training of ColBERT: late interaction."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from refcolbert.encoding.tokens import TextTokenizer

from .batches import Batch
from .embed import Cached, Direct, groups_of
from .maxsim import maxsim
from .settings import Settings
from .start import Start, for_training, save_start
from .validate import Pool, Validator

__all__ = ["LateInteraction"]


class LateInteraction:
    """Trains a ColBERT model: each text becomes token vectors, scores are MaxSim of all pairs.

    The training loop uses these names. `cross_encoder.CrossInteraction` has the same ones.
    """

    def __init__(self, start: Start, settings: Settings) -> None:
        self.start, self.model, self.settings = start, start.model, settings
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

    def scores(self, batch: Batch) -> Tensor:  # -> [n_queries, n_docs]
        """MaxSim of every query with every document."""
        most, pad = self.settings.group_tokens, self.start.spec.pad_id
        queries, documents = self._tokenizer.queries(batch.queries), self._tokenizer.documents(batch.documents)
        self.tokens += sum(len(t.ids) for t in (*queries, *documents))
        q = self._embedder.embed(groups_of(queries, batch.queries, pad, most))
        d = self._embedder.embed(groups_of(documents, batch.documents, pad, most))
        return maxsim(q.rows, q.lengths, d.rows, d.lengths)[q.places][:, d.places]

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the weights'."""
        self._embedder.backward(loss)

    def save(self, out: Path) -> None:
        """Write the checkpoint folder. When that fails, the previous content of `out` stays."""
        save_start(self.start, out)

    def validator(self, pool: Pool) -> Validator:
        """A validator that ranks all documents of the pool."""
        return Validator(pool, self.model, self._tokenizer, self.settings)
