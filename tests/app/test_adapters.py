"""The library of adapters, and what is made with them: real files on a real toy cascade."""

import json
import shutil
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from app.adapters import Adapters
from app.cli.main import cli
from app.config import StudioConfig
from app.media import read_recipe
from app.recipes.recipe import Job, Recipe
from app.storage.database import Database
from app.studio import Studio
from extensions.long_video.plan import CODENOISE, CORRECTED, Segment, SegmentPlan
from extensions.lora.adapter import Adapter
from extensions.lora.cascade import AdaptedCascade
from extensions.lora.files.read import targets_in
from extensions.lora.tags import TagWeights, take_tags
from lavie.bundle import Bundle
from lavie.errors import AdapterError, RequestError
from lavie.events import BASE, Finished
from lavie.request import Interpolation, Request, Sampling
from tests.extensions.lora.files import FAMILIES, Maker

ONE = Sampling(sampler="ddim", steps=2)
REQUEST = Request("a red star", seed=4, base=ONE)


@pytest.fixture(scope="module")
def lora(tmp_path_factory, tiny_bundle):
    """A file that changes the base network and the text encoder of the toy cascade."""
    path = tmp_path_factory.mktemp("lora") / "plush.safetensors"
    FAMILIES["kohya"](Maker(targets_in(Bundle(tiny_bundle))), path)
    Image.new("RGB", (900, 300), "teal").save(path.with_suffix(".png"))
    path.with_suffix(".json").write_text(json.dumps({"activation text": "plush", "preferred weight": 0.7}))
    return path


@pytest.fixture
def studio(tmp_path, tiny_bundle):
    studio = Studio(StudioConfig(data=tmp_path / "data", model=str(tiny_bundle), device="cpu"))
    yield studio
    studio.close()


@pytest.fixture
def row(studio, lora):
    return studio.adapters.add(lora, studio.config.bundle)


def made(studio, job_id):
    *_, last = studio.follow(job_id)
    assert last.state == "done", last.row.error
    return last


def test_a_file_is_let_in_once_with_all_that_is_known_of_it(studio, lora, row, tmp_path):
    assert (row.name, row.weight, row.card.trigger_words) == ("plush", 0.7, ("plush",))
    assert row.path == studio.config.data / "adapters" / f"{row.sha256}.safetensors" and row.path.is_file()
    with Image.open(row.preview) as picture:
        assert picture.format == "WEBP" and picture.size == (512, 171)
    shutil.copy(lora, tmp_path / "other name.safetensors")
    assert studio.adapters.add(tmp_path / "other name.safetensors", studio.config.bundle) == row
    assert studio.adapters.all() == [row] and studio.adapters.names() == {"plush": row.sha256}
    with pytest.raises(AdapterError):
        studio.adapters.add(tmp_path / "nothing.safetensors", studio.config.bundle)
    assert sorted(path.suffix for path in studio.adapters.folder.iterdir()) == [".safetensors", ".webp"]


def test_a_picture_that_is_none_is_left_out(studio, lora, tmp_path):
    shutil.copy(lora, tmp_path / "one.safetensors")
    (tmp_path / "one.png").write_bytes(b"no picture")
    assert studio.adapters.add(tmp_path / "one.safetensors", studio.config.bundle).preview is None


