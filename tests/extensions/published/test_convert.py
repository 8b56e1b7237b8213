"""Published files → a bundle: every layout and way of saving that was published, and what is refused."""

import json
import shutil
from collections import OrderedDict, namedtuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from extensions.published import convert as module
from extensions.published.child import run_task
from extensions.published.convert import Converted, Converting, convert, verify
from extensions.published.facts import PUBLISHED
from extensions.published.layout import recognise
from lavie import Cascade, Finished, Interpolation, Request, SuperResolution
from lavie.bundle import CLASSES, Bundle
from lavie.errors import BundleError
from lavie.events import Notice
from lavie.files import file_hash, read_record
from lavie.manifest import EXTENSION, NETWORK_FILE
from lavie.training.assemble import write_changed
from tests.extensions.published import toys
from tests.extensions.published.toys import FILES, SMALL, published, weights, write_published
from tests.reference import figures

STAGES = ("base", "interpolation", "super_resolution", EXTENSION)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """All published files at toy size; copy them before you change any."""
    return write_published(tmp_path_factory.mktemp("published") / "pretrained_models")


@pytest.fixture(scope="module")
def made(family, tmp_path_factory):
    """Events of a whole conversion from the folder above, and its bundle."""
    output = tmp_path_factory.mktemp("made") / "official"
    return list(convert(family.parent, output, published=published())), output


@pytest.fixture
def base_alone(tmp_path):
    """The files of the base stage, to be damaged."""
    return write_published(tmp_path / "published", ("base", "vae", "text_encoder"))


@pytest.fixture
def in_process(monkeypatch):
    """Conversions do the same here, for tests of what they do and not of where: a process takes seconds to start."""

    def work(tasks):
        for task in tasks:
            yield {"file": run_task(**task, show=lambda done: None)}

    monkeypatch.setattr(module, "run_child", work)


def refused(folder, output, *said: str, dtype="fp16"):
    with pytest.raises(BundleError) as caught:
        list(convert(folder, output, dtype, published()))
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message and len(message) < 700
    assert not output.exists() and not list(output.parent.glob(".*.partial"))


def test_the_facts_are_those_of_the_published_files():
    """Names and shapes of the networks against the recorded ones."""
    for name, recorded in figures.published_names().items():
        component = {"vsr": "super_resolution"}.get(name, name)
        with torch.device("meta"):
            network = CLASSES[component].from_config(PUBLISHED.configs[component])
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == recorded


def test_every_weight_is_the_published_one_in_half_precision(made):
    _, output = made
    for component in FILES:
        bundle = Bundle(output)
        bundle.check(component)
        stored = load_file(output / component / ("model.safetensors" if "text" in component else NETWORK_FILE))
        original = toys.networks()[component].state_dict()
        assert stored.keys() == original.keys()
        for name, tensor in stored.items():
            exact = name.endswith("rotary_emb.freqs")
            assert tensor.dtype == (torch.float32 if exact else torch.float16)
            assert torch.equal(tensor, original[name] if exact else original[name].half()), name


def test_the_bundle_runs_every_stage(made):
    _, output = made
    cascade = Cascade.from_bundle(output, device="cpu")
    request = Request("a red", seed=1, interpolation=Interpolation(), super_resolution=SuperResolution())
    *_, last = cascade.generate(request)
    assert isinstance(last, Finished) and last.video.frames.shape == (13, 64, 128, 3)
    assert cascade.read("a red").tokens == 4
    assert cascade.bundle.text_encoder("super_resolution").tokenizer.pad_token == "!"


def test_progress_ends_at_the_whole_and_the_result_says_all(made, family):
    events, output = made
    *steps, last = events
    assert all(isinstance(step, Converting) for step in steps)
    assert [step.done for step in steps] == sorted(step.done for step in steps) and steps[0].done == 0
    assert steps[-1].done == steps[-1].total
    assert isinstance(last, Converted) and last.stages == STAGES and last.peak_memory > 0
    assert last.sources == {file: file_hash(family / file) for file in FILES.values()}
    assert last.files == {name: file_hash(output / name) for name in last.files}
    assert read_record(output).keys() == last.files.keys()
    said = json.loads((output / "weights.json").read_text())
    assert said["dtype"] == "fp16" and said["sources"]["lavie_base.pt"]["sha256"] == last.sources["lavie_base.pt"]
    assert Bundle(output).hashes().items() <= last.files.items()


