"""What a card says: the format, what fits, and all that the file and the files beside it tell."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from extensions.lora.adapter import AdapterCard
from extensions.lora.files.inspection import inspect
from extensions.lora.files.read import targets_in, targets_of
from lavie.bundle import Bundle
from lavie.errors import RequestError
from tests.extensions.lora.files import FAMILIES, LINEAR, POINTWISE, TEXT, Maker, kohya
from tests.extensions.lora.test_refused import pair
from tests.test_architecture import ROOT

NAMED = {"kohya without alpha": "kohya", "kohya Tucker": "kohya LoCon", "diffusers with configuration": "diffusers"}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_told_apart(networks, path, family):
    maker = Maker(networks.targets)
    card = inspect(FAMILIES[family](maker, path), networks.targets)
    mixed = {"LyCORIS LoKr": "LyCORIS LoKr"}.get(family, NAMED.get(family, family))
    assert card.family == mixed
    assert (card.unet_layers, card.text_layers) == (len(maker.deltas["unet"]), len(maker.deltas["text"]))
    assert card.unmatched == 0
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card.size == path.stat().st_size
    assert AdapterCard.from_json(card.to_json()) == card


def test_ranks_alphas_and_what_does_not_fit(networks, path):
    maker = Maker(networks.targets)
    maker.tensors = pair("lora_unet_conv_of_another") | {"strange": torch.ones(3)}
    card = inspect(FAMILIES["kohya"](maker, path), networks.targets)
    assert card.unet_layers == len(LINEAR) + len(POINTWISE)
    assert card.text_layers == len(TEXT)
    assert card.ranks == (2, 3, 4, 5, 6)
    assert card.alphas[:3] == (0.5, 1.5, 2.5)
    assert card.unmatched == 2
    assert card.unmatched_names == ("lora_unet_conv_of_another", "strange")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_in_half_precision(networks, path, dtype):
    card = inspect(FAMILIES["kohya"](Maker(networks.targets), path, dtype=dtype), networks.targets)
    assert card.base_model == "LaVie"  # it changes a temporal layer


TOLD = {
    "ss_base_model_version": "sd_v1",
    "ss_output_name": "other name",
    "ss_tag_frequency": json.dumps({"1_a": {"star": 3, "red": 9, "evil": "many"}, "2_b": {"star": 8}, "3_c": 7}),
    "modelspec.title": "<b>A style</b>",
    "modelspec.trigger_phrase": "zzstyle, star",
    "modelspec.license": "CC-BY-4.0",
    "modelspec.author": "somebody",
    "modelspec.description": "first line\n<script>alert(1)</script> \x00",
}


def test_metadata_is_text_and_stays_text(networks, path):
    save_file(pair(kohya(LINEAR[0])), path, TOLD)
    card = inspect(path, networks.targets)
    assert card.base_model == "Stable Diffusion 1"
    assert card.title == "<b>A style</b>"
    assert card.trigger_words == ("zzstyle", "star")
    assert card.tags == ("star", "red")
    assert (card.licence, card.author) == ("CC-BY-4.0", "somebody")
    assert card.description == "first line\n<script>alert(1)</script>"
    assert card.preferred_weight is None and card.preview is None and card.notes == ()


def test_files_beside_it(networks, path):
    save_file(pair(kohya(LINEAR[0])), path, {"modelspec.trigger_phrase": "maker's", "modelspec.description": "maker's"})
    beside = {"activation text": "mine, other", "preferred weight": 0.7, "description": "as I use it \ud83d"}
    path.with_suffix(".json").write_text(json.dumps(beside))  # with half a character in it
    path.with_suffix(".preview.png").write_bytes(b"")
    card = inspect(path, networks.targets)
    assert card.trigger_words == ("mine", "other", "maker's")
    assert (card.preferred_weight, card.description) == (0.7, "as I use it")
    assert card.preview == str(path.with_suffix(".preview.png"))
    path.with_suffix(".png").write_bytes(b"")
    assert inspect(path, networks.targets).preview == str(path.with_suffix(".png"))


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 200_000, '{"a": "' + "x" * 2**20 + '"}', "\udcff"])
def test_what_cannot_be_read_is_told_and_keeps_nothing_back(networks, path, text):
    path.with_suffix(".json").write_text(text, errors="surrogateescape")
    frequency = text.encode("utf-8", "replace").decode()
    save_file(pair(kohya(LINEAR[0])), path, {"ss_tag_frequency": frequency, "modelspec.title": "t" * 10_000})
    card = inspect(path, networks.targets)
    assert [note.split(" is ")[0] for note in card.notes] == ["file.json", "ss_tag_frequency"]
    assert len(card.title) == 200
    assert card.tags == ()


@pytest.mark.parametrize("weight", [0, "1", True, None, [1]])
def test_a_weight_that_is_none_is_no_recommendation(networks, path, weight):
    save_file(pair(kohya(LINEAR[0])), path)
    path.with_suffix(".json").write_text(json.dumps({"preferred weight": weight}))
    assert inspect(path, networks.targets).preferred_weight is None
    path.with_suffix(".json").write_text('{"preferred weight": 1e300}')
    assert inspect(path, networks.targets).preferred_weight == 2.0


def test_textual_inversions(networks, path):
    save_file({"emb_params": torch.ones(3, 32)}, path)
    card = inspect(path, networks.targets)
    assert (card.family, card.vectors, card.trigger_words) == ("textual inversion", 3, ("file",))
    save_file({"<toy>": torch.ones(32)}, path)
    card = inspect(path, networks.targets)
    assert (card.vectors, card.trigger_words) == (1, ("<toy>",))
    save_file({"x\n" * 10_000: torch.ones(32)}, path)
    assert len(inspect(path, networks.targets).trigger_words[0]) == 200


def test_targets_of_a_bundle_are_those_of_its_networks(networks, tiny_bundle):
    assert targets_in(Bundle(tiny_bundle)) == networks.targets == targets_of(networks.unet, networks.text)


def test_a_card_refuses_what_is_none():
    with pytest.raises(RequestError, match="an adapter's card has schema None"):
        AdapterCard.from_json("{}")


def test_values_and_headers_need_no_torch():
    light = "adapter tags names files.header files.formats"
    modules = ", ".join(f"extensions.lora.{name}" for name in light.split())
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, check=True, timeout=60)
