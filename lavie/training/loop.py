"""The training loop of every network: optimiser, schedule, averaged weights and checkpoints.

A step's loss depends on the step's number alone, since its data and noise come from generators keyed by the seed and
the step. So a resumed run ends with the same bits as an uninterrupted one. Several processes may train one network
together (see `team`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lavie.errors import TrainingError
from lavie.manifest import first_line
from lavie.training.media import write_tensors
from lavie.training.team import Team

CHECKPOINT = "checkpoint.safetensors"
SMALLEST_MATRIX = 8  # rows and columns; AdamW suits narrower weights (first and last convolutions) better
BETAS = (0.9, 0.99)

Named = dict[str, nn.Parameter]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Args:
        steps: optimiser steps in all.
        learning_rate: AdamW's peak, after `warmup` steps of rise.
        matrix_learning_rate: Muon's peak (see `MatrixOptimizer`); None: AdamW alone.
        matrix_weight_decay: of Muon's weights.
        decay: the last share of the steps, over which both rates fall to zero along a cosine.
        ema: decay of the weights' moving average, which is the result.
        clip: largest norm of the gradient.
        autocast: whether matrix work runs in bfloat16.
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

    def share_at(self, step: int) -> float:
        """The share of the peak learning rates that applies at `step`, 0 … 1."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        tail = max(1.0, self.decay * self.steps)
        left = min(1.0, (self.steps - step) / tail)
        return rise * 0.5 * (1 - math.cos(math.pi * left))


@dataclass(frozen=True)
class Progress:
    """A report, every `report_every` steps; `loss` is the mean since the last report, seconds are wall time."""

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
    """A call every `every` steps, while the network holds the averaged weights, which it must leave alone.

    `call` gets the number of steps done; its result is yielded among the reports.
    """

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
    """Train `network` in place, yielding `Progress`; at the end it holds the averaged weights.

    Args:
        network: one module that holds all where several are trained together.
        loss_at: step number → scalar loss; draws its data and noise from generators keyed by that number.
        folder: where `checkpoint.safetensors` and `progress.jsonl` are written; a checkpoint found there is continued.
        team: the processes that train together, each with its own `loss_at`. Only the first one writes, reports and
            visits; all of them read the checkpoint.
        stop: called after each step with the number of steps done; True ends the run after a checkpoint.

    Returns the number of steps done.

    Raises:
        TrainingError: the loss or its gradient is not a number, the disk is full (the last checkpoint stays as it was),
            or the checkpoint cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, is_main = folder / CHECKPOINT, team is None or team.is_main
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if team is not None:
        team.share(p.data for p in parameters.values())
    run = _Run(parameters, plan, team)
    start = run.load(checkpoint) if checkpoint.exists() else 0
    losses: list[float] = []
    clock = time.monotonic()
    for step in range(start, plan.steps):
        losses.append(run.step(loss_at, step))
        done = step + 1
        if not is_main:
            continue
        if done % plan.report_every == 0 or done == plan.steps:
            yield _report(folder, plan, done, losses, time.monotonic() - clock)
            losses, clock = [], time.monotonic()
        stopping = stop(done) and done < plan.steps
        if done % plan.checkpoint_every == 0 or done == plan.steps or stopping:
            run.save(checkpoint, done)
        if stopping:
            return done
        for visit in visits:
            if done % visit.every == 0:
                began = time.monotonic()
                with run.use_average():
                    seen = visit.call(done)
                clock += time.monotonic() - began  # the pace of a step is that of the training alone
                yield seen
    run.keep_average()
    return plan.steps


def _report(folder: Path, plan: Plan, done: int, losses: Sequence[float], seconds: float) -> Progress:
    """Log and return the report after step number `done`. losses: since the last report, which took `seconds`."""
    mean, share = sum(losses) / len(losses), plan.share_at(done - 1)
    progress = Progress(done, plan.steps, mean, plan.learning_rate * share, seconds / len(losses))
    with (folder / "progress.jsonl").open("a") as log:
        log.write(json.dumps(asdict(progress)) + "\n")
    return progress


class _Run:
    """The state of a run, which a checkpoint stores: weights, their moving average, and the optimiser's state."""

    def __init__(self, parameters: Named, plan: Plan, team: Team | None):
        self._parameters, self._plan, self._team = parameters, plan, team
        self._average = {name: p.detach().clone() for name, p in parameters.items()}
        rates = (plan.learning_rate, plan.matrix_learning_rate, plan.matrix_weight_decay)
        self._optimizer = MatrixOptimizer(parameters, *rates)

    def step(self, loss_at: Callable[[int], Tensor], step: int) -> float:
        """One update of the weights and their average; returns the loss, over all processes."""
        parameters, plan, team = list(self._parameters.values()), self._plan, self._team
        with torch.autocast(parameters[0].device.type, torch.bfloat16, enabled=plan.autocast):
            loss = loss_at(step)
        _check_finite("loss", value := loss.item() if team is None else team.mean(loss), step, plan)
        loss.backward()
        if team is not None:
            team.average(p.grad for p in parameters if p.grad is not None)
        norm = nn.utils.clip_grad_norm_(parameters, plan.clip)
        _check_finite("norm of the gradient", norm.item(), step, plan)  # before it reaches weights and checkpoint
        self._optimizer.step(plan.share_at(step))
        self._optimizer.zero_grad()
        # The average follows quickly at first, so that a random start does not hold a short run back.
        decay = min(plan.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self._average.values()), [p.detach() for p in parameters], 1 - decay)
        return value

    @contextmanager
    def use_average(self) -> Iterator[None]:
        """The averaged weights in place of the present ones for as long as the block lasts."""
        present = {name: p.detach().clone() for name, p in self._parameters.items()}
        with torch.no_grad():
            self.keep_average()
            try:
                yield
            finally:
                self._set(present)

    def keep_average(self) -> None:
        """Replace the weights by their average."""
        self._set(self._average)

    @torch.no_grad()
    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

    def save(self, path: Path, step: int) -> None:
        """Write the checkpoint. It replaces the previous one only once it is wholly on disk."""
        tensors = {f"average.{name}": tensor for name, tensor in self._average.items()}
        tensors |= {f"weight.{name}": p.detach() for name, p in self._parameters.items()}
        tensors |= {f"optimizer.{key}": tensor for key, tensor in self._optimizer.state().items()}
        try:
            write_tensors(path, tensors, {"step": str(step)})
        except TrainingError as error:
            kept = "the one before it is still there" if path.exists() else "there is none yet"
            raise TrainingError(
                f"the checkpoint of step {step} could not be written to {path} ({error}), {kept}: make room "
                "there and run the same command again"
            ) from None

    def load(self, path: Path) -> int:
        """Read a checkpoint and return its step. Raises TrainingError if it is damaged or of another network."""
        prefix = "optimizer."
        try:
            with safe_open(path, "pt") as file:
                for name, p in self._parameters.items():
                    p.data.copy_(file.get_tensor(f"weight.{name}"))
                    self._average[name].copy_(file.get_tensor(f"average.{name}"))
                state = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}
                self._optimizer.load_state({name.removeprefix(prefix): tensor for name, tensor in state.items()})
                return int(file.metadata()["step"])
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"{path} is damaged or belongs to another network ({first_line(error)}): delete it to start again"
            ) from None


