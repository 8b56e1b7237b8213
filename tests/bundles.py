"""Damaged bundles and what is said of them."""

import json

import pytest

from lavie.errors import BundleError

NETWORKS = ("base", "interpolation", "super_resolution", "vae", "super_resolution_vae", "text_encoder")
CONFIGS = {name: f"{name}/config.json" for name in NETWORKS}


def weight_file(component: str) -> str:
    return f"{component}/" + ("model" if component == "text_encoder" else "diffusion_pytorch_model") + ".safetensors"


def change_json(file, **values) -> None:
    """Change a JSON file; a value of None takes its field away."""
    data = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))


def refused(act, *said: str) -> None:
    with pytest.raises(BundleError) as caught:
        act()
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message
    assert len(message) < 700
