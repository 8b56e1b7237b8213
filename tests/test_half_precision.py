"""In bfloat16 and float16 the networks give what they give in float32, to 2.5 in a hundred."""

import pytest
import torch

from lavie.bundle import stored_type
from tests.reference.figures import cases, figures
from tests.reference.recipe import fill_, tensor
from tests.test_unet_parity import NETWORKS, relative_error

# ‖half − float32‖ / ‖float32‖ over the whole output; in float32 ours is the published network's to 1e-4.
TOLERANCE = {torch.float16: 5e-3, torch.bfloat16: 2.5e-2}


@pytest.mark.parametrize("name", cases())
def test_in_half_precision_a_network_says_what_it_says_in_float32(name):
    expected = _run(name, torch.float32)
    assert figures(expected)["norm"] == pytest.approx(cases()[name]["output"]["norm"], rel=1e-4)
    for dtype, tolerance in TOLERANCE.items():
        assert 0 < relative_error(_run(name, dtype), expected) < tolerance, dtype


@torch.no_grad()
def _run(name: str, dtype: torch.dtype) -> torch.Tensor:
    """As a bundle's network runs: weights and what it is called with in `dtype`, rotary frequencies in float32."""
    case = cases()[name]
    seed, sample = case["seed"], case["sample"]
    network = fill_(NETWORKS[case["stage"]](**case["config"]), seed).eval()
    state = {name: value.to(stored_type(name, dtype)) for name, value in network.state_dict().items()}
    network.load_state_dict(state, strict=True, assign=True)
    conditions = {}
    if case["stage"] == "vsr":
        conditions["low_res"] = tensor(f"{name}.low_res", [sample[0], 3, *sample[2:]], seed).to(dtype)
        conditions["class_labels"] = torch.full([sample[0]], case["noise_level"])
    given = tensor(f"{name}.sample", sample, seed), tensor(f"{name}.text", case["text"], seed)
    noisy, text = (value.to(dtype) for value in given)
    output = network(noisy, case["timestep"], text, **conditions)
    assert output.dtype == dtype
    return output.float()
