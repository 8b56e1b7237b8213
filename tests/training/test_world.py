"""The world shows what its captions say, holds back what it should, and films a clip at any rate and size."""

import itertools
import math

import numpy as np
import pytest

from lavie.training.world import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR,
    HELD_OUT_SHAPE,
    MOTIONS,
    SHAPES,
    Scene,
    Staging,
    Subject,
    random_scene,
    stage,
)

HEIGHT, WIDTH = 64, 96


def _staging(motion: str | None = None, seed: int = 0, shape: str = "square", **of_subject) -> Staging:
    subject = Subject(of_subject.pop("colour", "red"), shape, motion, of_subject.pop("size", None))
    return stage(Scene((subject,), "navy"), np.random.default_rng(seed))


def _mask(frames: np.ndarray, background: str = "navy") -> np.ndarray:
    """F H W, how much of a pixel the subject covers: 0 … 1."""
    colour, ground = (np.array(values[name]) for values, name in ((COLOURS, "red"), (BACKGROUNDS, background)))
    return ((frames - ground) @ (colour - ground)) / ((colour - ground) @ (colour - ground))


def _track(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The centroid's x and y in shares of the height, and the area in pixels, at each frame."""
    mask = _mask(frames)
    area = mask.sum((1, 2))
    y, x = np.mgrid[0 : frames.shape[1], 0 : frames.shape[2]] / frames.shape[1]
    return (mask * x).sum((1, 2)) / area, (mask * y).sum((1, 2)) / area, area


def test_the_palette_is_the_one_that_was_agreed():
    assert COLOURS == {
        "red": (220, 40, 40),
        "orange": (245, 140, 40),
        "yellow": (240, 210, 50),
        "green": (40, 180, 60),
        "blue": (50, 80, 220),
        "purple": (150, 60, 190),
        "pink": (245, 130, 180),
        "white": (240, 240, 240),
    }
    assert BACKGROUNDS == {
        "black": (15, 15, 20),
        "gray": (120, 120, 125),
        "navy": (20, 25, 80),
        "brown": (110, 70, 40),
        "teal": (20, 110, 110),
    }
    assert SHAPES == ("circle", "square", "triangle", "star", "heart")
    assert (HELD_OUT_COLOUR, HELD_OUT_SHAPE) == ("purple", "heart")


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (Scene((Subject("red", "star", "spinning"),), "navy"), "a red star spinning on a navy background"),
        (
            Scene((Subject("blue", "circle", "moving left", "small"),), "teal"),
            "a small blue circle moving left on a teal background",
        ),
        (Scene((Subject("pink", "heart"),), "black"), "a pink heart on a black background"),
        (
            Scene((Subject("red", "circle", "moving left"), Subject("blue", "square", "moving right")), "gray"),
            "a red circle moving left and a blue square moving right on a gray background",
        ),
    ],
)
def test_captions_read_as_agreed(scene, caption):
    assert scene.caption == caption


def test_a_still_is_silent_on_motion():
    assert (
        Scene((Subject("red", "star", "spinning", "big"),), "navy").still().caption
        == "a big red star on a navy background"
    )


def _scenes(count: int = 600, **options) -> list[Scene]:
    return [random_scene(np.random.default_rng(seed), **options) for seed in range(count)]


def test_video_never_shows_what_is_held_out():
    scenes = _scenes(two=0.5)
    assert not any(scene.held_out for scene in scenes)
    assert not any("purple" in scene.caption or "heart" in scene.caption for scene in scenes)


def test_stills_show_everything():
    scenes = _scenes(held_out=True)
    subjects = [subject for scene in scenes for subject in scene.subjects]
    assert {subject.colour for subject in subjects} == set(COLOURS)
    assert {subject.shape for subject in subjects} == set(SHAPES)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {subject.size for subject in subjects} == {None, "small", "big"}
    assert any(scene.held_out for scene in scenes)


def test_every_motion_is_filmed_and_a_circle_never_spins():
    subjects = [subject for scene in _scenes(two=0.5) for subject in scene.subjects]
    assert {subject.motion for subject in subjects} == set(MOTIONS)
    assert not any(subject.shape == "circle" and subject.motion == "spinning" for subject in subjects)


def test_shares_of_sizes_and_pairs_are_those_asked_for():
    assert {len(scene.subjects) for scene in _scenes(100)} == {1}
    assert {len(scene.subjects) for scene in _scenes(100, two=1.0)} == {2}
    assert 0.15 < np.mean([len(scene.subjects) == 2 for scene in _scenes(two=0.2)]) < 0.25
    assert {scene.subjects[0].size for scene in _scenes(100, sized=0.0)} == {None}


def test_a_scene_and_its_staging_depend_on_the_generator_alone():
    def film(seed):
        rng = np.random.default_rng(seed)
        return stage(random_scene(rng, two=0.5), rng).film(4, HEIGHT, WIDTH)

    np.random.seed(1)
    one = film(3)
    np.random.seed(2)
    assert np.array_equal(one, film(3))
    assert not np.array_equal(one, film(4))


