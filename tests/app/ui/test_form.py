"""What a person fills in ↔ a request: both ways, and every value that is none."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest

from app.ui.create.form import BOUND, MAX_COUNT, Form
from lavie.errors import RequestError
from lavie.request import MAX_SEED, Interpolation, Request, Sampling, SuperResolution

FULL = Form(
    prompt="a red star",
    negative="blur",
    style="",
    seed="42",
    smooth=True,
    upscale=True,
    sampler="euler",
    steps=25,
    guidance=7.5,
    rescale=0.5,
    width=96,
    height=64,
    frames=16,
    fps=8.0,
    smooth_steps=8,
    upscale_steps=3,
    noise_level=20,
)
ASKED = Request(
    "a red star",
    "blur",
    seed=42,
    width=96,
    height=64,
    frames=16,
    fps=8.0,
    base=Sampling("euler", 25, 7.5, 0.5),
    interpolation=Interpolation(Sampling(steps=8)),
    super_resolution=SuperResolution(Sampling(steps=3), 20),
)
WHOLE = ("steps", "width", "height", "frames", "smooth_steps", "upscale_steps", "noise_level")
NUMBERS = (*WHOLE, "guidance", "rescale", "fps")
LONG = "a" * 100_000
HOSTILE = [
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    -1,
    2**53,
    10**400,
    "seven",
    "1e3",
    "0x10",
    LONG,
    "<b>",
    True,
    [1],
    {"a": 1},
]


def test_a_full_form_is_a_request_and_back():
    assert FULL.request() == ASKED
    assert Form.of(ASKED) == FULL


def test_an_empty_form_leaves_everything_to_the_model():
    form = Form("a red star")
    assert form.request() == Request("a red star")
    assert Form.of(Request("a red star")) == form
    assert replace(form, negative=None, style=None, seed=None, sampler=None).request() == Request("a red star")
    assert replace(form, **dict.fromkeys(NUMBERS, "")).request() == Request("a red star")


@pytest.mark.parametrize("name", NUMBERS)
def test_widgets_give_whole_numbers_as_floats(name):
    value = float(getattr(FULL, name))
    assert replace(FULL, **{name: value}).request() == ASKED


@pytest.mark.parametrize(("text", "value"), [("7.5", 7.5), ("7,5", 7.5), (" 7 ", 7), ("07", 7), ("  ", None)])
def test_numbers_may_be_texts(text, value):
    assert replace(FULL, guidance=text).request().base.guidance == value
    assert replace(FULL, guidance=text).preset()["guidance"] == value
    assert replace(FULL, **{name: str(getattr(FULL, name)) for name in NUMBERS}).request() == ASKED


def test_what_is_no_number_is_no_preset():
    with pytest.raises(RequestError, match="steps is 'many'"):
        replace(FULL, steps="many").preset()


def test_zero_is_a_value():
    made = replace(FULL, guidance=0, noise_level=0, rescale=0).request()
    assert (made.base.guidance, made.super_resolution.noise_level, made.base.rescale) == (0, 0, 0)
    for name in ("steps", "width", "frames", "fps"):
        with pytest.raises(RequestError, match=f"{name} is 0"):
            replace(FULL, **{name: 0}).request()


def test_what_later_stages_have_no_field_for_is_left_to_the_model():
    asked = replace(ASKED, interpolation=Interpolation(Sampling("ddim", 8, 1.0)))
    assert Form.of(asked).request() == ASKED


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_refused_by_name(name, value):
    with pytest.raises(RequestError, match=name) as caught:
        replace(FULL, **{name: value}).request()
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [5, 1.5, True, ["a"], {"a": 1}])
@pytest.mark.parametrize("name", ["prompt", "negative", "style", "seed"])
def test_what_is_no_text_is_refused_by_name(name, value):
    with pytest.raises(RequestError, match=name):
        replace(FULL, **{name: value}).request()


@pytest.mark.parametrize("seed", ["seven", "-1", "1.5", "1e3", "٣", "²", "0x10", "NaN", LONG, str(2**53), "1_000"])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(RequestError, match="seed is"):
        replace(FULL, seed=seed).request()


@pytest.mark.parametrize(("text", "seed"), [("", None), ("  ", None), (" 7 ", 7), ("0", 0), (str(MAX_SEED), MAX_SEED)])
def test_seeds_are_read(text, seed):
    assert replace(FULL, seed=text).request().seed == seed


@pytest.mark.parametrize("sampler", ["evil", LONG, 5, ["euler"]])
def test_unknown_samplers_are_refused(sampler):
    with pytest.raises(RequestError, match="sampler is") as caught:
        replace(FULL, sampler=sampler).request()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", [LONG, "\ud800"])
@pytest.mark.parametrize("name", ["prompt", "negative"])
def test_texts_that_no_file_can_hold_are_refused(name, text):
    with pytest.raises(RequestError, match=name):
        replace(FULL, **{name: text}).request()


@pytest.mark.parametrize(
    ("style", "prompt"),
    [
        ("oil painting", "a star, oil painting"),
        ("an oil painting of {prompt}, soft", "an oil painting of a star, soft"),
        ("{prompt} and {prompt}", "a star and a star"),
        ("{colour} {0} {{}} %s", "a star, {colour} {0} {{}} %s"),
        ("{", "a star, {"),
        ("   ", "a star"),
    ],
)
def test_styles_stand_around_the_prompt(style, prompt):
    assert Form("a star", style=style).request().prompt == prompt


def test_braces_in_a_prompt_are_not_filled_in():
    assert Form("{prompt} {0}", style="of {prompt}").request().prompt == "of {prompt} {0}"


def test_a_style_is_no_prompt():
    with pytest.raises(RequestError, match="prompt is empty"):
        Form("  ", style="oil painting").request()


def test_several_seeds_follow_the_one_that_is_given():
    assert [request.seed for request in replace(FULL, seed="7").requests(3)] == [7, 8, 9]
    assert [request.seed for request in replace(FULL, seed="").requests(3)] == [None] * 3
    assert FULL.requests() == FULL.requests(None) == FULL.requests(1.0) == [ASKED]


def test_each_line_is_a_prompt():
    form = Form(" a star \n\n  \na heart\r\na square", seed="5", style="soft")
    made = form.requests(2, each_line=True)
    assert [request.prompt for request in made] == [
        prompt for prompt in (" a star , soft", "a heart, soft", "a square, soft") for _ in range(2)
    ]
    assert [request.seed for request in made] == [5, 6] * 3
    assert len(form.requests(2)) == 2


def test_seeds_beyond_the_last_are_refused_all_together():
    with pytest.raises(RequestError, match="seed is"):
        replace(FULL, seed=str(MAX_SEED)).requests(2)


@pytest.mark.parametrize("count", [0, -1, MAX_COUNT + 1, 1.5, *HOSTILE[:4], 10**400, "two", True])
def test_numbers_of_videos_that_are_none_are_refused(count):
    with pytest.raises(RequestError, match=r"count|number of videos") as caught:
        FULL.requests(count)
    assert len(str(caught.value)) < 300


def test_prompts_times_seeds_are_bounded():
    with pytest.raises(RequestError, match="60 prompts × 2 are more than 100"):
        Form("a\n" * 60).requests(2, each_line=True)
    with pytest.raises(RequestError, match="prompt is empty"):
        Form(" \n ").requests(2, each_line=True)


def test_a_preset_holds_all_but_prompt_and_seed():
    kept = json.loads(json.dumps(FULL.preset()))
    assert set(kept) == set(Form.names()) - set(BOUND)
    other = Form("a heart", seed="1").with_preset(kept)
    assert other == replace(FULL, prompt="a heart", seed="1")


@pytest.mark.parametrize("value", [*HOSTILE, None, "", False, 5], ids=lambda value: repr(value)[:20])
def test_presets_are_data_from_outside(value):
    """Whatever a preset holds, the widgets can show the form, and the request is made or refused."""
    form = FULL.with_preset({**dict.fromkeys(Form.names(), value), "of_a_later_version": value})
    assert (form.prompt, form.seed) == (FULL.prompt, FULL.seed)
    for field in fields(Form):
        shown, kind = getattr(form, field.name), type(field.default)
        number = type(shown) in (int, float) and abs(shown) <= 2**53 if kind is type(None) else False
        assert shown is None or isinstance(shown, kind) or number, field.name
    try:
        form.request()
    except RequestError as error:
        assert len(str(error)) < 500
