"""The processes that train one network together, as `accelerate launch` started them. Knows no network and no loss.

Each process draws a batch of its own; gradients are averaged over all of them before the optimiser's step, so that
every process holds the same weights. This happens between `backward` and the step and does not wrap the network, so
that a step may run the network as its loss needs (two passes, or stills that leave the layers that mix time without a
gradient). Sending therefore does not overlap with computing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lavie.errors import TrainingError
from lavie.noise import derive_seed

BUCKET = 2**25  # numbers sent at once: 128 MiB in float32
SHARDING = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM")
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # torchrun's, and MPI's
PRECISIONS = ("bf16", "no")


def join_team() -> Team | None:
    """The team that this process was launched into, or None.

    Raises TrainingError for a launch that spreads one network over devices, since each process here holds all of it,
    and for one that was meant to start several processes and did not.
    """
    if max(int(os.environ.get(name, 1)) for name in SIZES) < 2:
        # Without MPI `accelerate launch --cpu --num_processes 2` starts one process; all that it sets is an address.
        if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_ADDR" in os.environ:
            raise TrainingError(
                "accelerate starts a single process with --cpu: launch with --multi_gpu, which serves CPUs as well"
            )
        return None
    for name in SHARDING:
        if os.environ.get(name, "false").lower() in ("true", "1"):
            raise TrainingError(f"{name} is on, each process here holds the whole network: launch with --multi_gpu")
    return Team()


def autocast_of(precision: str | None) -> bool:
    """Whether matrix work runs in bfloat16: by `precision`, else as `accelerate launch` says, else yes."""
    chosen = precision or os.environ.get("ACCELERATE_MIXED_PRECISION") or "bf16"
    if chosen not in PRECISIONS:
        raise TrainingError(f"mixed precision is {chosen!r}: choose bf16 or no (float16 would need its losses scaled)")
    return chosen == "bf16"


class Team:
    """One of several processes. Every method but `seed` must be called by all of them, in the same order."""

    def __init__(self) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=not torch.cuda.is_available())
        self.rank, self.size = self._state.process_index, self._state.num_processes
        self.device = self._state.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The seed of this process: the first one's is that of a run alone, each other has its own."""
        return seed if self.is_main else derive_seed(seed, "process", self.rank)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self._state.wait_for_everyone()

    def mean(self, value: Tensor) -> float:
        """The mean of a number over all processes; NaN where it is NaN in any of them."""
        from accelerate.utils import reduce

        return reduce(value.detach().float(), "mean").item()

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in place; all hand in the same shapes."""
        from accelerate.utils import reduce

        for bucket in _buckets(tensors):
            flat = reduce(torch.cat([tensor.reshape(-1) for tensor in bucket]), "mean")
            for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(mean.view(tensor.shape))

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the first process's, in place, so that all begin alike."""
        from accelerate.utils import broadcast

        for tensor in tensors:
            tensor.copy_(broadcast(tensor.contiguous()))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, as many at once as `BUCKET` allows; at least one."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
