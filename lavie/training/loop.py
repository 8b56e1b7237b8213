"""The training loop: one for every network. Knows optimisation, checkpoints and nothing of what is being learned.

A step's loss is a function of the step's number alone (its data and noise are drawn from generators keyed by the seed
and the step), so a run that is killed and resumed from a checkpoint goes on with the same bits as one that was not.
Several processes may train together (see `team`); one that is alone has nothing to do with that.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lavie.errors import TrainingError
from lavie.training.team import Team

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


CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    steps: optimiser steps in all. learning_rate, matrix_learning_rate: peaks for AdamW and for Muon (see `optimizer`;
    None: AdamW alone), after `warmup` steps of rise; both then fall to zero along a cosine over the last `decay` share
    of the steps. matrix_weight_decay: of Muon's weights. ema: decay of the weights' moving average, which is what is
    kept. clip: largest norm of the gradient. autocast: whether matrix work runs in bfloat16.
    """

    steps: int
    learning_rate: float = 1e-3
    matrix_learning_rate: float | None = 1e-2
    matrix_weight_decay: float = 0.0
    warmup: int = 50
    decay: float = 0.8
    ema: float = 0.998
    clip: float = 1.0
    autocast: bool = True
    seed: int = 0
    checkpoint_every: int = 250
    report_every: int = 25

    @property
    def rates(self) -> tuple[float, float | None, float]:
        """As `MatrixOptimizer` takes them."""
        return self.learning_rate, self.matrix_learning_rate, self.matrix_weight_decay

    def share_at(self, step: int) -> float:
        """The share of the peak learning rates that applies at `step`, 0 … 1."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        tail = max(1.0, self.decay * self.steps)
        left = min(1.0, (self.steps - step) / tail)
        return rise * 0.5 * (1 - math.cos(math.pi * left))


@dataclass(frozen=True)
class Progress:
    """What a run says every `report_every` steps; `loss` is the mean since the last report, seconds are wall time."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds_a_step: float

    @property
    def eta_seconds(self) -> float:
        return (self.steps - self.step) * self.seconds_a_step


@dataclass(frozen=True)
class Visit:
    """What is done every `every` steps while the network holds the averaged weights. `call` gets the number of steps
    done; what it returns is yielded among the reports. It must leave the weights alone."""

    every: int
    call: Callable[[int], Any]