def test_names_are_for_one_each_and_found_in_any_way(studio, row, tiny_bundle, tmp_path):
    (tmp_path / "sub").mkdir()
    FAMILIES["peft"](Maker(targets_in(Bundle(tiny_bundle))), tmp_path / "sub/Plush.safetensors")
    second = studio.adapters.add(tmp_path / "sub/Plush.safetensors", tiny_bundle)
    assert second.name == "Plush-2" and studio.adapters.all() == [second, row]
    for text in ("plush", row.sha256, row.sha256[:8], "PLUSH"):
        assert studio.adapters.find(text) == row
    with pytest.raises(RequestError, match="no adapter is called 'plus': there is plush"):
        studio.adapters.find("plus")
    assert studio.adapters.rename(row.sha256, "teddy").name == "teddy"
    with pytest.raises(RequestError, match="another adapter is called 'teddy'"):
        studio.adapters.rename(second.sha256, "teddy")
    with pytest.raises(RequestError, match="the name is 'a:b'"):
        studio.adapters.rename(second.sha256, "a:b")
    studio.adapters.remove(row.sha256)
    assert studio.adapters.all() == [second] and not row.path.exists() and not row.preview.exists()
    with pytest.raises(RequestError, match="no adapter has the hash"):
        studio.adapters.remove(row.sha256)


def frames(cascade, request=REQUEST):
    *_, last = cascade.generate(request)
    assert isinstance(last, Finished)
    return last.video.frame_hash


def test_what_is_worn_changes_the_frames_and_leaves_no_trace(tiny_cascade, studio, row):
    def worn(*weights):
        adapter = Adapter(row.sha256, row.name, *weights)
        return AdaptedCascade(tiny_cascade, [adapter], lambda one: studio.adapters.read(one, studio.config.bundle))

    plain = frames(tiny_cascade)
    full, text_only, unet_only = frames(worn(1.0)), frames(worn(0.0, 1.0)), frames(worn(1.0, 0.0))
    assert len({plain, full, text_only, unet_only}) == 4
    assert frames(worn(0.0)) == plain and frames(tiny_cascade) == plain
    assert frames(worn(1.0)) == full
    with tiny_cascade.residency.on_device(BASE) as network:
        assert not [name for name, _ in network.named_modules() if "adapter" in name]
        assert not any(module._forward_hooks for module in network.modules())


def test_a_weight_that_was_set_is_the_one_to_begin_with_from_then_on(studio, row):
    assert row.adapter() == Adapter(row.sha256, "plush", 0.7)
    studio.adapters.weigh(row.sha256, -0.5, 1.25)
    row = studio.adapters.require(row.sha256)
    assert row.adapter() == Adapter(row.sha256, "plush", -0.5, 1.25)
    assert row.adapter(0.3) == Adapter(row.sha256, "plush", 0.3)  # said here and now
    studio.adapters.weigh(row.sha256, 0.0, None)
    assert studio.adapters.require(row.sha256).adapter() == Adapter(row.sha256, "plush", 0.0)
    with pytest.raises(RequestError, match="weight is 3"):
        studio.adapters.weigh(row.sha256, 3.0, None)
    assert studio.adapters.require(row.sha256).weight == 0.0


def test_an_embedding_s_word_is_read_and_not_unknown(tiny_cascade, studio, tmp_path, tiny_bundle):
    width = targets_in(Bundle(tiny_bundle)).text_width
    save_file({"emb_params": torch.randn(2, width)}, tmp_path / "zkw.safetensors")
    row = studio.adapters.add(tmp_path / "zkw.safetensors", tiny_bundle)
    cascade = AdaptedCascade(tiny_cascade, [row.adapter()], lambda one: studio.adapters.read(one, tiny_bundle))
    with_word = Request("a zkw star", seed=4, base=ONE)
    assert frames(cascade, with_word) != frames(tiny_cascade, with_word)
    assert "zkw" not in cascade.read("a zkw star").unknown
    assert frames(cascade) == frames(tiny_cascade)


