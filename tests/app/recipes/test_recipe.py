"""Jobs and recipes survive JSON, and say what is wrong with anything else."""

import json

import pytest

from app.recipes.initial_frames import InitialFrames, JoinedFrames
from app.recipes.recipe import Job, Recipe
from extensions.long_video.join_plan import JoinPlan, SourceClip, Transition
from extensions.long_video.plan import Segment, SegmentPlan
from lavie.errors import RequestError
from lavie.request import Interpolation, Request, Sampling, SuperResolution

REQUEST = Request(
    'ein "roter" Stern ★',
    negative_prompt="blur",
    seed=2**53 - 1,
    width=96,
    height=64,
    frames=16,
    fps=8.0,
    base=Sampling("ddim", 25, 7.5),
    interpolation=Interpolation(Sampling("euler", 10, 4.0)),
    super_resolution=SuperResolution(Sampling("dpm++", 12, 5.0), 20),
)
PROVENANCE = {"bundle": "Nano", "weights": {"base": "ab" * 32}, "device": "cpu", "versions": {"torch": "2.13"}}


def test_a_recipe_survives_json():
    recipe = Recipe(REQUEST, "nano", PROVENANCE, frame_hash="ab" * 32)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.job == Job(REQUEST, "nano")
    assert "\n" not in recipe.to_json()


def test_a_recipe_knows_when_and_by_what_it_was_made():
    recipe = Recipe(REQUEST, "nano", PROVENANCE)
    assert recipe.created.endswith("+00:00") and "T" in recipe.created
    assert recipe.app_version.count(".") == 2


def test_a_job_survives_json():
    job = Job(Request("a red star"), "some/folder")
    assert Job.from_json(job.to_json()) == job


def test_what_only_a_long_video_has_stands_only_in_its_json():
    names = {"lavie_recipe", "request", "model", "provenance", "frame_hash", "created", "app_version"}
    assert set(json.loads(Recipe(REQUEST, "nano").to_json())) == names
    assert set(json.loads(Job(REQUEST).to_json())) == {"request", "model"}
    plan, start = SegmentPlan((Segment("ein ★", 5, 3, True),), seed=1), InitialFrames("file", "ä.mp4", "ab" * 32, 16)
    job = Job(REQUEST, "nano", plan, start, (1, 2**53 - 1))
    assert Job.from_json(job.to_json()) == job
    recipe = Recipe(REQUEST, "nano", PROVENANCE, long=plan, start=start)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.job == Job(REQUEST, "nano", plan, start)
    assert Recipe.from_json(Recipe(REQUEST, "nano", long=plan).to_json()).start is None


def joined() -> dict:
    """What a video of two clips has."""
    shots = JoinedFrames("clip", "x", "ab" * 32, 200), JoinedFrames("file", "ä.png", "cd" * 32, 1)
    reel = JoinPlan(
        (SourceClip("ab" * 32, 200, "ein ★"), SourceClip("cd" * 32, 1)),
        (Transition("es wird ★", 3, 9),),
        seed=1,
        strategy="repaint",
    )
    return {"long": reel, "shots": shots}


def test_clips_that_are_joined_survive_json():
    job, recipe = Job(REQUEST, "nano", **joined()), Recipe(REQUEST, "nano", PROVENANCE, **joined())
    assert Job.from_json(job.to_json()) == job and Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.job == job and job.long is job.reel and Job(REQUEST).long is None
    assert set(json.loads(job.to_json())) == {"request", "model", "reel", "shots"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reel": {"schema": 99}}, "a plan of clips has schema 99"),
        ({"reel": None}, "not the JSON|JSON object"),
        ({"shots": []}, "the shots are not those that the reel names"),
        ({"shots": [5]}, "a joined clip is a JSON object"),
        (
            {"shots": [{"kind": "clip", "name": "x", "hash": "ab" * 32, "frames": 5000}]},
            "frames of a joined clip is 5000",
        ),
        ({"shots": {}}, "shots are .*: give a list"),
        ({"plan": {"schema": 1, "segments": [{"prompt": "x"}]}}, "a plan of segments and a reel of clips"),
        ({"start": {"kind": "clip", "name": "x", "hash": "ab" * 32, "frames": 4}}, "continued without a plan"),
        ({"candidates": [1]}, "give seeds, and the plan"),
    ],
)
def test_a_job_of_no_clips_that_could_be_joined_is_refused(changes, words):
    data = json.loads(Job(REQUEST, **joined()).to_json()) | changes
    with pytest.raises(RequestError, match=words):
        Job.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plan": None}, "not the JSON|JSON object"),
        ({"plan": {"schema": 99}}, "schema 99"),
        ({"plan": {"schema": 1, "segments": []}}, "the plan has 0 segments"),
        ({"start": {"kind": "clip"}}, "InitialFrames lacks"),
        ({"start": 5}, "a start is a JSON object"),
        ({"candidates": [1]}, "give seeds, and the plan"),
        ({"candidates": 5, "plan": None}, "give a list of seeds"),
        ({"candidates": [-1], "plan": {"schema": 1, "segments": [{"prompt": "x"}]}}, "candidates are"),
        ({"start": {"kind": "clip", "name": "x", "hash": "ab" * 32, "frames": 4}}, "continued without a plan"),
    ],
)
def test_a_job_of_no_long_video_that_could_be_is_refused(changes, words):
    data = json.loads(Job(REQUEST).to_json()) | changes
    with pytest.raises(RequestError, match=words):
        Job.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("made with love", "not the JSON"),
        ("[1]", "is not a JSON object"),
        ("[" * 100_000, "not the JSON"),
        ("[" * 40 + "]" * 40, "nested more than 32"),
        ("x" * 600_000, "600000 characters, more than"),
        ("9" * 5_000, "not the JSON"),
        (None, "not the JSON"),
        ('{"a": NaN}', "not JSON compliant"),
        ('{"a": 1e999}', "not the JSON"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        (json.dumps({**json.loads(Recipe(REQUEST, "nano").to_json()), "lavie_recipe": True}), "schema True"),
        ("{}", "app_version"),
        (json.dumps({**json.loads(Recipe(REQUEST, "nano").to_json()), "extra": 1}), "extra"),
        (json.dumps({**json.loads(Recipe(REQUEST, "nano").to_json()), "lavie_recipe": 99}), "schema 99"),
        (json.dumps({**json.loads(Recipe(REQUEST, "nano").to_json()), "model": ""}), "model is ''"),
        (json.dumps({**json.loads(Recipe(REQUEST, "nano").to_json()), "provenance": []}), "provenance is"),
        (json.dumps({**json.loads(Recipe(REQUEST, "nano").to_json()), "request": {"schema": 1}}), "lacks prompt"),
    ],
)
def test_what_is_no_recipe_is_refused(text, words):
    with pytest.raises(RequestError, match=words):
        Recipe.from_json(text)