def fit(
    network: nn.Module,
    loss_at: Callable[[int], Tensor],
    plan: Plan,
    folder: Path,
    team: Team | None = None,
    visits: Sequence[Visit] = (),
    stop: Callable[[int], bool] = lambda done: False,
) -> Generator[Any, None, int]:
    """Train `network` in place, yielding `Progress` as it goes; at the end it holds the averaged weights.

    Args:
        network: what is optimised (an `nn.ModuleDict` where several are trained together).
        loss_at: step number → scalar loss; draws its data and noise from generators keyed by that number.
        plan: how long and how fast.
        folder: where `checkpoint.safetensors` and `progress.jsonl` are written; a checkpoint found there is continued.
        team: the processes that train together, each with a `loss_at` of its own. The first one alone writes, reports
            and visits; all of them read the checkpoint.
        visits: what else is done now and then.
        stop: asked behind each step of who trains alone, with the number of those done: True ends the run, stored.

    Returns the number of steps that are done.

    Raises:
        TrainingError: the loss or its gradient is not a number, the disk is full (the last checkpoint stays as it was),
            or the checkpoint cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, is_main = folder / CHECKPOINT, team is None or team.is_main
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if team is not None:
        team.share(p.data for p in parameters.values())
    average = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = MatrixOptimizer(parameters, *plan.rates)
    start = _restore(checkpoint, parameters, average, optimizer) if checkpoint.exists() else 0
    losses, clock = [], time.monotonic()
    for step in range(start, plan.steps):
        losses.append(_step(parameters, average, optimizer, loss_at, plan, step, team))
        done = step + 1
        if not is_main:
            continue
        if done % plan.report_every == 0 or done == plan.steps:
            yield _reported(folder, plan, done, losses, time.monotonic() - clock)
            losses, clock = [], time.monotonic()
        stopping = stop(done) and done < plan.steps
        if done % plan.checkpoint_every == 0 or done == plan.steps or stopping:
            _save(checkpoint, done, parameters, average, optimizer)
        if stopping:
            return done
        for visit in visits:
            if done % visit.every == 0:
                began = time.monotonic()
                with _averaged(parameters, average):
                    seen = visit.call(done)
                clock += time.monotonic() - began  # a step's pace is that of the training alone
                yield seen
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    return plan.steps


def _reported(folder: Path, plan: Plan, done: int, losses: Sequence[float], seconds: float) -> Progress:
    """What is said behind step number `done`, written down. losses: since the last report, which took `seconds`."""
    mean, share = sum(losses) / len(losses), plan.share_at(done - 1)
    progress = Progress(done, plan.steps, mean, plan.learning_rate * share, seconds / len(losses))
    with (folder / "progress.jsonl").open("a") as log:
        log.write(json.dumps(asdict(progress)) + "\n")
    return progress


@contextmanager
@torch.no_grad()
def _averaged(parameters, average) -> Iterator[None]:
    """The averaged weights in place of the present ones for as long as the block lasts."""
    present = {name: p.detach().clone() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        parameter.copy_(average[name])
    try:
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.copy_(present[name])


def _step(parameters, average, optimizer, loss_at, plan: Plan, step: int, team: Team | None) -> float:
    device = next(iter(parameters.values())).device
    with torch.autocast(device.type, torch.bfloat16, enabled=plan.autocast):
        loss = loss_at(step)
    _check_finite("loss", value := loss.item() if team is None else team.mean(loss), step, plan)
    loss.backward()
    if team is not None:
        team.average(p.grad for p in parameters.values() if p.grad is not None)
    norm = nn.utils.clip_grad_norm_(parameters.values(), plan.clip)
    _check_finite("norm of the gradient", norm.item(), step, plan)  # before it reaches the weights, and a checkpoint
    optimizer.step(plan.share_at(step))
    optimizer.zero_grad()
    # The average follows quickly at first, so that a short run is not held back by its random start.
    decay = min(plan.ema, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
    return value


def _check_finite(what: str, value: float, step: int, plan: Plan) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"the {what} is {value} at step {step}: lower the learning rate ({plan.learning_rate:g}) and run the same "
            "command again, it goes on from the last checkpoint"
        )


def _save(path: Path, step: int, parameters, average, optimizer) -> None:
    """One file holds all that a resumed run needs. It replaces the previous one only once it is wholly on disk."""
    tensors = {f"average.{name}": tensor for name, tensor in average.items()}
    tensors |= {f"weight.{name}": p.detach() for name, p in parameters.items()}
    tensors |= {f"optimizer.{key}": tensor for key, tensor in optimizer.state().items()}
    # Contiguous copies: safetensors stores plain row-major data, channels-last weights are not.
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    partial = path.with_suffix(".partial")
    try:
        save_file(tensors, partial, metadata={"step": str(step)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)  # half a checkpoint helps nobody, and takes the room of a whole one
        kept = "the one before it is still there" if path.exists() else "there is none yet"
        raise TrainingError(
            f"the checkpoint of step {step} could not be written to {path} ({_reason(error)}), {kept}: make room there "
            "and run the same command again"
        ) from None


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _restore(path: Path, parameters, average, optimizer) -> int:
    """The step to go on from. Raises TrainingError: the file is damaged, or is of another network."""
    try:
        return _read(path, parameters, average, optimizer)
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} is damaged or belongs to another network ({_reason(error)}): delete it to start again"
        ) from None


def _read(path: Path, parameters, average, optimizer) -> int:
    with safe_open(path, "pt") as file:
        for name, p in parameters.items():
            p.data.copy_(file.get_tensor(f"weight.{name}"))
            average[name].copy_(file.get_tensor(f"average.{name}"))
        prefix = "optimizer."
        state = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}
        optimizer.load_state({name.removeprefix(prefix): tensor for name, tensor in state.items()})
        return int(file.metadata()["step"])
