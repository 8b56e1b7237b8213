"""The cheapest mode that fits; what a mode may be; where to go on when memory runs out."""

import json

import pytest

from lavie.errors import RequestError
from lavie.memory_mode import DECODING, MODEL, NONE, PLAIN, SEQUENTIAL, MemoryMode, modes_from_dict, modes_to_dict
from lavie.memory_plan import Part, Shape, Work, choose_modes, needed, next_mode, predict
from lavie.residency import choose_offload

UNET = {
    "_class_name": "SuperResolutionUNet",
    "block_out_channels": [256, 512, 512, 1024],
    "layers_per_block": 2,
    "in_channels": 7,
    "out_channels": 4,
    "cross_attention_dim": 1024,
    "down_block_types": ["DownBlock3D"] + ["CrossAttnDownBlock3D"] * 3,
    "up_block_types": ["CrossAttnUpBlock3D"] * 3 + ["UpBlock3D"],
}
AUTOENCODER = {"block_out_channels": [128, 256, 512], "_class_name": "AutoencoderKL"}
NETWORK, DECODER = Part(UNET, 691_036_436, 2), Part(AUTOENCODER, 55_300_000, 2)
TEXT = Part({"hidden_size": 1024, "vocab_size": 49408}, 340_000_000, 2)
ENLARGE = Work(NETWORK, Shape(1, 8, 320, 512), True, DECODER, (40, 64), TEXT)
BASE = Work(NETWORK, Shape(1, 16, 40, 64), True, text=TEXT)
DECODE = Work(decoder=DECODER, latents=(320, 512))
WORKS = {"base": BASE, "super_resolution": ENLARGE, DECODING: DECODE}
RESIDENT = 6 * 2**30
EVERYTHING = [MemoryMode(t, h, o) for o in (NONE, MODEL, SEQUENTIAL) for t in (None, 1024, 512) for h in (False, True)]


@pytest.mark.parametrize("values", [{"tile": 0}, {"tile": 63}, {"tile": 100}, {"tile": 64.0}, {"tile": 8256}])
@pytest.mark.parametrize("also", [{}, {"offload": MODEL}])
def test_a_piece_has_limits(values, also):
    with pytest.raises(RequestError, match="tile is "):
        MemoryMode(**values, **also)


@pytest.mark.parametrize(
    ("values", "said"), [({"split_guidance": 1}, "halves is 1"), ({"offload": "away"}, "choose one of")]
)
def test_other_values_of_a_mode_have_limits_too(values, said):
    with pytest.raises(RequestError, match=said):
        MemoryMode(**values)


@pytest.mark.parametrize("mode", EVERYTHING)
def test_a_mode_survives_json(mode):
    assert modes_from_dict(json.loads(json.dumps(modes_to_dict({"base": mode})))) == {"base": mode}


def test_a_mode_is_stored_by_the_names_that_old_recipes_have():
    stored = {"base": {"tile": 512, "halves": True, "offload": "model"}}
    assert modes_to_dict({"base": MemoryMode(512, True, MODEL)}) == stored
    assert modes_from_dict({"base": {"halves": True}}) == {"base": MemoryMode(split_guidance=True)}


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"base": {"split_guidance": True}},
        {"upscale": {}},
        {"base": []},
        {"base": {"tiles": 64}},
        {"base": {"tile": "64"}},
        {"base": {"halves": None}},
    ],
    ids=str,
)
def test_what_a_stranger_wrote_as_modes_is_refused(data):
    with pytest.raises(RequestError):
        modes_from_dict(data)


def test_with_all_the_memory_there_is_everything_runs_at_once():
    for free in (None, 80 * 10**9):
        plan = choose_modes(free, WORKS, RESIDENT, "bfloat16")
        assert set(plan.modes.values()) == {PLAIN} and plan.fits