def test_a_clip_says_what_it_wore_and_is_made_again_to_the_same_bits(studio, row):
    plain = made(studio, studio.submit(REQUEST)).clip
    asked = Request("a red star <lora:plush:0.5>", seed=4, base=ONE)
    clip = made(studio, studio.submit(asked)).clip
    assert clip.frame_hash != plain.frame_hash
    stored = studio.gallery.get(clip.id)
    assert stored.prompt == "a red star" and dict(stored.adapters) == {row.sha256: 0.5}
    recipe = Recipe.from_json(read_recipe(clip.path))
    assert recipe.adapters == (Adapter(row.sha256, "plush", 0.5),)
    studio.adapters.rename(row.sha256, "teddy")  # it is known by its hash
    assert made(studio, studio.regenerate(clip.id)).comparison.identical
    assert made(studio, studio.regenerate(plain.id)).comparison.identical
    remix = made(studio, studio.remix(clip.id)).clip
    assert studio.gallery.get(remix.id).recipe.adapters == recipe.adapters
    finished = made(studio, studio.finish(clip.id, interpolate=True)).clip
    assert list(studio.job(finished.id).stage_seconds) == ["interpolation"]  # from the latents that are kept
    whole = Request("a red star", seed=4, base=ONE, interpolation=Interpolation())
    assert made(studio, studio.submit(whole, adapters=recipe.adapters)).clip.frame_hash == finished.frame_hash


def test_an_adapter_that_is_gone_is_named_and_the_next_job_runs(studio, row, lora):
    clip = made(studio, studio.submit(REQUEST, adapters=[row.adapter(1.0)])).clip
    studio.adapters.remove(row.sha256)
    *_, last = studio.follow(studio.regenerate(clip.id))
    assert last.state == "failed" and "the adapter 'plush'" in last.row.error and "import its file" in last.row.error
    made(studio, studio.submit(REQUEST))
    studio.adapters.add(lora, studio.config.bundle)
    assert made(studio, studio.regenerate(clip.id)).comparison.identical


@pytest.mark.parametrize("prompt", ["a star <lora:plush>", "a star <lora:plush:3>", "a <lora:nobody> star"])
def test_what_cannot_be_worn_is_refused_before_it_is_queued(studio, row, prompt):
    adapters = [row.adapter()] if prompt.endswith("plush>") else []
    with pytest.raises(RequestError, match=r"plush|nobody"):
        studio.submit(Request(prompt), adapters=adapters)
    assert studio.queue.line() == []


@pytest.mark.parametrize("strategy", [CORRECTED, CODENOISE])
def test_each_segment_of_a_long_video_wears_its_own(studio, row, strategy):
    def plan(*prompts):
        return SegmentPlan(tuple(map(Segment, prompts)), seed=3, strategy=strategy)

    request = Request("a red star", seed=3, base=ONE)
    plain = made(studio, studio.long_videos.submit(request, plan("a red star", "a red star"))).clip
    tagged = plan("a red star", "a red star <lora:plush:0.9>")
    job = studio.long_videos.submit(request, tagged)
    clip = made(studio, job).clip
    assert studio.queue.get(job).job.adapters == (Adapter(row.sha256, "plush", 0.0),)
    assert clip.frame_hash != plain.frame_hash and dict(studio.gallery.get(clip.id).adapters) == {row.sha256: 0.9}
    assert made(studio, studio.regenerate(clip.id)).comparison.identical
    off = made(studio, studio.long_videos.submit(request, plan("a red star", "a red star <lora:plush:0>"))).clip
    assert off.frame_hash == plain.frame_hash


def test_a_project_knows_what_another_weight_makes_stale(studio, row):
    made(studio, studio.submit(REQUEST))  # the model is loaded
    plan = SegmentPlan(tuple(Segment(f"a red star <lora:plush:{weight}>") for weight in (0.4, 0.6)), seed=3)
    project = studio.long_videos.projects.create(plan, Request("any", seed=3, base=ONE), studio.model)
    studio.serve()
    made(studio, studio.long_videos.render(project))
    assert studio.long_videos.outdated(project) == set()
    studio.long_videos.projects.change(
        project, lambda plan: SegmentPlan((plan.segments[0], Segment("a red star <lora:plush:0.7>")), seed=3)
    )
    assert studio.long_videos.outdated(project) == {1}


