"""The training loop: batch -> scores -> losses -> gradient -> weights, with validation, checkpoints and resumption.

A run's folder holds

    checkpoint/      the model, for `refcolbert export`: the best by validation, else the newest
    state.pt         what the run goes on from: weights, optimizer, random generator, step
    log.jsonl        one line a step and a validation
    settings.json    what the run was told
    metrics.png      losses and metrics over the steps, at the end

The same start, data, settings and threads give the same bytes, interrupted and resumed or not.
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
from .late_interaction import Architecture, LateInteraction
from .objective import check_losses, losses_of, weighted
from .optimizer import fast_attention, freeze, make_optimizer, rate, set_dropout, set_rate
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
    validation: Pool | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Path:
    """Train and return the folder of the trained checkpoint, `out`/checkpoint.

    `resume` goes on from `out`/state.pt. Raises `TrainingError` when something is at `out` already (or nothing to
    resume), when the data lacks what a loss needs, or when the loss is no longer finite; what was saved last stays.
    """
    check_losses(settings, examples)
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"there is already something at {out}; resume it, remove it or choose another place")
    with _torch_settings(settings):
        trained = LateInteraction(start, settings) if isinstance(start, Start) else CrossInteraction(start, settings)
        run = _Run(trained, examples, out, settings, validation)
        if resume:
            run.resume()
        run.go(progress)
    return out / CHECKPOINT


@contextmanager
def _torch_settings(settings: Settings) -> Iterator[None]:
    """Seed and threads for the time of a run; the caller's come back."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.threads or threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class _Run:
    """One run from its start to its end."""

    def __init__(
        self, trained: Architecture, examples: Sequence[Example], out: Path, settings: Settings, validation: Pool | None
    ) -> None:
        self.trained, self.model, self.out, self.settings = trained, trained.model, out, settings
        self.draw = Draw(examples, settings.batch, settings.negatives, settings.seed, settings.block)
        fast_attention(trained.backbone, settings.precision)
        freeze(trained.backbone, settings.freeze)
        set_dropout(self.model, settings.dropout)
        head_rate = settings.head_learning_rate or settings.learning_rate
        rates = settings.learning_rate, head_rate, settings.weight_decay
        self.optimizer = make_optimizer(self.model, trained.head, trained.unused, *rates)
        self.validator = None if validation is None else trained.validator(validation)
        self.about: dict[str, Any] = {**settings.numeric(), "data": fingerprint(examples)}
        self.progress, self.saved = Progress(), time.monotonic()

    def resume(self) -> None:
        """Go on where the saved state is."""
        self.progress = load_state(self.out / STATE, self.model, self.optimizer, self.about)
        trim_log(self.out / LOG, self.progress.step)

    def go(self, progress: bool) -> None:
        """All steps that are left, then the last validation, the checkpoint and the plot."""
        settings, where = self.settings, self.progress
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / SETTINGS).write_text(json.dumps(asdict(settings), indent=1) + "\n")
        self.model.train()
        with tqdm(total=settings.steps, initial=where.step, disable=not progress, unit="step") as bar:
            if where.step == 0:
                self._validate()
            while where.step < settings.steps and not self._patience_is_over():
                bar.set_postfix_str(self._step())
                bar.update()
                if settings.validate_every and where.step % settings.validate_every == 0:
                    self._validate()
                if self._save_is_due():
                    self._save()
        if not settings.validate_every or where.step % settings.validate_every:
            self._validate()
        self._save()
        _plot(self.out)

    def _step(self) -> str:
        """One update of the weights; returns what the progress bar says of it."""
        settings, began, tokens = self.settings, time.monotonic(), self.trained.tokens
        set_rate(self.optimizer, rate(self.progress.step, settings.steps, round(settings.warmup * settings.steps)))
        parts: dict[str, float] = {}
        for i in range(settings.accumulate):
            found = self._backward(self.draw.batch(self.progress.step * settings.accumulate + i))
            parts = {name: parts.get(name, 0.0) + value / settings.accumulate for name, value in found.items()}
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(trained, settings.clip))
        if not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        seconds = time.monotonic() - began
        speed = settings.batch * settings.accumulate / seconds, (self.trained.tokens - tokens) / seconds
        entry = {
            "step": self.progress.step,
            **parts,
            "norm": norm,
            "examples_per_s": speed[0],
            "tokens_per_s": speed[1],
        }
        append_log(
            self.out / LOG,
            {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in entry.items()},
        )
        return f"loss {parts['loss']:.4f}, {speed[0]:.1f} examples/s, {speed[1]:.0f} tokens/s"

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Add one batch's gradient; returns its losses, weighted together as "loss"."""
        scores = self.trained.scores(batch)
        losses = losses_of(scores, batch, self.settings)
        total = weighted(losses, self.settings, scores)
        if not math.isfinite(total.item()):
            raise self._diverged(f"the loss is {total.item()}")
        self.trained.backward(total / self.settings.accumulate)
        return {"loss": total.item(), **{name: loss.item() for name, loss in losses.items()}}

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"step {self.progress.step + 1}: {what}; {self.out} keeps what was saved before. "
            "Try a lower learning rate, more warm-up or fp32"
        )

    def _validate(self) -> None:
        """Measure; keep the weights if they are the best so far."""
        if self.validator is None:
            return
        where, found = self.progress, self.validator.measure()
        append_log(self.out / LOG, {"step": where.step, "validation": found})
        tqdm.write(f"step {where.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
        if where.best is None or found[self.settings.metric] > where.best:
            where.best, where.best_step, where.worse = found[self.settings.metric], where.step, 0
            self.trained.save(self.out / CHECKPOINT)
        else:
            where.worse += 1

    def _patience_is_over(self) -> bool:
        return 0 < self.settings.patience <= self.progress.worse

    def _save_is_due(self) -> bool:
        settings = self.settings
        by_step = settings.save_every and self.progress.step % settings.save_every == 0
        return bool(by_step) or time.monotonic() - self.saved >= 60 * settings.save_minutes

    def _save(self) -> None:
        if self.validator is None:
            self.trained.save(self.out / CHECKPOINT)
        save_state(self.out / STATE, self.model, self.optimizer, self.progress, self.about)
        self.saved = time.monotonic()


def _plot(out: Path) -> None:
    from .plot import plot_log

    plot_log(out / LOG, out / PLOT)
