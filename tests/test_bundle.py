"""A folder that cannot be used is refused in one line: which file, what was expected, how to get it."""

import hashlib

import pytest
import torch

from lavie.bundle import Bundle
from lavie.manifest import EXTENSION, NEEDED
from lavie.request import STAGES
from lavie.training.assemble import write_bundle
from lavie.unet import BaseUNet
from tests import tiny
from tests.bundles import CONFIGS, NETWORKS, change_json, refused, weight_file
from tests.cascades import copied, with_extension


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    return copied(tiny_bundle, tmp_path / "copy")


def test_a_whole_bundle_lacks_nothing(tiny_bundle):
    bundle = Bundle(str(tiny_bundle))
    assert (bundle.name, bundle.width, bundle.height, bundle.frames, bundle.fps) == ("Tiny", 32, 16, 4, 8.0)
    assert all(bundle.missing(stage) == [] for stage in STAGES)
    assert set(bundle.components()) == set(NETWORKS)
    for stage in STAGES:
        bundle.require(stage)


def test_a_bundle_need_not_have_a_network_that_extends(tiny_bundle, tmp_path):
    bundle = Bundle(tiny_bundle)
    assert bundle.missing(EXTENSION) == ["cascade.json: “extension”"]
    refused(lambda: bundle.require(EXTENSION), "cannot run extension")
    assert EXTENSION not in bundle.components() and EXTENSION not in bundle.defaults
    only_said = copied(tiny_bundle, tmp_path / "copy")
    change_json(only_said / "cascade.json", extension=BASE)
    assert Bundle(only_said).missing(EXTENSION) == [weight_file(EXTENSION)]


def test_one_that_is_there_is_loaded_hashed_and_has_defaults_like_the_other_networks(tiny_bundle, tmp_path):
    bundle = Bundle(with_extension(tiny_bundle, tmp_path / "copy"))
    bundle.require(EXTENSION)
    assert EXTENSION in bundle.components()
    assert weight_file(EXTENSION) in bundle.hashes()
    assert bundle.defaults[EXTENSION] == bundle.defaults["base"]
    network = bundle.load(EXTENSION, torch.float32)
    assert (type(network), network.config.in_channels) == (BaseUNet, 9)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    refused(lambda: Bundle(tmp_path / "no"), str(tmp_path / "no"), "is not a folder", "cascade.json")


def test_a_file_is_no_folder(tiny_bundle):
    refused(lambda: Bundle(tiny_bundle / "cascade.json"), "cascade.json is not a folder")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    refused(lambda: Bundle(tmp_path), str(tmp_path), "holds no cascade.json", "no bundle")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[1]", "is not a JSON object"),
        ("\xff", "cannot be read as JSON"),
    ],
)
def test_a_broken_manifest_is_named(folder, text, said):
    (folder / "cascade.json").write_bytes(text.encode("latin-1"))
    refused(lambda: Bundle(folder), str(folder / "cascade.json"), said, "copy the folder again")


@pytest.mark.parametrize("value", [None, 0, 2, "1"])
def test_a_manifest_of_another_format_is_refused(folder, value):
    change_json(folder / "cascade.json", format=value)
    refused(lambda: Bundle(folder), "cascade.json", f"has format {value!r}", "reads 1", "convert the weights again")


BASE = tiny.MANIFEST["base"]


@pytest.mark.parametrize(
    "values",
    [
        {"name": None},
        {"width": "wide"},
        {"frames": [16]},
        {"base": 5},
        {"base": {**BASE, "sampler": "heun"}},
        {"base": {**BASE, "steps": 0}},
        {"base": {"steps": 2, "guidance": 3.0}},
        {"base": {"sampler": "ddim", "guidance": 3.0}},
        {"base": {"sampler": "ddim", "steps": None, "guidance": 3.0}},
        {"base": {**BASE, "colour": "red"}},
        {"base": {**BASE, "preview": [[0.1, 0.2]] * 4}},
        {"base": {**BASE, "prediction_type": "noise"}},
        {"interpolation": {**BASE, "sampler": "ddpm"}},
        {"interpolation": {**BASE, "windows": {"size": 8, "stride": 2}}},
        {"interpolation": {**BASE, "windows": 8}},
        {"super_resolution": {**BASE, "noise_level": 900}},
    ],
    ids=str,
)
def test_a_manifest_that_no_cascade_could_run_by_is_refused_when_it_is_opened(folder, values):
    change_json(folder / "cascade.json", **values)
    refused(lambda: Bundle(folder), "cascade.json is not what a cascade needs", "copy the folder again")