def test_jobs_and_recipes_as_json(row):
    job = Job(REQUEST, adapters=(row.adapter(0.5, 0.25),))
    assert Job.from_json(job.to_json()) == job and '"adapters"' not in Job(REQUEST).to_json()
    recipe = Recipe(REQUEST, "nano", adapters=job.adapters)
    assert Recipe.from_json(recipe.to_json()) == recipe and recipe.job.adapters == job.adapters
    for wrong in ('"x"', "[1]", '[{"sha256": "1", "name": "a"}]', "{}"):
        with pytest.raises(RequestError):
            Job.from_json(Job(REQUEST).to_json()[:-1] + f', "adapters": {wrong}}}')


def call(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_commands(tmp_path, lora, tiny_bundle):
    data = ["--data", tmp_path / "data"]
    model = ["--model", tiny_bundle]
    done = call("adapters", "import", lora, *data, *model)
    assert done.exit_code == 0 and "kohya" in done.stdout and "write plush" in done.stdout, done.output
    render = ["render", "a red star", "--steps", 1, "--seed", 1, *data, *model, "--device", "cpu", "--json"]
    plain, named, filed = (
        json.loads(call(*render, *lora_).stdout.splitlines()[-1])
        for lora_ in ([], ["--lora", "plush:0.8"], ["--lora", f"{lora}:0.8"])
    )
    assert named["frame_hash"] == filed["frame_hash"] != plain["frame_hash"]
    listed = json.loads(call("adapters", "list", *data, "--json").stdout)["adapters"]
    assert [(one["name"], one["there"]) for one in listed] == [("plush", True)]
    assert call("adapters", "rename", "plush", "teddy", *data).exit_code == 0
    shown = json.loads(call("adapters", "show", "teddy", *data, "--json").stdout)
    assert shown["name"] == "teddy" and shown["trigger_words"] == ["plush"]
    baked = call("adapters", "bake", tmp_path / "baked", "--lora", "teddy:0.8", *data, *model)
    assert baked.exit_code == 0 and Bundle(tmp_path / "baked").missing(BASE) == []
    for options, said in (("nobody", "no adapter is called"), ("x.safetensors:1", "there is no file x.safetensors")):
        refused = call(*render, "--lora", options)
        assert refused.exit_code == 1 and said in refused.stderr and refused.stderr.count("\n") == 1
    assert call("adapters", "remove", "teddy", *data).exit_code == 0
    assert json.loads(call("adapters", "list", *data, "--json").stdout) == {"adapters": []}


def test_the_library_needs_no_torch(tmp_path):
    import subprocess

    code = (
        "import sys; from pathlib import Path; "
        "from app.adapters import Adapters; from app.storage.database import Database; "
        f"print(Adapters(Database(Path({str(tmp_path)!r})), Path({str(tmp_path)!r})).all(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


def test_a_row_of_a_later_version_is_passed_over(tmp_path):
    database = Database(tmp_path)
    with database.write() as connection:
        values = {"hash": "0" * 64, "name": "later", "path": "adapters/x.safetensors", "created": "2030-01-01"}
        connection["adapters"].insert({**values, "about": '{"schema": 99}'})
    assert Adapters(database, tmp_path).all() == []
    database.close()


def test_a_project_of_a_clip_shows_what_it_wore_in_its_prompts(studio, row):
    clip = made(studio, studio.submit(REQUEST, adapters=[row.adapter(0.5, 0.25)])).clip
    project = studio.long_videos.projects.get(studio.long_videos.project_of(clip.id))
    (segment,) = project.plan.segments
    assert segment.prompt == "<lora:plush:0.25:0.5> a red star"
    assert studio.adapters.resolve_tags(Job(REQUEST, long=project.plan)).adapters == (
        Adapter(row.sha256, "plush", 0.0),
    )
    assert take_tags(segment.prompt) == ("a red star", (TagWeights("plush", 0.5, 0.25),))
