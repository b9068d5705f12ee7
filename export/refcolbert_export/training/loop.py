"""The training loop: batch -> scores -> losses -> gradient -> weights, with validation, checkpoints and resumption.

A run's folder holds

    checkpoint/      the model, for `refcolbert export`: the best by validation, or the newest
    state.pt         weights, optimizer, random generator and step, from which the run can be resumed
    log.jsonl        one line per step and per validation
    settings.json    the settings of the run
    metrics.png      losses and metrics over the steps, written at the end

Equal starts, data, settings and threads give equal bytes, also when a run is interrupted and resumed.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from refcolbert.errors import TrainingError

from .batches import Batch, Draw
from .cross_encoder import CrossInteraction, CrossStart
from .data import Example, fingerprint
from .late_interaction import LateInteraction
from .objective import check_losses, losses_of, weighted
from .optimizer import fast_attention, freeze, make_optimizer, rate, set_dropout, set_rate
from .plot import plot_log
from .settings import Settings
from .start import Start
from .state import Progress, append_log, load_state, save_state, trim_log
from .validate import Pool

__all__ = ["train"]

CHECKPOINT, STATE, LOG, SETTINGS, PLOT = "checkpoint", "state.pt", "log.jsonl", "settings.json", "metrics.png"


def train(
    start: Start | CrossStart,
    examples: Sequence[Example],
    out: Path,
    settings: Settings,
    *,
    teacher: Start | None = None,
    validation: Pool | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Path:
    """Train and return the folder of the trained checkpoint, `out`/checkpoint.

    teacher     the ColBERT model whose token vectors the loss "vectors" asks for
    validation  held-out queries and documents; None: the newest weights are kept
    resume      continue from `out`/state.pt
    progress    show a progress bar

    Raises `TrainingError` when `out` is not empty (or there is nothing to resume), when the data lacks what a loss
    needs, or when the loss is no longer finite. The last saved checkpoint and state stay.
    """
    check_losses(settings, examples, teacher=teacher is not None)
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(
            f"expected nothing at {out}, but something is already there; resume it, remove it or choose another path"
        )
    with _torch_settings(settings):
        trained = (
            LateInteraction(start, settings, teacher) if isinstance(start, Start) else CrossInteraction(start, settings)
        )
        run = _Run(trained, examples, out, settings, validation)
        if resume:
            run.resume()
        run.go(progress)
    return out / CHECKPOINT


@contextmanager
def _torch_settings(settings: Settings) -> Iterator[None]:
    """Set torch's seed and threads inside the block, and restore the caller's afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.threads or threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class _Run:
    """One training run."""

    def __init__(
        self,
        trained: LateInteraction | CrossInteraction,
        examples: Sequence[Example],
        out: Path,
        settings: Settings,
        validation: Pool | None,
    ) -> None:
        """Prepare model, optimizer and validation."""
        self.trained, self.model, self.out, self.settings = trained, trained.model, out, settings
        self.draw = Draw(examples, settings.batch, settings.negatives, settings.seed, settings.block)
        fast_attention(trained.backbone, settings.precision)
        freeze(trained.backbone, settings.freeze)
        set_dropout(self.model, settings.dropout)
        head_rate = settings.head_learning_rate or settings.learning_rate
        rates = settings.learning_rate, head_rate, settings.weight_decay
        self.optimizer = make_optimizer(self.model, trained.head, trained.unused, *rates)
        self.validator = None if validation is None else trained.validator(validation)
        taught_by = {"teacher": trained.teacher_hash} if trained.teacher_hash else {}
        self.about: dict[str, Any] = {**settings.numeric(), "data": fingerprint(examples), **taught_by}
        self.progress, self.saved = Progress(), time.monotonic()

    def resume(self) -> None:
        """Load the saved state."""
        self.progress = load_state(self.out / STATE, self.model, self.optimizer, self.about)
        trim_log(self.out / LOG, self.progress.step)

    def go(self, progress: bool) -> None:
        """Do all remaining steps, then the last validation, the checkpoint and the plot."""
        settings, state = self.settings, self.progress
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / SETTINGS).write_text(json.dumps(asdict(settings), indent=1) + "\n")
        self.model.train()
        with tqdm(total=settings.steps, initial=state.step, disable=not progress, unit="step") as bar:
            if state.step == 0:
                self._validate()
            while state.step < settings.steps and not self._patience_is_over():
                bar.set_postfix_str(self._step())
                bar.update()
                if settings.validate_every and state.step % settings.validate_every == 0:
                    self._validate()
                if self._save_is_due():
                    self._save()
        if not settings.validate_every or state.step % settings.validate_every:
            self._validate()
        self._save()
        plot_log(self.out / LOG, self.out / PLOT)

    def _step(self) -> str:
        """Update the weights once, and return a text for the progress bar."""
        settings, began, tokens = self.settings, time.monotonic(), self.trained.tokens
        set_rate(self.optimizer, rate(self.progress.step, settings.steps, round(settings.warmup * settings.steps)))
        parts: dict[str, float] = {}
        for i in range(settings.accumulate):
            losses = self._backward(self.draw.batch(self.progress.step * settings.accumulate + i))
            parts = {name: parts.get(name, 0.0) + value / settings.accumulate for name, value in losses.items()}
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(trained, settings.clip))
        if not math.isfinite(norm):
            raise self._diverged("gradient's norm", norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        seconds = time.monotonic() - began
        speed = {
            "examples_per_s": settings.batch * settings.accumulate / seconds,
            "tokens_per_s": (self.trained.tokens - tokens) / seconds,
        }
        rounded = {name: float(f"{value:.6g}") for name, value in {**parts, "norm": norm, **speed}.items()}
        append_log(self.out / LOG, {"step": self.progress.step, **rounded})
        return "loss {loss:.4f}, {examples_per_s:.1f} examples/s, {tokens_per_s:.0f} tokens/s".format(**rounded)

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Add one batch's gradient and return its losses. "loss" is their weighted sum."""
        scores, others = self.trained.scores(batch)
        losses = {**losses_of(scores, batch, self.settings), **others}
        total = weighted(losses, self.settings, scores)
        if not math.isfinite(total.item()):
            raise self._diverged("loss", total.item())
        self.trained.backward(total / self.settings.accumulate)
        return {"loss": total.item(), **{name: loss.item() for name, loss in losses.items()}}

    def _diverged(self, name: str, value: float) -> TrainingError:
        return TrainingError(
            f"step {self.progress.step + 1}: expected a finite number, the {name} is {value}; {self.out} keeps the "
            "last saved checkpoint. Try a lower learning rate, more warm-up or fp32"
        )

    def _validate(self) -> None:
        """Measure the model, and save it if it is the best so far."""
        if self.validator is None:
            return
        state, metrics = self.progress, self.validator.measure()
        append_log(self.out / LOG, {"step": state.step, "validation": metrics})
        tqdm.write(f"step {state.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        if state.best is None or metrics[self.settings.metric] > state.best:
            state.best, state.best_step, state.worse = metrics[self.settings.metric], state.step, 0
            if self.settings.keep == "best":
                self.trained.save(self.out / CHECKPOINT)
        else:
            state.worse += 1

    def _patience_is_over(self) -> bool:
        return 0 < self.settings.patience <= self.progress.worse

    def _save_is_due(self) -> bool:
        settings = self.settings
        by_step = settings.save_every and self.progress.step % settings.save_every == 0
        return bool(by_step) or time.monotonic() - self.saved >= 60 * settings.save_minutes

    def _save(self) -> None:
        if self.validator is None or self.settings.keep == "newest":
            self.trained.save(self.out / CHECKPOINT)
        save_state(self.out / STATE, self.model, self.optimizer, self.progress, self.about)
        self.saved = time.monotonic()