def _check_finite(what: str, value: float, step: int, plan: Plan) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"the {what} is {value} at step {step}: lower the learning rate ({plan.learning_rate:g}) and run the same "
            "command again, it goes on from the last checkpoint"
        )


class MatrixOptimizer:
    """Muon for matrices and AdamW for all other parameters, in place; the whole state is a flat dictionary."""

    def __init__(
        self,
        parameters: Named,
        learning_rate: float,
        matrix_learning_rate: float | None,
        matrix_weight_decay: float = 0.0,
    ):
        """See `Plan`. matrix_weight_decay: share of Muon's weights that a step at a rate of 1 would take away."""
        is_matrix = {name: matrix_learning_rate is not None and _is_matrix(name, p) for name, p in parameters.items()}
        self._matrices = {name: p for name, p in parameters.items() if is_matrix[name]}
        # Muon takes 2-D parameters only: it gets views of the same memory.
        self._views = {name: nn.Parameter(p.data.view(len(p), -1)) for name, p in self._matrices.items()}
        self._others = {name: p for name, p in parameters.items() if not is_matrix[name]}
        # Each optimiser with its parameters and its peak rate.
        self._parts: list[tuple[torch.optim.Optimizer, Named, float]] = []
        if matrix_learning_rate is not None and self._views:
            views = list(self._views.values())
            muon = torch.optim.Muon(views, weight_decay=matrix_weight_decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append((muon, self._views, matrix_learning_rate))
        if self._others:
            adamw = torch.optim.AdamW(list(self._others.values()), betas=BETAS, weight_decay=0.0, fused=True)
            self._parts.append((adamw, self._others, learning_rate))

    def step(self, share: float) -> None:
        """One update with `share` (0 … 1) of the peak learning rates, from the gradients of the parameters."""
        for name, view in self._views.items():
            gradient = self._matrices[name].grad
            view.grad = None if gradient is None else gradient.reshape(view.shape)
        for optimizer, _, peak in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * share
            optimizer.step()

    def zero_grad(self) -> None:
        for parameter in (*self._matrices.values(), *self._others.values()):
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """The state that a resumed run needs, as `KIND.NAME` → tensor."""
        found = {}
        for optimizer, parameters, _ in self._parts:
            for name, parameter in parameters.items():
                for kind, value in optimizer.state.get(parameter, {}).items():
                    found[f"{kind}.{name}"] = torch.as_tensor(value)
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        owners = {name: (part[name], optimizer) for optimizer, part, _ in self._parts for name in part}
        for key, value in state.items():
            kind, name = key.split(".", 1)
            parameter, optimizer = owners[name]
            # In the parameter's own memory layout: the fused update walks both as plain memory.
            own = torch.empty_like(parameter, dtype=value.dtype) if value.shape == parameter.shape else value
            optimizer.state.setdefault(parameter, {})[kind] = own.copy_(value)


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Embedding tables are not matrices here, since a step sees only few of their rows."""
    if parameter.ndim < 2 or "embed" in name.split(".")[-2] or "relative_attention_bias" in name:
        return False
    return min(len(parameter), parameter[0].numel()) >= SMALLEST_MATRIX and parameter.is_contiguous()
