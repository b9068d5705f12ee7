"""AdamW with a separate learning rate for the head, no decay of biases and norms, warm-up and linear decay."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from refcolbert.errors import TrainingError

__all__ = ["fast_attention", "freeze", "make_optimizer", "rate", "set_dropout", "set_rate"]

NO_DECAY = ("bias", "LayerNorm.weight", "layer_norm.weight", "norm.weight")


def fast_attention(backbone: Any, precision: str) -> None:
    """Use torch's fused attention in fp32. On a CPU it is faster there; in bf16 plain products are faster."""
    if backbone._supports_sdpa and precision == "fp32":
        backbone.set_attn_implementation("sdpa")


def freeze(backbone: Any, layers: int | None) -> None:
    """Keep the embeddings and the `layers` lowest layers fixed; None trains everything. Raises `TrainingError`."""
    if layers is None:
        return
    config = backbone.config
    stacks = [m for m in backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == config.num_hidden_layers]
    embeddings = getattr(backbone, "embeddings", None)
    if not stacks or embeddings is None or not 0 <= layers <= len(stacks[0]):
        allowed = f"--freeze 0 to {len(stacks[0])}" if stacks and embeddings is not None else "no --freeze"
        raise TrainingError(f"expected {allowed} for this {config.model_type} backbone, found --freeze {layers}")
    for module in (embeddings, *stacks[0][:layers]):
        module.requires_grad_(False)


def set_dropout(model: nn.Module, probability: float | None) -> None:
    """Replace the dropout probability of the configuration; None keeps it."""
    if probability is None:
        return
    module: Any
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        elif isinstance(getattr(module, "dropout_prob", None), float):
            # attention that passes its probability to a fused kernel
            module.dropout_prob = probability


def make_optimizer(
    model: nn.Module,
    head: Sequence[nn.Parameter],
    unused: Sequence[nn.Parameter],
    learning_rate: float,
    head_learning_rate: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """AdamW over the parameters that are used and not frozen.

    head    parameters with the rate `head_learning_rate`
    unused  parameters on which no score depends

    Each group stores as "base" the rate that the schedule scales.
    """
    heads, skipped = {id(p) for p in head}, {id(p) for p in unused}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in skipped:
            base = head_learning_rate if id(parameter) in heads else learning_rate
            decay = 0.0 if name.endswith(NO_DECAY) else weight_decay
            groups.setdefault((base, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": base, "base": base, "weight_decay": decay} for (base, decay), p in groups.items()],
        fused=True,
    )


def rate(step: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate, 0 <= step < steps: it rises over `warmup` steps, then falls to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / max(steps - warmup, 1)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the rate of each group to its base rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor
