"""A baked bundle is the source with the changes in its weights; the source stays as it was."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from extensions.lora.adapter import Adapter
from extensions.lora.bake import bake
from extensions.lora.files.read import read_deltas
from lavie import Cascade, Request
from lavie.bundle import Bundle
from lavie.errors import AdapterError
from tests.bundles import weight_file
from tests.extensions.lora.files import FAMILIES, Maker

ADAPTERS = (Adapter("a" * 64, "first", 0.5, -1.0), Adapter("b" * 64, "second", -0.25))


@pytest.fixture
def made(networks, tmp_path):
    makers = [Maker(networks.targets, seed) for seed in range(2)]
    names = ("kohya", "LyCORIS LoHa")
    files = [FAMILIES[name](maker, tmp_path / f"{name}.safetensors") for name, maker in zip(names, makers, strict=True)]
    read = {one.sha256: read_deltas(file, networks.targets) for one, file in zip(ADAPTERS, files, strict=True)}
    return [maker.deltas for maker in makers], lambda adapter: read[adapter.sha256]


def test_a_bundle_with_adapters_in_its_weights(tiny_bundle, tmp_path, made):
    deltas, changes = made
    before = Bundle(tiny_bundle).hashes()
    baked = bake(tiny_bundle, ADAPTERS, changes, tmp_path / "baked")
    assert Bundle(tiny_bundle).hashes() == before
    after = Bundle(baked).hashes()
    assert {name for name in after if after[name] != before[name]} == {weight_file("base"), weight_file("text_encoder")}
    for component, part in (("base", "unet"), ("text_encoder", "text")):
        old, new = (load_file(folder / weight_file(component)) for folder in (tiny_bundle, baked))
        for name, weight in old.items():
            expected = weight.double()
            for found, adapter in zip(deltas, ADAPTERS, strict=True):
                delta = found[part].get(name.removesuffix(".weight"))
                expected = expected if delta is None else expected + adapter.weight_of(part) * delta
            # One rounding to float16 of a sum in float64; where nothing is added, the bits of the source.
            assert (
                torch.equal(new[name], expected.to(weight.dtype))
                or ((new[name].double() - expected).abs() <= expected.abs() * 2**-11 + 1e-9).all()
            )
    manifest = json.loads((baked / "cascade.json").read_text())
    assert [Adapter.from_json(json.dumps(said)) for said in manifest["adapters"]] == list(ADAPTERS)
    request = Request(prompt="a red circle moving right", seed=1)
    events = list(Cascade.from_bundle(baked, device="cpu").generate(request))
    assert len(events[-1].video) == 4


def test_what_cannot_be_baked(tiny_bundle, tmp_path, made):
    _, changes = made
    with pytest.raises(AdapterError, match="is the bundle to start from"):
        bake(tiny_bundle, ADAPTERS, changes, tiny_bundle)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter.txt").write_text("dear")
    with pytest.raises(AdapterError, match="no bundle: give a new folder"):
        bake(tiny_bundle, ADAPTERS, changes, tmp_path / "papers")
    with pytest.raises(AdapterError, match="change nothing"):
        bake(tiny_bundle, [Adapter("a" * 64, "first", 0.0)], changes, tmp_path / "baked")
    assert not (tmp_path / "baked").exists()


def test_a_disk_that_is_full(tiny_bundle, tmp_path, made, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(AdapterError, match=r"No space left on device.*make room"):
        bake(tiny_bundle, ADAPTERS, made[1], tmp_path / "baked")
    assert not (tmp_path / "baked").exists()