def test_a_kept_checksum_counts_as_long_as_the_file_is_the_same(made, tmp_path):
    bundle = shutil.copytree(made[1], tmp_path / "copy")
    file = bundle / "base" / NETWORK_FILE
    kept = Bundle(bundle).hashes()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    changed = Bundle(bundle).hashes()
    assert {name for name in kept if kept[name] != changed[name]} == {f"base/{NETWORK_FILE}"}


def test_bf16_and_a_wrapped_state_dict_and_parameters(base_alone, tmp_path, in_process):
    state = OrderedDict((name, torch.nn.Parameter(tensor)) for name, tensor in weights("base").items())
    torch.save({"state_dict": state}, base_alone / "lavie_base.pt")
    list(convert(base_alone, tmp_path / "out", "bf16", published()))
    stored = load_file(tmp_path / "out" / "base" / NETWORK_FILE)
    assert torch.equal(stored["conv_in.weight"], weights("base")["conv_in.weight"].bfloat16())


def test_one_that_is_there_is_replaced_once_the_new_one_is_whole(base_alone, tmp_path, in_process):
    output = tmp_path / "out"
    list(convert(base_alone, output, published=published()))
    (output / "stale.txt").write_text("of the old one")
    work = convert(base_alone, output, published=published())
    assert isinstance(next(work), Converting)
    work.close()
    assert (output / "stale.txt").is_file() and not list(tmp_path.glob(".*"))
    list(convert(base_alone, output, published=published()))
    assert not (output / "stale.txt").exists() and not list(tmp_path.glob(".*"))


def test_a_network_without_its_companions_is_left_out_with_a_word(base_alone, tmp_path, in_process):
    torch.save(weights("super_resolution"), base_alone / "lavie_vsr.pt")
    first, *_, last = convert(base_alone, tmp_path / "out", published=published())
    assert isinstance(first, Notice) and "super_resolution is left out" in first.message
    assert "stable-diffusion-x4-upscaler/vae" in first.message
    assert last.stages == ("base",)


def test_folders_with_nothing_to_convert_are_named(tmp_path, base_alone):
    refused(tmp_path / "no", tmp_path / "out", "is not a folder", "lavie_base.pt")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "out", "holds none of", "lavie_base.pt", "models download official")
    shutil.rmtree(base_alone / SMALL / "vae")
    refused(base_alone, tmp_path / "out", "lacks stable-diffusion-v1-4/vae", "models download official")


def test_what_is_in_the_way_stays(base_alone, tmp_path):
    refused_at = tmp_path / "mine"
    refused_at.mkdir()
    (refused_at / "thesis.txt").write_text("x")
    with pytest.raises(BundleError, match="is there and is no bundle"):
        list(convert(base_alone, refused_at, published=published()))
    with pytest.raises(BundleError, match="is what is to be converted"):
        list(convert(base_alone, base_alone, published=published()))
    with pytest.raises(BundleError, match="dtype is 'int8': choose one of fp16, bf16"):
        list(convert(base_alone, tmp_path / "out", "int8", published()))
    assert (refused_at / "thesis.txt").is_file() and (base_alone / "lavie_base.pt").is_file()


