"""A component is loaded with exactly the weights and the class that its folder promises, or not at all."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lavie.bundle import CLASSES, Bundle
from tests.bundles import CONFIGS, NETWORKS, change_json, refused, weight_file
from tests.cascades import copied


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    return copied(tiny_bundle, tmp_path / "copy")


@pytest.mark.parametrize("component", NETWORKS)
def test_a_component_is_loaded_with_the_very_weights_of_its_file(tiny_bundle, component):
    bundle = Bundle(tiny_bundle)
    network = bundle.load(component, torch.float32)
    state, file = network.state_dict(), load_file(tiny_bundle / weight_file(component))
    assert type(network) is CLASSES[component]
    assert state.keys() == file.keys()
    assert all(torch.equal(state[name], file[name].float()) for name in state)
    tensors = [*network.parameters(), *network.buffers()]
    assert not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)
    assert not network.training


def test_weights_are_given_the_number_type_asked_for(tiny_bundle):
    network = Bundle(tiny_bundle).load("base", torch.bfloat16)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("component", NETWORKS)
@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_weights_that_are_cut_short_are_named_with_their_size(folder, component, size):
    file = folder / weight_file(component)
    file.write_bytes(file.read_bytes()[:size])
    said = (str(file), "is damaged or cut short", f"{file.stat().st_size} bytes", "copy the folder again")
    refused(lambda: Bundle(folder).load(component, torch.float32), *said)


def _edit_weights(folder, component, edit) -> str:
    file = folder / weight_file(component)
    state = load_file(file)
    edit(state)
    save_file(state, file)
    return str(file)


@pytest.mark.parametrize("component", NETWORKS)
def test_weights_of_another_shape_are_named_with_both_shapes(folder, component):
    name = min(load_file(folder / weight_file(component)))
    shape = list(load_file(folder / weight_file(component))[name].shape)
    file = _edit_weights(folder, component, lambda state: state.update({name: torch.zeros(3, 7)}))
    said = (file, name, "has shape [3, 7]", f"expects {shape}")
    refused(lambda: Bundle(folder).load(component, torch.float32), *said)


def test_weights_that_lack_a_parameter_are_refused(folder):
    file = _edit_weights(folder, "base", lambda state: [state.pop(name) for name in ("conv_in.bias", "conv_in.weight")])
    refused(lambda: Bundle(folder).load("base", torch.float32), file, "lacks conv_in.bias and 1 more of a BaseUNet")


def test_weights_with_a_parameter_too_many_are_refused(folder):
    file = _edit_weights(folder, "vae", lambda state: state.update({"a.b": torch.zeros(1), "c": torch.zeros(1)}))
    refused(
        lambda: Bundle(folder).load("vae", torch.float32), file, "holds a.b and 1 more that a AutoencoderKL has not"
    )


def test_weights_of_another_network_are_refused(folder):
    (folder / weight_file("interpolation")).replace(folder / weight_file("base"))
    refused(lambda: Bundle(folder).load("base", torch.float32), weight_file("base"), "BaseUNet")


def test_a_folder_of_another_class_is_named_with_the_class_that_was_expected(folder):
    for component, other in [("base", "interpolation"), ("vae", "text_encoder"), ("text_encoder", "vae")]:
        bundle = Bundle(folder)
        bundle.config = lambda _, other=other: json.loads((folder / CONFIGS[other]).read_text())
        refused(
            lambda bundle=bundle, component=component: bundle.load(component, torch.float32),
            f"{component}/config.json",
            CLASSES[other].__name__,
            f"{component} needs a '{CLASSES[component].__name__}'",
        )


@pytest.mark.parametrize(
    ("component", "values"),
    [
        ("base", {"norm_num_groups": 7}),
        ("base", {"norm_num_groups": 0}),
        ("base", {"attention_head_dim": "two"}),
        ("base", {"block_out_channels": [32]}),
        ("base", {"block_out_channels": [-32, -32]}),
        ("base", {"block_out_channels": 32}),
        ("super_resolution", {"only_cross_attention": [True]}),
        ("vae", {"down_block_types": ["NoSuchBlock"] * 4}),
        ("vae", {"block_out_channels": []}),
        ("text_encoder", {"hidden_size": "wide"}),
        ("text_encoder", {"num_attention_heads": 5}),
        ("text_encoder", {"num_attention_heads": 0}),
    ],
    ids=str,
)
def test_a_config_that_builds_no_network_is_named_with_what_is_wrong(folder, component, values):
    change_json(folder / CONFIGS[component], **values)
    said = (str(folder / CONFIGS[component]), f"builds no {component} (", "copy the folder again")
    refused(lambda: Bundle(folder).load(component, torch.float32), *said)


@pytest.mark.parametrize("component", NETWORKS)
def test_a_config_that_is_missing_or_empty_is_named(folder, component):
    (folder / CONFIGS[component]).write_text("{}")
    refused(lambda: Bundle(folder).load(component, torch.float32), str(folder / CONFIGS[component]), "describes a None")
    (folder / CONFIGS[component]).unlink()
    refused(lambda: Bundle(folder).load(component, torch.float32), str(folder / component), "holds no config.json")


def _break_tokenizer(folder, how: str) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    if how == "missing":
        file.unlink()
    if how == "cut":
        file.write_bytes(file.read_bytes()[:100])
    if how == "empty":
        file.write_text("{}")
    if how == "config":
        (folder / "tokenizer" / "tokenizer_config.json").write_text("{")


@pytest.mark.parametrize("how", ["missing", "cut", "empty", "config"])
def test_a_broken_tokenizer_is_named(folder, how):
    _break_tokenizer(folder, how)
    said = (str(folder / "tokenizer"), "is no tokenizer", "copy the folder again")
    refused(lambda: Bundle(folder).text_encoder("base"), *said)
