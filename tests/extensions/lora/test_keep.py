"""Files are kept byte for byte under their hash; what a file needs from beside it goes into it."""

import shutil

import pytest
import torch

from extensions.lora.files.inspection import inspect, keep
from extensions.lora.files.read import read_deltas
from lavie.errors import AdapterError
from tests.extensions.lora.files import FAMILIES, Maker


def test_a_file_is_kept_under_its_hash(networks, path, tmp_path):
    FAMILIES["kohya"](Maker(networks.targets), path)
    (tmp_path / "adapter_config.json").write_text("that of another file")
    card, kept = keep(path, tmp_path / "adapters", networks.targets)
    assert card == inspect(path, networks.targets)
    assert kept == tmp_path / "adapters" / f"{card.sha256}.safetensors"
    assert kept.read_bytes() == path.read_bytes()
    assert keep(path, tmp_path / "adapters", networks.targets) == (card, kept)
    assert list((tmp_path / "adapters").iterdir()) == [kept]


def test_alphas_from_beside_go_into_the_file(networks, path, tmp_path):
    maker = Maker(networks.targets)
    FAMILIES["peft"](maker, path)
    card, kept = keep(path, tmp_path / "adapters", networks.targets)
    assert card.sha256 != inspect(path, networks.targets).sha256
    found = read_deltas(kept, networks.targets, card.sha256).unet
    for name, delta in maker.deltas["unet"].items():
        assert (found[name].delta(torch.float64) - delta).abs().max() < 1e-12


def test_a_file_that_cannot_be_kept(networks, path, tmp_path, monkeypatch):
    FAMILIES["kohya"](Maker(networks.targets), path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(AdapterError, match=r"file\.safetensors was not kept in .*taken"):
        keep(path, tmp_path / "taken", networks.targets)

    def changing(source, target):
        target.write_bytes(source.read_bytes()[:-1])

    monkeypatch.setattr(shutil, "copyfile", changing)
    with pytest.raises(AdapterError, match="changed meanwhile"):
        keep(path, tmp_path / "adapters", networks.targets)
    assert list((tmp_path / "adapters").iterdir()) == []
