"""Jobs and recipes survive JSON, and say what is wrong with anything else."""

import json

import pytest

from app.recipe import Job, Recipe
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("made with love", "not the JSON"),
        ("[1]", "is a JSON object"),
        ("[" * 100_000, "not the JSON"),
        ("[" * 40 + "]" * 40, "nested more than 32"),
        ("x" * 600_000, "has 600000 characters"),
        ("9" * 5_000, "not the JSON"),
        (None, "not the JSON"),
        ('{"a": NaN}', "NaN is no JSON"),
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
