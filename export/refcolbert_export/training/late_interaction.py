"""What the training loop needs of a model, and the first that has it: ColBERT's late interaction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from refcolbert.encoding.tokens import TextTokenizer

from .batches import Batch
from .embed import Cached, Direct, Embedder, groups_of
from .maxsim import maxsim
from .settings import Settings
from .start import Start, for_training, save_start
from .validate import Pool, Validator

__all__ = ["Architecture", "LateInteraction", "Measure"]


class Measure(Protocol):
    """A pool of held-out queries, ready to be ranked again and again."""

    def measure(self) -> dict[str, float]:
        """Metric -> mean over the judged queries, by the weights of this moment."""
        ...


class Architecture(Protocol):
    """A model that scores queries with documents, and how it is trained and kept."""

    tokens: int  # how many went through the model so far, without padding

    @property
    def model(self) -> nn.Module:
        """All that a state holds."""
        ...

    @property
    def backbone(self) -> Any:
        """The transformer, whose lower layers can be frozen."""
        ...

    @property
    def head(self) -> Sequence[nn.Parameter]:
        """What has a learning rate of its own."""
        ...

    @property
    def unused(self) -> Sequence[nn.Parameter]:
        """What no score depends on."""
        ...

    def scores(self, batch: Batch) -> Tensor:
        """[n_queries, n_docs]: of every query at least with the documents in its own columns."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradient to the weights'."""
        ...

    def save(self, out: Path) -> None:
        """Write the checkpoint folder; on failure what was there stays."""
        ...

    def validator(self, pool: Pool) -> Measure:
        """The pool, prepared."""
        ...


class LateInteraction:
    """ColBERT: texts become token vectors one by one, scores are MaxSim of all pairs."""

    def __init__(self, start: Start, settings: Settings) -> None:
        self.start, self.model, self.settings, self.tokens = start, start.model, settings, 0
        spec = for_training(start, settings.query_length, settings.document_length)
        self._tokenizer = TextTokenizer(start.tokenizer_json, spec)
        self._embedder: Embedder = (Cached if settings.cached else Direct)(self.model, settings.precision)

    @property
    def backbone(self) -> Any:
        """The transformer."""
        return self.model.backbone

    @property
    def head(self) -> list[nn.Parameter]:
        """The projection."""
        return list(self.model.head.parameters())

    @property
    def unused(self) -> list[nn.Parameter]:
        """BERT's pooler."""
        pooler = getattr(self.backbone, "pooler", None)
        return [] if pooler is None else list(pooler.parameters())

    def scores(self, batch: Batch) -> Tensor:
        """MaxSim of every query with every document, [n_queries, n_docs]."""
        most, pad = self.settings.group_tokens, self.start.spec.pad_id
        queries, documents = self._tokenizer.queries(batch.queries), self._tokenizer.documents(batch.documents)
        self.tokens += sum(len(t.ids) for t in (*queries, *documents))
        q = self._embedder.embed(groups_of(queries, batch.queries, pad, most))
        d = self._embedder.embed(groups_of(documents, batch.documents, pad, most))
        return maxsim(q.rows, q.lengths, d.rows, d.lengths)[q.places][:, d.places]

    def backward(self, loss: Tensor) -> None:
        """Directly, or by way of cached gradients."""
        self._embedder.backward(loss)

    def save(self, out: Path) -> None:
        """In the layout that it came in, a new one in Stanford's."""
        save_start(self.start, out)

    def validator(self, pool: Pool) -> Validator:
        """Rank all documents of the pool."""
        return Validator(pool, self.model, self._tokenizer, self.settings)
