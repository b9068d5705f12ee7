"""What a training run is told, and the recipes. Imports no torch: the command line shows these as its defaults."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refcolbert.errors import TrainingError

__all__ = ["ARCHITECTURES", "LOSS_NAMES", "RECIPES", "Settings", "parse_losses"]

ARCHITECTURES = ("colbert", "cross-encoder")
LOSS_NAMES = ("pairwise-hinge", "pairwise-softmax", "n-way", "in-batch", "kl", "margin-mse")

# What differs from the defaults. Those are the paper's for BERT-base: learning rate 3e-6, 32 examples a step.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "small": {"learning_rate": 5e-5, "head_learning_rate": 5e-4, "dropout": 0.0, "warmup": 0.1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a run's numbers depend on besides start and data, and what it does on the way."""

    steps: int
    architecture: str = "colbert"  # or cross-encoder
    losses: Mapping[str, float] = field(default_factory=lambda: {"pairwise-softmax": 1.0})  # name -> weight
    temperature: float = 1.0  # of the in-batch softmax
    student_temperature: float = 1.0  # of the student's scores, for kl
    teacher_temperature: float = 1.0  # of the teacher's scores, for kl
    batch: int = 32  # examples a backward pass
    accumulate: int = 1  # backward passes a step
    block: int = 1  # neighbours in the data that stay together in a batch, because they share documents
    negatives: int | None = None  # of an example, chosen anew in every epoch; None: all
    learning_rate: float = 3e-6
    head_learning_rate: float | None = None  # None: as the rest
    warmup: float = 0.0  # the share of all steps in which the rate rises
    weight_decay: float = 0.01
    clip: float = 1.0  # the largest norm of a step's gradient
    dropout: float | None = None  # None: as the backbone's configuration says
    freeze: int | None = None  # lowest layers that are not trained, nor the embeddings; None: all are
    query_length: int | None = None  # tokens at which training cuts queries; None: as the checkpoint does
    document_length: int = 180  # tokens at which training cuts documents
    precision: str = "fp32"  # or bf16
    cached: bool = False  # gradient caching: less memory, one more forward pass
    group_tokens: int = 4096  # tokens that go through the transformer at once
    seed: int = 0
    validate_every: int = 0  # steps; 0: never
    metric: str = "RR@10"  # that decides which weights are kept
    patience: int = 0  # validations without a better metric after which the run ends; 0: it never ends early
    save_every: int = 0  # steps; 0: by the clock alone
    save_minutes: float = 10.0
    threads: int | None = None  # None: as torch has it

    def __post_init__(self) -> None:
        """Refuse what no run could use."""
        least = {
            **dict.fromkeys(("steps", "batch", "block", "accumulate", "document_length", "group_tokens"), 1),
            **dict.fromkeys(("seed", "validate_every", "patience", "save_every", "weight_decay", "warmup"), 0),
        }
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise TrainingError(f"expected {name} of at least {bound}, found {getattr(self, name)!r}")
        for name in ("temperature", "student_temperature", "teacher_temperature", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"expected {name} above 0, found {getattr(self, name)!r}")
        for name, bound in (("negatives", 0), ("freeze", 0), ("threads", 1), ("query_length", 1)):
            if (found := getattr(self, name)) is not None and found < bound:
                raise TrainingError(f"expected {name} of at least {bound}, found {found}")
        if not self.losses or set(self.losses) - set(LOSS_NAMES):
            raise TrainingError(
                f"expected losses among {', '.join(LOSS_NAMES)}, found {', '.join(self.losses) or 'none'}"
            )
        if self.architecture not in ARCHITECTURES:
            raise TrainingError(f"expected an architecture of {', '.join(ARCHITECTURES)}, found {self.architecture!r}")
        if self.precision not in ("fp32", "bf16"):
            raise TrainingError(f"expected the precision fp32 or bf16, found {self.precision!r}")

    def numeric(self) -> dict[str, Any]:
        """What a resumed run must have in common with its beginning: all that changes a number, but for threads.

        With another number of threads sums are rounded in another order.
        """
        free = {"patience", "save_every", "save_minutes", "validate_every", "metric", "threads"}
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in free}


def parse_losses(given: tuple[str, ...]) -> dict[str, float]:
    """("kl=1", "in-batch=0.5", "n-way") -> weights; a name alone weighs 1. Raises `TrainingError`."""
    losses: dict[str, float] = {}
    for text in given:
        name, sign, weight = text.partition("=")
        try:
            value = float(weight) if sign else 1.0
        except ValueError:
            value = 0.0
        if name not in LOSS_NAMES or name in losses or not 0 < value < float("inf"):
            raise TrainingError(
                f"expected each loss once as NAME or NAME=WEIGHT, of {', '.join(LOSS_NAMES)}; found {text!r}"
            )
        losses[name] = value
    return losses
