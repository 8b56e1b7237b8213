"""What `tests/training/test_team.py` launches in several processes: a toy network, trained by `fit` as a team.

    python -m tests.training.team_run FOLDER STEPS

Each process has a share of the data of its own: only together do they see what there is to learn.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from torch import nn

from lavie.training.loop import Plan, fit
from lavie.training.team import join_team


def build(rank: int) -> nn.Module:
    """Made differently in each process: what is not shared at the start, or not averaged, would show."""
    torch.manual_seed(rank)
    return nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))


def main(folder: Path, steps: int) -> None:
    team = join_team()
    network = build(team.rank)
    seed, truth = team.seed(7), torch.eye(16).flip(0)

    def loss_at(step: int):
        if step == int(os.environ.get("TEAM_STOP_AT", -1)):
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(seed % 2**31 + step)
        values = torch.randn(8, 16, generator=generator)
        values[:, team.rank :: team.size] = 0  # the other processes' part
        return (network(values) - values @ truth).square().mean()

    plan = Plan(steps, 0.1, 0.1, warmup=2, autocast=False, checkpoint_every=10, report_every=5)
    said = [report.loss for report in fit(network, loss_at, plan, folder, team)]
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    found = {"rank": team.rank, "size": team.size, "losses": said, "weights": weights.double().sum().item().hex()}
    (folder / f"rank{team.rank}.json").write_text(json.dumps(found))
    team.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
