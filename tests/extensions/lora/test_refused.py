"""Every file that cannot be used is refused in one line that names it and what to do; nothing of it runs."""

import json
import pickle
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from extensions.lora.files.header import MAX_FILE, read_header
from extensions.lora.files.inspection import inspect
from extensions.lora.files.read import read_deltas, targets_in
from lavie.bundle import Bundle
from lavie.errors import AdapterError, BundleError
from tests.bundles import weight_file
from tests.extensions.lora.files import BLOCK, KOHYA_ENDINGS, LINEAR, Maker, kohya

NAME = kohya(LINEAR[0])
DEEP = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q"


def pair(name: str, rank: int = 4, into: int = 32, out: int = 32) -> dict[str, torch.Tensor]:
    return {f"{name}.lora_down.weight": torch.ones(rank, into), f"{name}.lora_up.weight": torch.ones(out, rank)}


def raw(header, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def refused(path, networks, *said: str) -> None:
    with pytest.raises(AdapterError) as caught:
        inspect(path, networks.targets)
    message = str(caught.value)
    assert all(part in message for part in (path.name, *said)), message
    assert "\n" not in message
    assert len(message) < 500


class Evil:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize("name", ["evil.pt", "evil.ckpt", "evil.bin", "evil.safetensors"])
def test_a_pickle_is_never_opened(networks, tmp_path, name):
    plain, zipped = tmp_path / name, tmp_path / f"zipped {name}"
    plain.write_bytes(pickle.dumps(Evil()))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)
    for path in (plain, zipped):
        refused(path, networks, "can run code", "convert it to safetensors")


TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
BROKEN = {
    "empty": (b"", "0 bytes"),
    "too short": (b"\x10\0\0", "3 bytes"),
    "cut in its header": (raw({"a": TENSOR})[:20], "20 bytes"),
    "cut in its weights": (raw({f"{NAME}.alpha": TENSOR, **{
        f"{NAME}.lora_{end}.weight": {"dtype": "F32", "shape": size, "data_offsets": [4, 516]}
        for end, size in (("down", [4, 32]), ("up", [32, 4]))}}, b"1234"), "damaged or cut short"),
    "no JSON": (raw(b"{" * 100), "no JSON"),
    "nested": (raw(b'{"a":' * 100_000), "no JSON"),
    "not text": (raw(b"\xff\xfe\xff\xfe"), "no JSON"),
    "a list": (raw([1, 2]), "[1, 2]"),
    "no tensors": (raw({"__metadata__": {"a": "b"}}), "0 tensors"),
    "too many tensors": (raw({str(number): TENSOR for number in range(5001)}), "5001 tensors"),
    "a name twice": (raw(b'{"a":{},"a":{}}'), "'a' twice"),
    "a number type": (raw({"a": TENSOR | {"dtype": "F8_E4M3"}}), "'F8_E4M3'"),
    "a strange shape": (raw({"a": TENSOR | {"shape": [10**10]}}), "[10000000000]"),
    "a negative shape": (raw({"a": TENSOR | {"shape": [-1, 4]}}), "[-1, 4]"),
    "a shape of bools": (raw({"a": TENSOR | {"shape": [True]}}), "[True]"),
    "no description": (raw({"a": 7}), "number type None"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}, "a": TENSOR}), "not texts"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_told(networks, path, what):
    content, said = BROKEN[what]
    path.write_bytes(content)
    refused(path, networks, said)


def test_sizes_are_looked_at_before_anything_is_read(networks, path):
    with path.open("wb") as stream:
        stream.write((100 * 2**20).to_bytes(8, "little"))
        stream.truncate(110 * 2**20)
    refused(path, networks, "header of 104857600 bytes", "less metadata")
    with path.open("wb") as stream:
        stream.truncate(MAX_FILE + 1)
    refused(path, networks, str(MAX_FILE), "smaller")
    with pytest.raises(AdapterError, match=r"gone\.safetensors cannot be read \(No such file"):
        read_header(path.with_name("gone.safetensors"))
    with pytest.raises(AdapterError, match="cannot be read"):
        read_header(path.parent)


def test_ten_megabytes_of_metadata(networks, path):
    save_file(pair(NAME), path, {"ss_tag_frequency": json.dumps({"a": "x" * 10**7})})
    refused(path, networks, "header of 10", "less metadata")


