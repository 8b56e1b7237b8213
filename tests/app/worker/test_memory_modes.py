"""What a clip's stages ran on stands in its recipe, and is what they run on when it is made again."""

import json

import pytest

from app.media import read_recipe
from app.recipes.comparison import Difference
from app.recipes.job_row import DONE, FAILED
from app.recipes.recipe import Recipe
from app.ui.create.handlers import describe_plan, plan_memory
from app.ui.i18n import Languages
from lavie.errors import OutOfMemory, RequestError
from lavie.events import BASE, INTERPOLATION, Finished, MemoryModeChanged, Notice, StageStarted
from lavie.memory_mode import DECODING, MODEL, PLAIN, MemoryMode, MemoryPlan
from lavie.request import Request
from tests.app.studios import ended
from tests.fakes import FakeCascade

HALVES, PIECES = MemoryMode(split_guidance=True), MemoryMode(512, offload=MODEL)


class Planned(FakeCascade):
    """Tells a mode for each stage; `modes` where none is given. asked: what it was given, run by run."""

    def __init__(self, **modes: MemoryMode):
        super().__init__()
        self.modes, self.asked, self.short = modes, [], False

    def generate(self, request, source=None, done=None, memory=None):
        self.asked.append(dict(memory or {}))
        modes = {**self.modes, **(memory or {})}
        for event in super().generate(request, source, done):
            if isinstance(event, Finished):
                yield MemoryModeChanged(DECODING, modes.get(DECODING, PLAIN))
            yield event
            if isinstance(event, StageStarted):
                if self.short and event.stage == INTERPOLATION:
                    raise OutOfMemory("cuda ran out of memory")
                yield Notice(f"{event.stage} has a plan")
                yield MemoryModeChanged(event.stage, modes.get(event.stage, PLAIN))


@pytest.fixture
def cascade():
    return Planned(base=HALVES, decoding=PIECES)


@pytest.fixture
def studio(make_studio, cascade):
    return make_studio(cascade)


EXPECTED = {BASE: HALVES, DECODING: PIECES}


def test_modes_stand_in_the_recipe_of_the_file_and_the_gallery(studio):
    clip = ended(studio, studio.submit(Request("a red star", seed=7))).clip
    assert studio.gallery.get(clip.id).recipe.memory == EXPECTED
    assert Recipe.from_json(read_recipe(clip.path)).memory == EXPECTED


def test_made_again_a_clip_runs_in_the_modes_that_it_ran_in(studio, cascade):
    clip = ended(studio, studio.submit(Request("a red star", seed=7))).clip
    cascade.modes = {BASE: MemoryMode(offload=MODEL)}
    job = ended(studio, studio.regenerate(clip.id))
    assert job.state == DONE and job.comparison.identical
    assert cascade.asked == [{}, EXPECTED]


def test_what_changed_in_the_plan_is_named_where_the_frames_differ(studio, cascade):
    clip = ended(studio, studio.submit(Request("a red star", seed=7))).clip
    cascade.shade = 3
    generate = cascade.generate
    cascade.generate = lambda request, source=None, done=None, memory=None: generate(
        request, source, done, {BASE: PIECES, DECODING: MemoryMode(512)}
    )
    proof = ended(studio, studio.regenerate(clip.id)).comparison
    assert proof.differences == (Difference("memory.base", str(HALVES), str(MemoryMode(512))),)


def test_a_clip_finished_from_a_draft_keeps_the_modes_of_the_stages_that_it_takes(studio, cascade):
    draft = ended(studio, studio.submit(Request("a red star", seed=7))).clip
    cascade.modes = {INTERPOLATION: HALVES}
    job = ended(studio, studio.finish(draft.id, interpolate=True))
    assert job.state == DONE, job.row.error
    found = studio.gallery.get(job.clip.id).recipe.memory
    assert found == {BASE: HALVES, INTERPOLATION: HALVES, DECODING: PLAIN}
    assert cascade.ran == [BASE, INTERPOLATION]


def test_a_remix_plans_anew(studio, cascade):
    clip = ended(studio, studio.submit(Request("a red star", seed=7))).clip
    ended(studio, studio.remix(clip.id))
    assert cascade.asked == [{}, {}]


def test_where_memory_runs_out_for_good_the_latents_are_kept_and_retry_goes_on_from_them(studio, cascade):
    from lavie.request import Interpolation

    cascade.short = True
    job = ended(studio, studio.submit(Request("a red star", seed=7, interpolation=Interpolation())))
    assert job.state == FAILED and "ran out of memory" in job.row.error
    cascade.short = False
    studio.queue.retry(job.row.id)
    again = ended(studio, job.row.id)
    assert again.state == DONE and cascade.ran == [BASE, INTERPOLATION, INTERPOLATION]
    assert cascade.asked[1] == {BASE: HALVES}
    assert studio.gallery.get(job.row.id).recipe.memory[BASE] == HALVES


def test_a_recipe_without_modes_says_nothing_of_them():
    recipe = Recipe(Request("a red star", seed=7), "nano", {"device": "cpu"})
    assert "memory" not in json.loads(recipe.to_json())
    assert Recipe.from_json(recipe.to_json()).memory == {}


@pytest.mark.parametrize("memory", [[], {"base": {"tile": 1}}, {"else": {}}, {"base": "halves"}], ids=str)
def test_a_recipe_with_modes_that_are_none_is_refused(memory):
    data = json.loads(Recipe(Request("a red star", seed=7), "nano", {"device": "cpu"}).to_json())
    with pytest.raises(RequestError):
        Recipe.from_json(json.dumps({**data, "memory": memory}))


PLAN = MemoryPlan("bfloat16", {BASE: PLAIN, DECODING: PIECES}, {BASE: 3 * 2**30, DECODING: 2**30}, 8 * 2**30)


def test_a_forecast_says_what_is_needed_and_how_stages_will_run():
    say = Languages().words("en")
    said = describe_plan(PLAN, False, say)
    assert said == (
        "will need about 3.0 GiB of 8.0 GiB device memory · "
        "Decode: in pieces of 512 pixels, idle networks wait in main memory"
    )
    assert describe_plan(PLAN, True, say).startswith("Decode: ")
    assert describe_plan(None, False, say) == ""
    tight = MemoryPlan("bfloat16", {}, {BASE: 9 * 2**30}, 8 * 2**30, fits=False)
    assert describe_plan(tight, False, say).endswith("memory may run out")


def test_a_forecast_is_made_where_memory_is_planned_and_a_model_is_there(studio, cascade):
    asked = Request("a red star", seed=7)
    assert plan_memory(studio, asked) is None
    ended(studio, studio.submit(asked))
    assert plan_memory(studio, asked) is None
    cascade.plan = lambda request: PLAN if request.width else None
    assert plan_memory(studio, asked) == PLAN
    assert plan_memory(studio, Request("refused")) is None
