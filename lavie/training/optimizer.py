"""One optimiser of two kinds: Muon for weights that are matrices, AdamW for everything else.

Muon (Jordan et al. 2024; scaled as in Liu et al., arXiv 2502.16982, section 2.2) moves all directions of a matrix
alike. On Nano's autoencoder it needs a third of AdamW's steps. A convolution counts as the matrix out × (in · height ·
width).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST_MATRIX = 8  # rows and columns; narrower weights (first and last convolutions) are better off with AdamW
BETAS = (0.9, 0.99)


class MatrixOptimizer:
    """Optimises named parameters in place; its whole state is a flat dictionary of tensors."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        learning_rate: float,
        matrix_learning_rate: float | None,
        matrix_weight_decay: float = 0.0,
    ):
        """learning_rate: AdamW's peak; matrix_learning_rate: Muon's, None for AdamW alone. `step` takes the share of
        both that applies. matrix_weight_decay: share of Muon's weights that a step at a rate of 1 would take away."""
        self._peaks = (matrix_learning_rate, learning_rate)
        muon = matrix_learning_rate is not None
        self._matrices = {name: p for name, p in parameters.items() if muon and _is_matrix(name, p)}
        # Muon takes 2-D parameters only: it gets views of the same memory.
        self._views = {name: nn.Parameter(p.data.view(len(p), -1)) for name, p in self._matrices.items()}
        self._others = {name: p for name, p in parameters.items() if name not in self._matrices}
        self._parts: list[torch.optim.Optimizer] = []
        if self._views:
            views = list(self._views.values())
            self._parts.append(
                torch.optim.Muon(views, weight_decay=matrix_weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        if self._others:
            others = list(self._others.values())
            self._parts.append(torch.optim.AdamW(others, betas=BETAS, weight_decay=0.0, fused=True))

    def step(self, share: float) -> None:
        """One update with `share` (0 … 1) of the peak learning rates, from the gradients of the parameters."""
        for name, view in self._views.items():
            gradient = self._matrices[name].grad
            view.grad = None if gradient is None else gradient.reshape(view.shape)
        for part in self._parts:
            peak = self._peaks[0] if isinstance(part, torch.optim.Muon) else self._peaks[1]
            for group in part.param_groups:
                group["lr"] = peak * share
            part.step()

    def zero_grad(self) -> None:
        for parameter in (*self._matrices.values(), *self._others.values()):
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as `KIND.NAME` → tensor."""
        found = {}
        for name, parameter, part in self._owners():
            for kind, value in part.state.get(parameter, {}).items():
                found[f"{kind}.{name}"] = torch.as_tensor(value)
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        named = {name: (parameter, part) for name, parameter, part in self._owners()}
        for key, value in state.items():
            kind, name = key.split(".", 1)
            parameter, part = named[name]
            # In the parameter's own memory layout: the fused update walks both as plain memory.
            own = torch.empty_like(parameter, dtype=value.dtype) if value.shape == parameter.shape else value
            part.state.setdefault(parameter, {})[kind] = own.copy_(value)

    def _owners(self):
        for part in self._parts:
            owned = self._views if isinstance(part, torch.optim.Muon) else self._others
            for name, parameter in owned.items():
                yield name, parameter, part


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Embedding tables are no matrices: a step sees only few of their rows."""
    if parameter.ndim < 2 or "embed" in name.split(".")[-2] or "relative_attention_bias" in name:
        return False
    return min(len(parameter), parameter[0].numel()) >= SMALLEST_MATRIX and parameter.is_contiguous()