@pytest.mark.parametrize("free", [6, 8, 12, 16, 24, 40, 80])
def test_what_is_planned_fits_and_no_cheaper_way_would(free):
    """Cheaper: what changes no result first, and layer by layer last of all."""
    free *= 10**9
    plan = choose_modes(free, WORKS, RESIDENT, "bfloat16")
    assert plan.fits
    for place, mode in plan.modes.items():
        assert plan.peaks[place] == predict(WORKS[place], mode, RESIDENT)
        assert needed(plan.peaks[place]) <= free
        if mode.offload == MODEL:
            assert needed(predict(WORKS[place], MemoryMode(mode.tile, mode.split_guidance), RESIDENT)) > free
        if mode.split_guidance:
            assert needed(predict(WORKS[place], MemoryMode(mode.tile, False, MODEL), RESIDENT)) > free
        if mode.tile:
            assert needed(predict(WORKS[place], MemoryMode(None, True, MODEL), RESIDENT)) > free


def test_less_memory_never_means_a_larger_peak():
    peaks = [choose_modes(gb * 10**9, WORKS, RESIDENT, "bfloat16").peak for gb in (2, 4, 6, 8, 12, 16, 24, 40)]
    assert peaks == sorted(peaks)


def test_what_fits_nowhere_gets_the_smallest_and_says_so():
    plan = choose_modes(10**9, WORKS, RESIDENT, "bfloat16")
    assert not plan.fits
    assert plan.modes["super_resolution"] == MemoryMode(512, True, SEQUENTIAL)


def test_of_a_recorded_mode_only_the_offloading_is_chosen_anew():
    fixed = {"super_resolution": MemoryMode(512, False, SEQUENTIAL), "base": PLAIN}
    plan = choose_modes(80 * 10**9, WORKS, RESIDENT, "bfloat16", fixed=fixed)
    assert plan.modes["super_resolution"] == MemoryMode(512, False, NONE)
    plan = choose_modes(4 * 10**9, WORKS, RESIDENT, "bfloat16", fixed=fixed)
    assert (plan.modes["base"].tile, plan.modes["base"].split_guidance) == (None, False)


def test_an_offload_that_a_person_chose_is_the_only_one():
    plan = choose_modes(8 * 10**9, WORKS, RESIDENT, "bfloat16", offloads=(NONE,))
    assert {mode.offload for mode in plan.modes.values()} == {NONE}


@pytest.mark.parametrize("work", [ENLARGE, DECODE, BASE])
def test_each_mode_needs_less_than_the_one_before(work):
    place = next(name for name, each in WORKS.items() if each is work)
    mode, climbed = PLAIN, [PLAIN]
    while (mode := next_mode(place, mode, work)) is not None:
        assert predict(work, mode, RESIDENT) <= predict(work, climbed[-1], RESIDENT)
        climbed.append(mode)
    pieces = [] if work is BASE else [MemoryMode(1024), MemoryMode(512)]
    halves = [] if work is DECODE else [MemoryMode(512 if pieces else None, True)]
    away = [MemoryMode(climbed[-1].tile, climbed[-1].split_guidance, kind) for kind in (MODEL, SEQUENTIAL)]
    assert climbed == [PLAIN, *pieces, *halves, *away]


def test_without_guidance_there_are_no_halves():
    work = Work(NETWORK, Shape(1, 16, 40, 64), False, text=TEXT)
    assert next_mode("base", PLAIN, work) == MemoryMode(offload=MODEL)
    assert next_mode("base", PLAIN, work, (NONE,)) is None


def test_pieces_as_large_as_the_frame_are_no_mode():
    small = Work(decoder=DECODER, latents=(64, 128))
    assert next_mode(DECODING, PLAIN, small) == MemoryMode(offload=MODEL)


@pytest.mark.parametrize(("free", "expected"), [(200, NONE), (199, MODEL), (120, MODEL), (119, SEQUENTIAL)])
def test_before_a_request_is_known_offloading_goes_by_the_weights(free, expected):
    assert choose_offload([60, 40], free) == expected


def test_a_mode_says_in_words_what_it_is():
    assert str(PLAIN) == "everything at once"
    assert (
        str(MemoryMode(512, True, MODEL))
        == "pieces of 512 pixels, the halves of guidance in turn, idle networks moved away"
    )