@pytest.mark.parametrize(("frames", "height", "width"), [(16, 64, 96), (61, 64, 96), (1, 32, 48), (2, 256, 384)])
def test_frames_have_the_size_asked_for(frames, height, width):
    film = _staging("moving right").film(frames, height, width)
    assert film.shape == (frames, height, width, 3)
    assert film.dtype == np.uint8


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_same_clip_at_sixteen_and_at_sixty_one_frames_agrees_at_the_times_they_share(motion):
    for seed, shape in enumerate(SHAPES):
        staging = _staging(motion, seed, shape)
        few, many = staging.film(16, HEIGHT, WIDTH), staging.film(61, HEIGHT, WIDTH)
        assert np.array_equal(many[::4], few)


def test_the_same_clip_in_large_is_the_small_one_in_detail():
    staging = _staging("spinning", shape="star")
    small = staging.film(3, 64, 96).astype(float)
    large = staging.film(3, 256, 384).reshape(3, 64, 4, 96, 4, 3).mean((2, 4))
    assert np.abs(small - large).mean() < 1
    assert np.abs(small - large).max() < 80  # on an outline, of a contrast of 200


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_colours_are_exact_inside_a_shape_and_far_from_it(colour, background):
    for shape in SHAPES:
        staging = stage(Scene((Subject(colour, shape, None, "big"),), background), np.random.default_rng(1))
        (frame,) = staging.film(1, HEIGHT, WIDTH)
        x, y = (round(place * HEIGHT) for place in staging.placements[0].centre)
        assert tuple(frame[y, x]) == COLOURS[colour]
        corners = {tuple(frame[row, column]) for row, column in itertools.product((0, -1), repeat=2)}
        assert corners == {BACKGROUNDS[background]}


@pytest.mark.parametrize(
    ("motion", "axis", "sign", "length"),
    [
        ("moving right", 0, 1, 1.5),
        ("moving left", 0, -1, 1.5),
        ("moving up", 1, -1, 1.0),
        ("moving down", 1, 1, 1.0),
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_a_translation_goes_its_way_straight_across_half_the_frame(motion, axis, sign, length, seed):
    track = _track(_staging(motion, seed).film(16, HEIGHT, WIDTH))
    along, across, area = track[axis], track[1 - axis], track[2]
    assert np.all(sign * np.diff(along) > 0)
    assert sign * (along[-1] - along[0]) == pytest.approx(0.5 * length, rel=0.1)
    assert np.ptp(across) < 0.02
    assert np.ptp(area) < 0.05 * area.mean(), "it leaves the frame"


@pytest.mark.parametrize("seed", range(6))
def test_bouncing_goes_up_and_down_twice_and_nowhere_else(seed):
    x, y, _ = _track(_staging("bouncing", seed).film(61, HEIGHT, WIDTH))
    assert np.ptp(x) < 0.02
    assert np.ptp(y) > 0.35
    turns = np.sign(np.diff(y)[np.abs(np.diff(y)) > 1e-3])
    assert 3 <= np.count_nonzero(np.diff(turns)) <= 4


@pytest.mark.parametrize(("motion", "grows"), [("growing", True), ("shrinking", False)])
@pytest.mark.parametrize("shape", SHAPES)
def test_growing_and_shrinking_change_the_radius_by_two_and_a_half_or_more_in_place(motion, grows, shape):
    for seed in range(4):
        x, y, area = _track(_staging(motion, seed, shape).film(16, 128, 192))
        ratio = math.sqrt(area[-1] / area[0])
        assert (ratio if grows else 1 / ratio) >= 2.5
        assert np.all(np.diff(area) > 0) if grows else np.all(np.diff(area) < 0)
        assert np.ptp(x) < 0.06 and np.ptp(y) < 0.06


@pytest.mark.parametrize("seed", range(4))
def test_spinning_turns_half_a_turn_in_place(seed):
    """A triangle half a turn on is itself upside down: the first frame, mirrored through its centre, is the last."""
    staging = _staging("spinning", seed, "triangle", size="big")
    first, last = (staging.placements[0].outline(time) - staging.placements[0].centre for time in (0.0, 1.0))
    np.testing.assert_allclose(last, -first, atol=1e-9)
    quarter = staging.placements[0].outline(0.5) - staging.placements[0].centre
    assert np.allclose(quarter, first @ [[0, 1], [-1, 0]]) or np.allclose(quarter, first @ [[0, -1], [1, 0]])


def test_spins_and_bounces_start_both_ways():
    assert {_staging("spinning", seed).placements[0].turn for seed in range(20)} == {-1.0, 1.0}


@pytest.mark.parametrize(("size", "low", "high"), [("small", 0.2, 0.2), ("big", 0.3, 0.3), (None, 0.2, 0.3)])
def test_sizes_are_those_of_the_caption(size, low, high):
    radii = [_staging(None, seed, "circle", size=size).placements[0].radius for seed in range(50)]
    assert low <= min(radii) <= max(radii) <= high
    if size is None:
        assert max(radii) - min(radii) > 0.08


@pytest.mark.parametrize("motion", [*MOTIONS, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_single_subject_stays_within_the_frame_all_but_a_tip(motion, shape):
    for seed in range(8):
        placement = _staging(motion, seed, shape).placements[0]
        points = np.concatenate([placement.outline(time) for time in np.linspace(0, 1, 31)])
        assert points.min() > -0.13
        assert points[:, 0].max() < 1.63
        assert points[:, 1].max() < 1.13


def test_two_subjects_have_rooms_of_their_own():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        one, two = stage(random_scene(rng, two=1.0), rng).placements
        apart = [abs(a - b) for a, b in zip(one.centre, two.centre, strict=True)]
        assert max(apart) > 0.3
