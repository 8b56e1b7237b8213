"""A request refuses what cannot be made, in one line that names the value, and survives JSON unchanged."""

import json
from dataclasses import replace

import pytest

from lavie.errors import LavieError, RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import (
    MAX_FRAMES,
    MAX_SEED,
    MAX_SIZE,
    SAMPLERS,
    SCHEMA_VERSION,
    STAGES,
    Interpolation,
    Request,
    Sampling,
    SuperResolution,
)
from lavie.values import MAX_PROMPT

FULL = Request(
    prompt="a red star „spinning“ on a navy background\n☆",
    negative_prompt="blur",
    seed=MAX_SEED,
    width=96,
    height=64,
    frames=16,
    fps=7.5,
    base=Sampling("unipc", 25, 7.5, 0.25),
    interpolation=Interpolation(Sampling("ddim", 50, 4.0)),
    super_resolution=SuperResolution(Sampling("dpm++", 20, 5.0), noise_level=50),
)

ALONE = Request("x", super_resolution=SuperResolution(Sampling("ddim")))

REFUSED = [
    # values, what the message must say: the name, the value, the way out
    ({"prompt": ""}, ["prompt is empty", "say what the video should show"]),
    ({"prompt": " \n\t"}, ["prompt is empty"]),
    ({"prompt": None}, ["prompt is None", "give a text"]),
    ({"prompt": "x" * (MAX_PROMPT + 1)}, ["prompt has 4001 characters", "4000"]),
    ({"prompt": "a \ud800 star"}, ["prompt", r"\ud800"]),
    ({"negative_prompt": 5}, ["negative_prompt is 5"]),
    ({"negative_prompt": "x" * (MAX_PROMPT + 1)}, ["negative_prompt has 4001 characters"]),
    ({"seed": -1}, ["seed is -1", str(MAX_SEED)]),
    ({"seed": MAX_SEED + 1}, [f"seed is {MAX_SEED + 1}"]),
    ({"seed": True}, ["seed is True", "whole number"]),
    ({"seed": 7.0}, ["seed is 7.0", "whole number"]),
    ({"seed": "7"}, ["seed is '7'"]),
    ({"width": 0}, ["width is 0", str(MAX_SIZE)]),
    ({"width": 100}, ["width is 100", "multiple of 8"]),
    ({"height": MAX_SIZE + 8}, [f"height is {MAX_SIZE + 8}"]),
    ({"height": 64.0}, ["height is 64.0"]),
    ({"frames": 0}, ["frames is 0", f"from 1 to {MAX_FRAMES}"]),
    ({"frames": MAX_FRAMES + 1}, [f"frames is {MAX_FRAMES + 1}"]),
    ({"fps": 0}, ["fps is 0", "from 1 to 120"]),
    ({"fps": float("nan")}, ["fps is nan"]),
    ({"fps": float("inf")}, ["fps is inf"]),
    ({"fps": 10**400}, ["fps is 1000"]),
    ({"fps": True}, ["fps is True"]),
    ({"base": None}, ["base is None", "Sampling"]),
    ({"base": "ddim"}, ["base is 'ddim'", "Sampling"]),
    ({"interpolation": True}, ["interpolation is True", "Interpolation"]),
    ({"super_resolution": Sampling()}, ["super_resolution is Sampling(", "SuperResolution"]),
]


@pytest.mark.parametrize(("values", "said"), REFUSED, ids=lambda v: str(v)[:40] if isinstance(v, dict) else "")
def test_a_value_outside_its_limits_is_refused_in_one_line_that_names_it(values, said):
    with pytest.raises(RequestError) as caught:
        Request(**{"prompt": "a red star", **values})
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sampler": "heun"}, ["'heun'", *SAMPLERS]),
        ({"sampler": ["ddim"]}, ["['ddim']"]),
        ({"steps": 0}, ["steps is 0", "from 1 to 1000"]),
        ({"steps": -5}, ["steps is -5"]),
        ({"steps": 1001}, ["steps is 1001"]),
        ({"steps": 2.5}, ["steps is 2.5", "whole number"]),
        ({"guidance": -0.1}, ["guidance is -0.1"]),
        ({"guidance": float("nan")}, ["guidance is nan"]),
        ({"guidance": "7"}, ["guidance is '7'"]),
        ({"rescale": 1.5}, ["rescale is 1.5", "from 0 to 1"]),
        ({"rescale": None}, ["rescale is None"]),
    ],
)
def test_sampling_refuses_what_no_stage_can_run(values, said):
    with pytest.raises(RequestError) as caught:
        Sampling(**values)
    assert all(part in str(caught.value) for part in said), caught.value


@pytest.mark.parametrize("kind", [Interpolation, SuperResolution])
def test_a_windowed_stage_refuses_the_sampler_that_draws_noise_at_every_step(kind):
    with pytest.raises(RequestError, match=r"cannot use the sampler 'ddpm'.*choose one of ddim, euler, dpm\+\+, unipc"):
        kind(Sampling("ddpm"))


@pytest.mark.parametrize("kind", [Interpolation, SuperResolution])
@pytest.mark.parametrize("sampling", [None, "ddim", {"sampler": "ddim"}])
def test_a_stage_refuses_a_sampling_of_another_type(kind, sampling):
    with pytest.raises(RequestError, match="sampling is"):
        kind(sampling)


@pytest.mark.parametrize("level", [-1, 351, 10.5, True])
def test_super_resolution_limits_its_noise_level(level):
    with pytest.raises(RequestError, match=f"noise_level is {level}: give a whole number from 0 to 350"):
        SuperResolution(noise_level=level)


