"""Values and gradients of the training losses, by torch's own functions and autograd in float64.

python -m tools.goldens.losses OUT
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as fn

from .record import write

SEED, CASES = 7, 6
Tensor = torch.Tensor
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # scores, teacher, temperature


def _hinge(scores: Tensor, _t: Tensor, _: Tensor) -> Tensor:
    return fn.margin_ranking_loss(scores[:1], scores[1:], torch.ones(1, dtype=scores.dtype), margin=1.0)


def _pairwise(scores: Tensor, _t: Tensor, _: Tensor) -> Tensor:
    return fn.cross_entropy(scores[None], torch.zeros(1, dtype=torch.long))


def _in_batch(scores: Tensor, _t: Tensor, temperature: Tensor) -> Tensor:
    return fn.cross_entropy(scores / temperature, torch.arange(len(scores)))


def _divergence(scores: Tensor, teacher: Tensor, _: Tensor) -> Tensor:
    logs = fn.log_softmax(scores, dim=-1), fn.log_softmax(teacher, dim=-1)
    return fn.kl_div(*logs, reduction="batchmean", log_target=True)


def _margin(scores: Tensor, teacher: Tensor, _: Tensor) -> Tensor:
    return fn.mse_loss(scores[:, :1] - scores[:, 1:], teacher[:, :1] - teacher[:, 1:])


LOSSES: dict[str, tuple[tuple[int, ...], Loss]] = {  # name in the definition: shape of one case's scores, torch's way
    "pairwise_hinge": ((2,), _hinge),
    "pairwise_softmax": ((2,), _pairwise),
    "n_way": ((5,), _pairwise),
    "in_batch": ((4, 4), _in_batch),
    "kl_divergence": ((3, 4), _divergence),
    "margin_mse": ((3, 4), _margin),
}


def main() -> None:
    """Write every loss."""
    out, generator = Path(sys.argv[1]), torch.Generator().manual_seed(SEED)
    for name, (shape, loss) in LOSSES.items():
        arrays: dict[str, list[Tensor]] = {"scores": [], "teacher": [], "temperature": [], "loss": [], "gradient": []}
        for i in range(CASES):
            drawn = torch.randint(-400, 400, (2, *shape), generator=generator)
            scores = (drawn[0].double() / 64).requires_grad_()
            teacher, temperature = drawn[1].double() / 64, torch.tensor([0.05, 0.5, 1.0, 2.0, 20.0, 0.2][i]).double()
            value = loss(scores, teacher, temperature)
            (gradient,) = torch.autograd.grad(value, scores)
            found = (scores.detach(), teacher, temperature, value.detach(), gradient)
            for key, tensor in zip(arrays, found, strict=True):
                arrays[key].append(tensor)
        exact = dict.fromkeys(("scores", "teacher", "temperature"), 0.0)
        write(
            out,
            "losses",
            name,
            {key: torch.stack(values).numpy() for key, values in arrays.items()},
            source="torch.nn.functional and torch.autograd, float64",
            tools=["tools/goldens/losses.py"],
            packages=["torch", "numpy"],
            seed=SEED,
            tolerance=exact | {"loss": 1e-6, "gradient": 1e-4},
        )


if __name__ == "__main__":
    main()