@pytest.mark.parametrize(
    ("stage", "file"),
    [(stage, weight_file(part)) for stage in STAGES for part in NEEDED[stage] if part in NETWORKS]
    + [(stage, "tokenizer/tokenizer_config.json") for stage in STAGES],
)
def test_what_a_stage_lacks_is_named(tiny_bundle, tmp_path, stage, file):
    bundle = Bundle(copied(tiny_bundle, tmp_path / "copy", file))
    assert bundle.missing(stage) == [file]
    refused(lambda: bundle.require(stage), f"cannot run {stage}", f"{file} missing", "git checkout assets/nano")


def test_everything_that_a_stage_lacks_is_named_at_once(tiny_bundle, tmp_path):
    bundle = Bundle(copied(tiny_bundle, tmp_path / "copy", "super_resolution", "super_resolution_vae", "tokenizer"))
    refused(
        lambda: bundle.require("super_resolution"),
        weight_file("super_resolution"),
        weight_file("super_resolution_vae"),
        "tok",
    )
    assert bundle.missing("interpolation") == ["tokenizer/tokenizer_config.json"]


def test_a_stage_that_the_manifest_does_not_know_is_missing(folder):
    change_json(folder / "cascade.json", interpolation=None)
    refused(
        lambda: Bundle(folder).require("interpolation"), "cannot run interpolation", "cascade.json: “interpolation”"
    )


def test_super_resolution_with_a_text_encoder_of_its_own_needs_that_and_not_the_shared_one(folder):
    (folder / "text_encoder").rename(folder / "super_resolution_text_encoder")
    (folder / "tokenizer").rename(folder / "super_resolution_tokenizer")
    assert Bundle(folder).missing("super_resolution") == []
    assert len(Bundle(folder).missing("base")) == 2
    (folder / "super_resolution_text_encoder/model.safetensors").unlink()
    assert Bundle(folder).missing("super_resolution") == ["super_resolution_text_encoder/model.safetensors"]


@pytest.mark.parametrize("widths", [None, [], 32, "32"])
def test_a_config_without_widths_is_named_before_anything_is_computed(folder, widths):
    change_json(folder / CONFIGS["vae"], block_out_channels=widths)
    refused(lambda: Bundle(folder).downscale_factor("base"), "vae/config.json", f"block_out_channels {widths!r}")


def test_hashes_are_those_of_the_weight_files(tiny_bundle):
    expected = {
        weight_file(c): hashlib.sha256((tiny_bundle / weight_file(c)).read_bytes()).hexdigest() for c in NETWORKS
    }
    assert Bundle(tiny_bundle).hashes() == expected


def test_factors_are_those_of_autoencoder_times_network(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    assert [bundle.downscale_factor(stage) for stage in ("base", "interpolation")] == [16, 16]
    assert bundle.size("base") == (tiny_bundle / weight_file("base")).stat().st_size
    assert bundle.size("super_resolution_text_encoder") == 0


def test_a_bundle_is_replaced_whole_or_stays_as_it_was(folder, monkeypatch):
    before = Bundle(folder).hashes()
    networks = tiny.build_networks()
    networks["vae"].save_config = None  # a network in the middle that cannot be written
    with pytest.raises(TypeError):
        write_bundle(folder, networks, tiny.build_tokenizer(), tiny.MANIFEST)
    assert Bundle(folder).hashes() == before
    write_bundle(folder, tiny.build_networks(), tiny.build_tokenizer(), {**tiny.MANIFEST, "name": "New"})
    assert Bundle(folder).name == "New"
    assert Bundle(folder).hashes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