def test_the_ends_of_every_range_are_allowed():
    Request(prompt="x" * MAX_PROMPT, seed=0, width=8, height=MAX_SIZE, frames=1, fps=1)
    Request(prompt="x", seed=MAX_SEED, width=MAX_SIZE, height=8, frames=MAX_FRAMES, fps=120)
    Sampling("ddpm", 1, 0.0, 0.0)
    Sampling("ddpm", 1000, 50.0, 1.0)
    SuperResolution(noise_level=0)
    SuperResolution(noise_level=350)


def test_the_largest_seed_is_the_largest_integer_javascript_keeps():
    assert MAX_SEED == 2**53 - 1 == 9007199254740991
    assert int(float(MAX_SEED)) == MAX_SEED


def test_a_refused_request_is_caught_by_the_root_and_as_a_value_error():
    assert issubclass(RequestError, LavieError)
    assert issubclass(RequestError, ValueError)


@pytest.mark.parametrize("request_", [FULL, Request(prompt="a red star"), replace(FULL, interpolation=None)])
def test_json_gives_back_an_equal_request_on_one_line(request_):
    text = request_.to_json()
    assert Request.from_json(text) == request_
    assert hash(Request.from_json(text)) == hash(request_)
    assert "\n" not in text


def test_json_says_its_schema_first_and_leaves_an_absent_stage_null():
    data = json.loads(Request(prompt="a red star").to_json())
    assert next(iter(data)) == "schema"
    assert data["schema"] == SCHEMA_VERSION
    assert data["interpolation"] is None
    assert data["super_resolution"] is None


def test_fields_that_json_does_not_name_take_their_defaults():
    text = json.dumps({"schema": 1, "prompt": "a red star", "interpolation": {"sampling": {"steps": 8}}})
    expected = Request(prompt="a red star", interpolation=Interpolation(Sampling(steps=8)))
    assert Request.from_json(text) == expected


def _json(**changes) -> str:
    return json.dumps({"schema": 1, "prompt": "a red star", **changes})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", ["not the JSON of a request", "to_json"]),
        ("", ["not the JSON of a request"]),
        ('{"schema": 1, "prompt": "a"', ["not the JSON of a request"]),
        ('{"schema": 1, "prompt": "a", "seed": ' + "9" * 5000 + "}", ["not the JSON of a request"]),
        ("[" * 100_000, ["not the JSON of a request"]),
        ("[1, 2]", ["[1, 2] is not a JSON object"]),
        ("null", ["None is not a JSON object"]),
        ('{"prompt": "a red star"}', ["schema None"]),
        (_json(schema=2), ["schema 2", "reads 1", "use the version that wrote it"]),
        (_json(schema="1"), ["schema '1'"]),
        (_json(schema=True), ["schema True"]),
        (_json(colour="red", speed=3), ["Request has no field 'colour', 'speed'", "remove it"]),
        (_json(base={"cfg": 7}), ["Sampling has no field 'cfg'"]),
        (_json(interpolation={"sampling": {"sampler": "x"}}), ["sampler is 'x'"]),
        ('{"schema": 1}', ["Request lacks prompt", "add it"]),
        (_json(base=None), ["base is None"]),
        (_json(base="ddim"), ["Sampling is a JSON object, not 'ddim'"]),
        (_json(base=[]), ["Sampling is a JSON object, not []"]),
        (_json(interpolation=5), ["Interpolation is a JSON object, not 5"]),
        (_json(interpolation=False), ["Interpolation is a JSON object, not False"]),
        (_json(interpolation={"sampling": None}), ["sampling is None"]),
        (_json(super_resolution={"sampling": 3}), ["Sampling is a JSON object, not 3"]),
        (_json(seed=True), ["seed is True"]),
        (_json(prompt=["a"]), ["prompt is ['a']"]),
        ('{"schema": 1, "prompt": "a", "fps": NaN}', ["fps is nan"]),
        ('{"schema": 1, "prompt": "a", "fps": 1e999}', ["fps is inf"]),
        (r'{"schema": 1, "prompt": "\ud800"}', ["prompt"]),
    ],
    ids=lambda v: v[:40] if isinstance(v, str) else "",
)
def test_json_that_is_no_request_is_refused_in_one_line_that_says_why(text, said):
    with pytest.raises(RequestError) as caught:
        Request.from_json(text)
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert "\n" not in message
    assert len(message) < 1000


def test_nothing_but_data_of_the_schema_goes_into_json():
    """Written out, so that a change of the format is noticed and given a new version."""
    assert json.loads(FULL.to_json()) == {
        "schema": 1,
        "prompt": FULL.prompt,
        "negative_prompt": "blur",
        "seed": MAX_SEED,
        "width": 96,
        "height": 64,
        "frames": 16,
        "fps": 7.5,
        "base": {"sampler": "unipc", "steps": 25, "guidance": 7.5, "rescale": 0.25},
        "interpolation": {"sampling": {"sampler": "ddim", "steps": 50, "guidance": 4.0, "rescale": 0.0}},
        "super_resolution": {
            "sampling": {"sampler": "dpm++", "steps": 20, "guidance": 5.0, "rescale": 0.0},
            "noise_level": 50,
        },
    }


def test_a_request_knows_its_stages_in_order_and_how_each_is_denoised():
    assert Request("x").stages == ("base",) and ALONE.stages == ("base", "super_resolution")
    assert FULL.stages == STAGES == (BASE, INTERPOLATION, SUPER_RESOLUTION)
    assert [FULL.sampling(stage).sampler for stage in FULL.stages] == ["unipc", "ddim", "dpm++"]
    assert ALONE.sampling(SUPER_RESOLUTION) == Sampling("ddim")
