"""Whole denoising loops compute what the published networks and samplers do, within a thousandth."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lavie.key_frames import nearest_key
from lavie.manifest import EPSILON, VELOCITY
from lavie.sampling import Guided, denoise, make_scheduler, set_steps
from lavie.stages.super_resolution import noised_low_res
from lavie.unet import BaseUNet, InterpolationUNet, SuperResolutionUNet
from tests.reference import recipe
from tests.reference.figures import FOLDER, figures

CASES = json.loads((Path(__file__).parent / "reference" / "sampling.json").read_text())
NETWORKS = {"base": BaseUNet, "interpolation": InterpolationUNet, "vsr": SuperResolutionUNet}
SAMPLERS = {"eulerdiscrete": "euler"}  # where the name of the case is not ours
WHOLE = FOLDER / "sampling_outputs.safetensors"


def _relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return ((ours.double() - reference.double()).norm() / reference.double().norm()).item()


def _beside(case: dict) -> dict:
    """What a stage's network sees besides noise and text."""
    stage, seed = case["stage"], case["seed"]
    if stage == "interpolation":
        keys = recipe.tensor("interpolation.keyframes", case["keyframes"], seed)
        return {"concatenate": keys[:, :, [nearest_key(frame) for frame in range(case["latents"][2])]]}
    if stage == "vsr":
        frames, noise = (recipe.tensor(f"vsr.{name}", case["low_res"], seed) for name in ("low_res", "low_res_noise"))
        level = case["noise_level"]
        return {"conditions": {"low_res": noised_low_res(frames, noise, level), "class_labels": torch.tensor([level])}}
    return {}


@torch.inference_mode()
def _run(name: str, case: dict) -> torch.Tensor:
    stage, seed = case["stage"], case["seed"]
    network = recipe.fill_(NETWORKS[stage](**case["config"]), seed)
    halves = [recipe.tensor(f"{stage}.{half}", (1, 77, 48), seed) for half in ("uncond", "cond")]
    kind = VELOCITY if stage == "vsr" else EPSILON
    sampler = name.split("_")[1]
    scheduler = make_scheduler(SAMPLERS.get(sampler, sampler), kind, respaced=stage == "interpolation")
    set_steps(scheduler, case["steps"])
    assert [float(timestep) for timestep in scheduler.timesteps] == case["timesteps"]
    predict = Guided(network, torch.cat(halves), case["guidance"], **_beside(case))
    generator = torch.Generator().manual_seed(0)
    latents = recipe.tensor(f"{stage}.noise", case["latents"], seed)
    *_, (_, result, _) = denoise(predict, latents, scheduler, kind, lambda step: generator)
    return result


@pytest.mark.parametrize("name", CASES)
def test_a_loop_of_ten_steps_ends_where_the_published_one_does(name):
    case = CASES[name]
    latents = _run(name, case)
    ours, expected = figures(latents), case["output"]
    assert ours["shape"] == expected["shape"]
    assert _relative_error(torch.tensor(ours["values"]), torch.tensor(expected["values"])) <= 1e-3
    assert ours["norm"] == pytest.approx(expected["norm"], rel=1e-3)
    if WHOLE.exists():
        assert _relative_error(latents, load_file(WHOLE)[name]) <= 1e-3
