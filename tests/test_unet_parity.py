"""The three networks compute what the published ones compute, under the published names."""

import pytest
import torch

from lavie.unet import BaseUNet, InterpolationUNet, SuperResolutionUNet
from tests.reference.figures import cases, figures, published_names, whole_outputs
from tests.reference.recipe import fill_, tensor

NETWORKS = {"base": BaseUNet, "interpolation": InterpolationUNet, "vsr": SuperResolutionUNet}
TOLERANCE = 1e-4  # ‖ours − theirs‖ / ‖theirs‖ in float32


def shapes(network: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("stage", NETWORKS)
def test_the_full_size_network_has_the_published_names_and_shapes(stage):
    with torch.device("meta"):
        network = NETWORKS[stage]()
    assert shapes(network) == published_names()[stage]


def test_nine_input_channels_make_the_frame_conditioned_network():
    with torch.device("meta"):
        network = BaseUNet(in_channels=9)
    assert shapes(network) == {**published_names()["base"], "conv_in.weight": [320, 9, 3, 3]}


def test_published_names_fill_a_network_built_without_memory():
    case = cases()["base_unet"]
    with torch.device("meta"):
        network = BaseUNet(**case["config"])
    source = fill_(BaseUNet(**case["config"]), case["seed"])
    network.load_state_dict(source.state_dict(), strict=True, assign=True)
    assert not any(value.is_meta for value in [*network.parameters(), *network.buffers()])
    assert relative_error(run("base_unet", network.eval()), run("base_unet", source)) == 0


@pytest.mark.parametrize("name", cases())
def test_outputs_match_the_published_network(name):
    case = cases()[name]
    output = run(name, fill_(NETWORKS[case["stage"]](**case["config"]), case["seed"]))
    expected, actual = case["output"], figures(output)
    assert actual["shape"] == expected["shape"]
    assert actual["norm"] == pytest.approx(expected["norm"], rel=TOLERANCE)
    assert actual["mean"] == pytest.approx(expected["mean"], abs=TOLERANCE)
    assert relative_error(torch.tensor(actual["values"]), torch.tensor(expected["values"])) < TOLERANCE
    if whole_outputs() is not None:
        assert relative_error(output, whole_outputs()[name]) < TOLERANCE


@torch.no_grad()
def run(name: str, network: torch.nn.Module) -> torch.Tensor:
    case = cases()[name]
    seed, sample = case["seed"], case["sample"]
    conditions = {}
    if case["stage"] == "vsr":
        conditions["low_res"] = tensor(f"{name}.low_res", [sample[0], 3, *sample[2:]], seed)
        conditions["class_labels"] = torch.full([sample[0]], case["noise_level"])
    inputs = tensor(f"{name}.sample", sample, seed), case["timestep"], tensor(f"{name}.text", case["text"], seed)
    return network(*inputs, **conditions)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()
