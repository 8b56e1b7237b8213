"""What we write is read back exactly, by us and by others."""

import copy
import hashlib

import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from safetensors import safe_open
from safetensors.torch import load_file

from extensions.lora.deltas import Hadamard, LowRank
from extensions.lora.files.export import save_kohya
from extensions.lora.files.header import read_header
from extensions.lora.files.inspection import inspect
from extensions.lora.files.read import AdapterDeltas, read_deltas
from extensions.lora.hooks import hooks_of
from lavie.errors import AdapterError
from tests.extensions.lora.files import BLOCK, CONVOLUTIONS, FAMILIES, LINEAR, POINTWISE, TEXT, Maker


def trained(networks, layers=(*LINEAR, *POINTWISE, *CONVOLUTIONS, *TEXT), ranks=3) -> AdapterDeltas:
    maker, found = Maker(networks.targets), {"unet": {}, "text": {}}
    for number, layer in enumerate(layers):
        part = "text" if layer in TEXT else "unet"
        factors = maker.low_rank(part, layer, 2 + number % ranks, 1 + number / 3)
        shape = networks.targets.shapes(part)[layer]
        found[part][layer] = LowRank.from_factors(
            1 + number / 3, shape, {role: factors[role] for role in ("down", "up")}
        )
    return AdapterDeltas(**found)


def test_a_round_trip_is_exact(networks, path):
    state = trained(networks)
    found = read_deltas(save_kohya(path, state), networks.targets)
    assert found.unmatched == ()
    for part in ("unet", "text"):
        assert found.of(part).keys() == state.of(part).keys()
        for layer, change in state.of(part).items():
            ours = found.of(part)[layer]
            assert ours.alpha == torch.tensor(change.alpha).item()
            assert all(torch.equal(ours.factors[role], change.factors[role]) for role in ("down", "up"))


def test_an_imported_file_can_be_written_again(networks, tmp_path):
    first = read_deltas(FAMILIES["kohya LoCon"](Maker(networks.targets), tmp_path / "a.safetensors"), networks.targets)
    again = read_deltas(save_kohya(tmp_path / "b.safetensors", first), networks.targets)
    theirs, ours = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert again.unet.keys() == first.unet.keys()
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_metadata_that_other_tools_look_for(networks, path):
    told = {"modelspec.title": "A style", "modelspec.trigger_phrase": "zz", "ss_steps": 300, "ss_network_dim": "4"}
    save_kohya(path, trained(networks), told)
    said, content = read_header(path).metadata, path.read_bytes()
    assert said["ss_network_module"] == "networks.lora"
    assert (said["ss_network_dim"], said["ss_steps"], said["ss_v2"]) == ("4", "300", "False")
    weights = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    assert said["sshs_model_hash"] == weights and said["modelspec.hash_sha256"] == f"0x{weights}"
    assert len(said["sshs_legacy_hash"]) == 8
    card = inspect(path, networks.targets)
    assert (card.family, card.base_model, card.title, card.trigger_words) == (
        "kohya LoCon",
        "LaVie",
        "A style",
        ("zz",),
    )
    with safe_open(path, "pt") as file:
        shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert shapes[f"{name}.lora_up.weight"][2:] == [1, 1] and shapes[f"{name}.lora_down.weight"][2:] == [3, 3]


@torch.no_grad()
def test_diffusers_and_peft_read_it(networks, path):
    """With one rank and alpha: of several, diffusers 0.42 loses some on the way to peft."""
    layers = [layer for layer in LINEAR if "attn_temp" not in layer]  # no image model has that one
    state = trained(networks, layers, ranks=1)
    for change in state.unet.values():
        change.alpha = 1.5
    save_kohya(path, state)
    ours, theirs = (copy.deepcopy(networks.plain["unet"]) for _ in range(2))
    hooks_of(ours).add("trained", state.unet)
    read, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(load_file(path))
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(read, alphas, theirs)
    plain, expected = networks.run("unet"), networks.run("unet", unet=ours)
    assert (networks.run("unet", unet=theirs) - expected).norm() < 1e-4 * (expected - plain).norm()


def test_what_cannot_be_written(networks, path):
    loha = Hadamard(1.0, 2, (32, 32), {})
    with pytest.raises(AdapterError, match=f"{BLOCK}.attn1.to_q is changed by a Hadamard"):
        save_kohya(path, AdapterDeltas({LINEAR[0]: loha}, {}))
    with pytest.raises(AdapterError, match="no change to write"):
        save_kohya(path, AdapterDeltas({}, {}))
    with pytest.raises(AdapterError, match="was not written"):
        save_kohya(path.parent / "nowhere" / "file.safetensors", trained(networks))
    assert list(path.parent.iterdir()) == []
