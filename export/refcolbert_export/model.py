"""The torch model: a transformer's token states through a chain of dense layers, scaled to unit length.

    vectors = normalize(dense_k(... dense_1(backbone(input_ids, attention_mask))))       [batch, length, dim]

The graph takes `input_ids` and `attention_mask` only. Token types are zero in every ColBERT. The backbone computes
positions itself; RoBERTa counts them from the ids, so expansion tokens have positions too.
"""

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

__all__ = ["ColbertModel", "Dense"]

# The default of F.normalize, which the original packages use.
EPSILON = 1e-12


class Dense(nn.Module):
    """activation(x W^T + b), plus x or a projection of x when the layer has a residual."""

    def __init__(
        self,
        weight: torch.Tensor,  # [out, in]
        bias: torch.Tensor | None = None,  # [out]
        activation: nn.Module | None = None,
        residual: torch.Tensor | bool = False,  # [out, in], or True for x itself
    ) -> None:
        super().__init__()
        # Copies: a tensor of a safetensors file keeps the whole file in memory.
        self.weight, self.bias = nn.Parameter(weight.clone()), None if bias is None else nn.Parameter(bias.clone())
        self.activation = activation or nn.Identity()
        self.residual = nn.Parameter(residual.clone()) if isinstance(residual, torch.Tensor) else None
        self.identity_residual = residual is True

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [..., in] -> [..., out]
        """Apply the layer."""
        out = cast(torch.Tensor, self.activation(nn.functional.linear(x, self.weight, self.bias)))
        if self.residual is not None:
            return out + nn.functional.linear(x, self.residual)
        return out + x if self.identity_residual else out


class ColbertModel(nn.Module):
    """Backbone, dense chain, normalize. [batch, length] ids and attention (int64) -> [batch, length, dim] float32."""

    def __init__(self, backbone: nn.Module, head: Sequence[Dense]) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Sequential(*head)
        self.dim: int = head[-1].weight.shape[0] if head else cast(Any, backbone).config.hidden_size
        self._parameters_of_forward = frozenset(inspect.signature(backbone.forward).parameters)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return unit rows."""
        return self.project(self.states(input_ids, attention_mask))

    def states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The transformer's last states [batch, length, hidden]."""
        extra: dict[str, Any] = {}
        if "token_type_ids" in self._parameters_of_forward:
            extra["token_type_ids"] = torch.zeros_like(input_ids)
        if "use_cache" in self._parameters_of_forward:
            extra["use_cache"] = False
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **extra)
        return cast(torch.Tensor, output.last_hidden_state)

    def project(self, states: torch.Tensor) -> torch.Tensor:
        """States [..., hidden] -> unit rows [..., dim]."""
        return nn.functional.normalize(self.head(states), p=2.0, dim=-1, eps=EPSILON)
