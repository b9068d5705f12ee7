"""Training of a cross-encoder: transformers' model for sequence classification with one output."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from refcolbert.errors import TrainingError, UnsupportedCheckpoint
from refcolbert.evaluation.metrics import Run, evaluate

from ..cross_encoder import PairTokenizer, is_cross_encoder, padded
from ..layouts.backbones import longest_input
from ..layouts.checkpoints import LAYOUTS
from ..layouts.tokenizers import load_tokenizer, plain_json
from ..lengths import by_length
from ..parity.reference import quiet
from ..replace_folder import replace_folder
from .batches import Batch
from .embed import precision_context
from .settings import METRICS, Settings
from .validate import Pool

__all__ = ["CrossInteraction", "CrossStart", "pair_scores", "read_cross_start"]

# Weights that a plain transformer lacks.
NEW = ("classifier.", "score.", "pooler.", "pre_classifier.", "dense.")
# Tokens of a pair for the query and special tokens, besides the document's.
QUERY_ROOM = 32
# Tokens of a pair for a model whose positions have no end.
LONGEST = 512


@dataclass(frozen=True, slots=True)
class CrossStart:
    """A scorer to train and its tokenizer."""

    model: Any  # transformers' ...ForSequenceClassification with one output
    tokenizer: Any
    max_length: int  # tokens per pair in use; a checkpoint trained here has its training length
    longest: int  # tokens per pair that the model can read


def read_cross_start(folder: Path, seed: int = 0) -> CrossStart:
    """Read a cross-encoder, or a transformer that gets a new random scoring head from `seed`.

    Raises `UnsupportedCheckpoint` for a ColBERT checkpoint, and when weights of the transformer are missing.
    """
    if not folder.is_dir():
        raise UnsupportedCheckpoint(f"expected the folder of a transformer or a cross-encoder at {folder}, found none")
    if not is_cross_encoder(folder) and any(layout.recognizes(folder) for layout in LAYOUTS):
        raise UnsupportedCheckpoint(
            f"expected a plain transformer or a cross-encoder, {folder} is a ColBERT checkpoint; choose another START"
        )
    tokenizer = load_tokenizer(folder)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, loading = _load(folder)
    missing = [
        key for key in loading["missing_keys"] if not key.removeprefix(f"{model.base_model_prefix}.").startswith(NEW)
    ]
    if missing or loading["mismatched_keys"]:
        raise UnsupportedCheckpoint(f"{folder} lacks weights of its transformer: {', '.join(missing[:4]) or loading}")
    longest = min(longest_input(model) or LONGEST, LONGEST)
    return CrossStart(model, tokenizer, min(longest, int(tokenizer.model_max_length)), longest)


def _load(folder: Path) -> tuple[Any, dict[str, Any]]:
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise UnsupportedCheckpoint(f"transformers cannot read a cross-encoder from {folder}: {error}") from error
    return model, loading


class CrossInteraction:
    """Trains a cross-encoder: every pair of a query and one of its documents goes through the transformer."""

    def __init__(self, start: CrossStart, settings: Settings) -> None:
        if "in-batch" in settings.losses or settings.cached:
            raise TrainingError(
                "expected neither in-batch nor --cached: a cross-encoder scores a query with its own documents alone"
            )
        self.start, self.model, self.settings, self.tokens = start, start.model, settings, 0
        length = min(settings.document_length + QUERY_ROOM, start.longest)
        self._tokenizer = PairTokenizer(plain_json(start.tokenizer), length, start.tokenizer.pad_token_id or 0)

    @property
    def backbone(self) -> Any:
        """The transformer."""
        return self.model.base_model

    @property
    def head(self) -> list[nn.Parameter]:
        """The parameters outside the transformer."""
        backbone = {id(p) for p in self.backbone.parameters()}
        return [p for p in self.model.parameters() if id(p) not in backbone]

    @property
    def unused(self) -> list[nn.Parameter]:
        """No parameters: the pooler is part of the score."""
        return []

    @property
    def teacher_hash(self) -> None:
        """No model teaches it."""
        return

    def scores(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """[n_queries, n_docs] with the scores of each query's own documents. Other entries are 0 and never read.

        The losses that need more than scores are none.
        """
        rows = [i for i, columns in enumerate(batch.columns) for _ in columns]  # [n_pairs]
        columns = [column for documents in batch.columns for column in documents]  # [n_pairs]
        pairs = [(batch.queries[i], batch.documents[j]) for i, j in zip(rows, columns, strict=True)]
        scores = self._score(pairs)  # [n_pairs]
        table = scores.new_zeros(len(batch.queries), len(batch.documents))  # [n_queries, n_docs]
        return table.index_put((torch.tensor(rows), torch.tensor(columns)), scores), {}

    def _score(self, pairs: list[tuple[str, str]]) -> Tensor:  # -> [n_pairs]
        encodings = self._tokenizer.pairs(pairs)
        self.tokens += sum(len(e.ids) for e in encodings)
        groups = by_length([len(e.ids) for e in encodings], self.settings.group_tokens)
        parts = []
        for group in groups:
            inputs = padded([encodings[i] for i in group], self._tokenizer.pad_id)
            with precision_context(self.settings.precision):
                parts.append(pair_scores(self.model, {name: torch.from_numpy(a) for name, a in inputs.items()}))
        places = torch.tensor([i for group in groups for i in group])  # [n_pairs]
        return torch.cat(parts).float()[places.argsort()]

    def backward(self, loss: Tensor) -> None:
        """Plain backpropagation."""
        torch.autograd.backward(loss)

    def save(self, out: Path) -> None:
        """Write the folder as transformers does. Its tokenizer keeps the training length.

        Pairs beyond it rank badly, because their positions were not trained.
        """
        replace_folder(out, self._write)

    def _write(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.start.tokenizer.model_max_length = self._tokenizer.max_length
        self.start.tokenizer.save_pretrained(folder)

    def validator(self, pool: Pool) -> "_Reranking":
        """A validator that ranks each query's own candidates."""
        return _Reranking(pool, self)


def pair_scores(model: Any, inputs: dict[str, Tensor]) -> Tensor:  # [batch, length] each -> [batch]
    """The one output of each pair. Token types are left out if the model does not take them."""
    parameters = inspect.signature(model.forward).parameters
    logits: Tensor = model(**{name: a for name, a in inputs.items() if name in parameters}).logits  # [batch, 1]
    return logits[:, 0]


class _Reranking:
    """Validation on held-out queries, each with its own documents: positives among negatives."""

    def __init__(self, pool: Pool, scorer: CrossInteraction) -> None:
        if pool.candidates is None:
            raise TrainingError(
                "expected held-out examples, found a whole collection, which a cross-encoder cannot rank at every "
                "validation; pass a file of examples, whose positives are ranked among their negatives"
            )
        self.pool, self.scorer, self.candidates = pool, scorer, pool.candidates

    def measure(self) -> dict[str, float]:
        """Metric -> mean over the queries. Negatives go first among equal scores."""
        model, tokens = self.scorer.model, self.scorer.tokens
        was = model.training
        model.eval()
        run: Run = {}
        with torch.no_grad():
            for query, names in self.candidates.items():
                pairs = [(self.pool.queries[query], self.pool.documents[name]) for name in names]
                run[query] = dict(zip(names, self.scorer._score(pairs).tolist(), strict=True))
        model.train(was)
        self.scorer.tokens = tokens
        return evaluate(run, self.pool.qrels, METRICS)
