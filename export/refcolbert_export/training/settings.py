"""The settings of a training run, and the recipes. Imports no torch: the command line makes its options from them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

from refcolbert.errors import TrainingError

__all__ = ["LOSS_NAMES", "METRICS", "RECIPES", "Settings", "parse_losses"]

METRICS = ("nDCG@10", "RR@10")
KEPT = ("best", "newest")
LOSS_NAMES = ("pairwise-hinge", "pairwise-softmax", "n-way", "in-batch", "kl", "margin-mse", "vectors")

# The defaults of `Settings` are the paper's for BERT-base. A recipe holds what differs from them.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "small": {"learning_rate": 5e-5, "head_learning_rate": 5e-4, "dropout": 0.0, "warmup": 0.1},
}


def _option(default: Any, text: str, **limits: Any) -> Any:
    """A field that is also an option of `refcolbert train`.

    text     the option's help
    limits   `least` or `above`, a bound of the value; `choices`, all values; `metavar`, the value's name in the help
    """
    shown = "" if default is None or default is MISSING or default is False else f" Default: {default}."
    return field(default=default, metadata={"help": text + shown, **limits})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a run's numbers depend on besides model and data, and when the run validates and saves."""

    steps: int = _option(MISSING, "Updates of the weights.", least=1)
    architecture: str = _option("colbert", "Kind of model to train.", choices=("colbert", "cross-encoder"))
    losses: Mapping[str, float] = field(default_factory=lambda: {"pairwise-softmax": 1.0})  # name -> weight
    temperature: float = _option(1.0, "Temperature of the in-batch softmax.", above=0)
    student_temperature: float = _option(1.0, "Temperature of the model's scores in the loss kl.", above=0)
    teacher_temperature: float = _option(1.0, "Temperature of the teacher's scores in the loss kl.", above=0)
    batch: int = _option(32, "Examples per backward pass.", least=1)
    accumulate: int = _option(1, "Backward passes per step.", least=1)
    block: int = _option(1, "Consecutive examples that stay in one batch, because they share documents.", least=1)
    negatives: int | None = _option(None, "Negatives per example, drawn again in every epoch. Default: all.", least=0)
    learning_rate: float = _option(3e-6, "Highest learning rate.", above=0)
    head_learning_rate: float | None = _option(None, "Learning rate of the projection. Default: --learning-rate.")
    warmup: float = _option(0.0, "Share of the steps in which the learning rate rises.", least=0)
    weight_decay: float = _option(0.01, "Weight decay of AdamW.", least=0)
    clip: float = _option(1.0, "Largest norm of a step's gradient.", above=0)
    dropout: float | None = _option(None, "Dropout probability. Default: config.json's.")
    freeze: int | None = _option(None, "Lowest layers to keep fixed, with the embeddings. Default: train all.", least=0)
    query_length: int | None = _option(
        None, "Tokens at which training cuts queries; at least the checkpoint's length. Default: that length.", least=1
    )
    document_length: int = _option(180, "Tokens at which training cuts documents.", least=1)
    precision: str = _option("fp32", "Arithmetic of the transformer.", choices=("fp32", "bf16"))
    cached: bool = _option(False, "Cache gradients: less memory per batch, one more forward pass.")
    group_tokens: int = _option(4096, "Tokens per run of the transformer.", least=1)
    seed: int = _option(0, "Seed of all random numbers.", least=0)
    validate_every: int = _option(0, "Steps between validations; 0: only first and last.", least=0, metavar="STEPS")
    metric: str = _option("RR@10", "Metric that decides which weights are the best.", choices=METRICS)
    keep: str = _option("best", "Weights of the checkpoint: the best by validation, or the newest.", choices=KEPT)
    patience: int = _option(
        0, "Validations without a better metric that end the run; 0: never.", least=0, metavar="VALIDATIONS"
    )
    save_every: int = _option(0, "Steps between saved states; 0: by time only.", least=0, metavar="STEPS")
    save_minutes: float = _option(10.0, "Minutes between saved states.")
    threads: int | None = _option(None, "Threads of torch. Default: torch's own choice.", least=1)

    def __post_init__(self) -> None:
        """Refuse values that no run could use."""
        for option in dataclasses.fields(self):
            value, limits = getattr(self, option.name), option.metadata
            if value is None and option.default is None:
                continue
            # "not >=" refuses NaN too
            if "least" in limits and not value >= limits["least"]:
                raise TrainingError(f"expected {option.name} of at least {limits['least']}, found {value!r}")
            if "above" in limits and not value > limits["above"]:
                raise TrainingError(f"expected {option.name} above {limits['above']}, found {value!r}")
            if "choices" in limits and value not in limits["choices"]:
                raise TrainingError(f"expected {option.name} of {', '.join(limits['choices'])}, found {value!r}")
        if not self.losses or set(self.losses) - set(LOSS_NAMES):
            raise TrainingError(
                f"expected losses among {', '.join(LOSS_NAMES)}, found {', '.join(self.losses) or 'none'}"
            )

    def numeric(self) -> dict[str, Any]:
        """The settings that a resumed run must share with its beginning: all that change its weights, except threads.

        Another number of threads rounds sums in another order. That is allowed when a run is resumed. So are other
        rules for which of its weights are kept, from then on. The metric stays: its best value so far is kept.
        """
        free = {"patience", "save_every", "save_minutes", "validate_every", "keep", "threads"}
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in free}


def parse_losses(texts: tuple[str, ...]) -> dict[str, float]:
    """("kl=1", "in-batch=0.5", "n-way") -> weights; a name alone weighs 1. Raises `TrainingError`."""
    losses: dict[str, float] = {}
    for text in texts:
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