FOREIGN = {
    "SDXL": (DEEP, 640),
    "SDXL by its text encoder": ("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280),
    "SDXL in its own names": ("lora_unet_input_blocks_4_1_proj_in", 640),
    "SDXL by its text": (f"unet.{BLOCK}.attn2.to_k", 2048),
    "Stable Diffusion 2": (kohya(f"{BLOCK}.attn2.to_k"), 1024),
    "Stable Diffusion 3": ("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536),
    "Flux": ("lora_unet_double_blocks_0_img_attn_qkv", 3072),
    "Flux in diffusers": ("transformer.single_transformer_blocks.0.attn.to_q", 3072),
    "a diffusion transformer": ("diffusion_model.blocks.0.self_attn.q", 1536),
    "AnimateDiff": ("down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0", 320),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_files_for_other_networks_are_named(networks, path, what):
    name, width = FOREIGN[what]
    save_file(pair(name, into=width, out=width), path)
    refused(path, networks, "made for " + what.split(" in ")[0].split(" by ")[0], "LaVie")


@pytest.mark.parametrize(("said", "base"), [("sdxl_base_v1-0", "SDXL"), ("sd_v2_768_v", "Stable Diffusion 2")])
def test_what_the_metadata_says_counts_where_nothing_else_tells(networks, path, said, base):
    save_file(pair(NAME), path, {"ss_base_model_version": said})
    refused(path, networks, f"made for {base}")


UNSUPPORTED = ("dora_scale", "diff", "w_norm", "oft_blocks", "on_input", "a1.weight", "lora_up.bias")


@pytest.mark.parametrize("ending", UNSUPPORTED)
def test_kinds_that_are_no_sum_of_small_matrices(networks, path, ending):
    save_file(pair(NAME) | {f"{NAME}.{ending}": torch.ones(32)}, path)
    refused(path, networks, f"{NAME}.{ending}", "not supported", "LoHa")


def test_numbers_that_are_none(networks, path):
    for number in (float("nan"), float("inf")):
        tensors = pair(NAME)
        tensors[f"{NAME}.lora_up.weight"][3, 1] = number
        save_file(tensors, path)
        refused(path, networks, "NaN", f"{NAME}.lora_up.weight")
    save_file(pair(NAME) | {f"{NAME}.alpha": torch.tensor(float("nan"))}, path)
    refused(path, networks, f"{NAME}.alpha")


def test_shapes_of_another_model(networks, path):
    save_file(pair(NAME, into=320, out=320), path, {"ss_base_model_version": "sd_v1"})
    refused(path, networks, "320 × 320", "32 × 32", "made for Stable Diffusion 1")
    save_file(pair("lora_unet_somewhere_else"), path)
    refused(path, networks, "an unknown model", "none of its 1 layers")
    save_file(pair(NAME, rank=10_000), path)
    refused(path, networks, "rank 10000", "512")


FACTORS = {
    "no up": ({"lora_down.weight": (4, 32)}, "lacks up"),
    "ranks that differ": ({"lora_down.weight": (4, 32), "lora_up.weight": (32, 5)}, "do not fit each other"),
    "a vector": ({"lora_down.weight": (4,), "lora_up.weight": (32, 4)}, "do not fit each other"),
    "two alphas": ({"lora_down.weight": (4, 32), "lora_up.weight": (32, 4), "alpha": (2,)}, "alpha of shape [2]"),
    "half a LoHa": ({"hada_w1_a": (32, 4), "hada_w1_b": (4, 32), "hada_w2_a": (32, 4)}, "lacks hada_w2_b"),
    "a LoHa of two sizes": (
        {"hada_w1_a": (32, 4), "hada_w1_b": (4, 32), "hada_w2_a": (32, 4), "hada_w2_b": (4, 16)},
        "do not fit each other",
    ),
    "one core": (
        {f"hada_w{n}_{ab}": (4, 32) for n in "12" for ab in "ab"} | {"hada_t1": (4, 4, 3, 3)},
        "lacks hada_t2",
    ),
    "half a LoKr": ({"lokr_w1": (4, 4)}, "lacks lokr_w2_a"),
    "an uneven LoKr": ({"lokr_w1": (4, 3), "lokr_w2": (8, 9)}, "32 × 27"),
}


@pytest.mark.parametrize("what", FACTORS)
def test_factors_that_do_not_go_together(networks, path, what):
    factors, said = FACTORS[what]
    save_file({f"{NAME}.{ending}": torch.ones(shape) for ending, shape in factors.items()}, path)
    refused(path, networks, LINEAR[0], said)


def test_a_layer_that_is_changed_twice(networks, path):
    save_file(pair(NAME) | pair(f"unet.{LINEAR[0]}"), path)
    refused(path, networks, LINEAR[0], "twice")
    again = {f"{NAME}.lora_A.weight": torch.ones(4, 32)}
    save_file(pair(NAME) | again, path)
    refused(path, networks, f"{NAME}.lora_A.weight", f"{NAME}.lora_down.weight")


@pytest.mark.parametrize(
    "config",
    [
        "no JSON",
        "[]",
        '{"lora_alpha": "high"}',
        '{"alpha_pattern": {"(a+)+$": 1}}',
        '{"alpha_pattern": 3}',
        "[" * 10**5,
    ],
)
def test_a_configuration_that_is_not_understood(networks, path, config):
    factors = {
        f"unet.{LINEAR[0]}.lora_{letter}.weight": torch.ones(s) for letter, s in (("A", (4, 32)), ("B", (32, 4)))
    }
    save_file(factors, path, {"lora_adapter_metadata": config})
    refused(path, networks, "peft says")


def test_a_file_is_the_one_that_was_asked_for(networks, path):
    maker = Maker(networks.targets)
    maker.add(NAME, KOHYA_ENDINGS, maker.low_rank("unet", LINEAR[0], 2, 1.0))
    maker.write(path)
    card = inspect(path, networks.targets)
    assert set(read_deltas(path, networks.targets, card.sha256).unet) == {LINEAR[0]}
    with pytest.raises(AdapterError, match="not the file that was asked for"):
        read_deltas(path, networks.targets, "0" * 64)


def test_a_layer_that_is_changed_in_two_ways(networks, path):
    save_file(pair(NAME) | {f"{NAME}.lokr_w1": torch.ones(4, 4)}, path)
    refused(path, networks, LINEAR[0], "as LoRA and as LoKr")


def test_a_damaged_bundle_has_no_targets(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (folder / weight_file("base")).write_bytes(b"short")
    with pytest.raises(BundleError, match="is damaged or cut short"):
        targets_in(Bundle(folder))


def test_embeddings_of_other_sizes(networks, path):
    save_file({"emb_params": torch.ones(2, 768)}, path)
    refused(path, networks, "768 channels", "reads 32")
    save_file({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, path)
    refused(path, networks, "SDXL")
    save_file({"emb_params": torch.full((2, 32), float("nan"))}, path)
    refused(path, networks, "emb_params")