def test_a_disk_without_room_is_told_before_the_start(base_alone, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    refused(base_alone, tmp_path / "out", "GB free", "--output")


def test_weights_of_another_model_are_named(base_alone, tmp_path, in_process):
    torch.save(weights("interpolation"), base_alone / "lavie_base.pt")
    refused(base_alone, tmp_path / "out", "lavie_base.pt", "another model")
    state = weights("base")
    state["conv_in.weight"] = torch.zeros(32, 5, 3, 3)
    torch.save(state, base_alone / "lavie_base.pt")
    refused(base_alone, tmp_path / "out", "conv_in.weight has the shape [32, 5, 3, 3], base has [32, 4, 3, 3]")
    torch.save(weights("base") | {"more.weight": torch.zeros(2)}, base_alone / "lavie_base.pt")
    refused(base_alone, tmp_path / "out", "holds 'more.weight' and 0 more that base has not")
    save_file({"other": torch.zeros(2)}, base_alone / SMALL / "vae" / NETWORK_FILE)
    torch.save(weights("base"), base_alone / "lavie_base.pt")
    refused(base_alone, tmp_path / "out", f"{NETWORK_FILE} lacks", "of vae", "another model")


def test_numbers_that_are_none_or_too_large_are_named(base_alone, tmp_path, in_process):
    state = weights("base")
    state["conv_in.bias"][0] = 1e6
    torch.save(state, base_alone / "lavie_base.pt")
    refused(base_alone, tmp_path / "out", "conv_in.bias", "too large for F16", "bf16")
    list(convert(base_alone, tmp_path / "out", "bf16", published()))
    assert Bundle(tmp_path / "out").missing("base") == []


def test_a_file_that_runs_code_runs_none(base_alone, tmp_path):
    torch.save({"ema": Evil(tmp_path / "ran")}, base_alone / "lavie_base.pt")
    refused(base_alone, tmp_path / "out", "lavie_base.pt names", "system", "which can run code")
    assert not (tmp_path / "ran").exists()


class Evil:
    """Touches a file as soon as somebody loads it."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.file}",)


def test_a_download_that_was_changed_since_is_named(base_alone, tmp_path, in_process):
    kept = {"sha256": "0" * 64, "bytes": 1, "modified": 1}
    (base_alone / "weights.json").write_text(json.dumps({"files": {"lavie_base.pt": kept}}))
    refused(base_alone, tmp_path / "out", "lavie_base.pt is not what was downloaded")


def test_the_layout_is_recognised_from_above_and_as_it_is(family):
    assert recognise(family) == recognise(family.parent)
    assert set(recognise(family).weights) == set(FILES)


def test_a_whole_bundle_is_verified(made):
    *checks, verdict = verify(made[1])
    assert checks[0].done == 0 and checks[-1].total > checks[-1].done > 0
    assert verdict.whole and verdict.recorded and verdict.unknown == ()
    assert verdict.stages == {stage: [] for stage in STAGES}


def test_every_change_is_found_and_the_stages_it_stops(made, tmp_path):
    bundle = shutil.copytree(made[1], tmp_path / "copy")
    file = bundle / "interpolation" / NETWORK_FILE
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # a single bit of a weight
    file.write_bytes(content)
    (bundle / "super_resolution_vae" / NETWORK_FILE).unlink()
    (bundle / "tokenizer" / "merges.txt").unlink()
    state = load_file(bundle / EXTENSION / NETWORK_FILE)
    del state["conv_in.bias"]
    save_file(state, bundle / EXTENSION / NETWORK_FILE)
    (bundle / "mine.txt").write_text("x")
    *_, verdict = verify(bundle)
    assert not verdict.whole
    assert set(verdict.changed) == {f"interpolation/{NETWORK_FILE}", f"{EXTENSION}/{NETWORK_FILE}"}
    assert set(verdict.gone) == {f"super_resolution_vae/{NETWORK_FILE}", "tokenizer/merges.txt"}
    assert verdict.unknown == ("mine.txt",)
    assert "conv_in.bias" in verdict.unfit[EXTENSION]
    assert f"interpolation/{NETWORK_FILE}" in verdict.stages["interpolation"]
    assert f"super_resolution_vae/{NETWORK_FILE}" in verdict.stages["super_resolution"]
    assert EXTENSION in verdict.stages[EXTENSION]
    assert verdict.stages["base"] == ["tokenizer/merges.txt"]


def test_a_bundle_of_which_nothing_was_kept_is_compared_by_names_and_shapes(tiny_bundle):
    *_, verdict = verify(tiny_bundle)
    assert verdict.whole and not verdict.recorded and len(verdict.unknown) > 10


def test_a_bundle_trained_further_has_no_record_of_the_one_before(made, tmp_path):
    network = toys.networks()["base"]
    manifest = json.loads((made[1] / "cascade.json").read_text())
    write_changed(tmp_path / "trained", made[1], {"base": network}, manifest)
    *_, verdict = verify(tmp_path / "trained")
    assert verdict.whole and not verdict.recorded
