"""The judge reads true clips as they were meant, tells wrong ones apart, and never learns what was asked for."""

import inspect
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lavie.training.judge import LEAST_FIT, NO_SHAPE, Reading, drop_unfit_shapes, matches, read
from lavie.training.world import BACKGROUNDS, COLOURS, MOTIONS, Scene, Subject, random_scene, stage

HEIGHT, WIDTH, SIGMA = 64, 96, 0.1 * 255


def _noisy(frames: np.ndarray, rng: np.random.Generator, sigma: float = SIGMA) -> np.ndarray:
    return (frames + rng.normal(0, sigma, frames.shape)).clip(0, 255).round().astype(np.uint8)


def _blurred(frames: np.ndarray) -> np.ndarray:
    """A Gaussian blur of one pixel, as a small autoencoder leaves it."""
    taps = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    taps /= taps.sum()
    for axis in (1, 2):
        frames = sum(tap * np.roll(frames, shift, axis) for tap, shift in zip(taps, range(-3, 4), strict=True))
    return frames


def _clip(seed: int, frames: int = 16, *, two: float = 0.0, still: bool = False, blur: bool = False):
    """A true scene of the world, and it filmed with noise."""
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, held_out=True, two=two)
    scene = scene.still() if still else scene
    film = stage(scene, rng).film(frames, HEIGHT, WIDTH)
    return scene, _noisy(_blurred(film) if blur else film, rng)


@lru_cache(maxsize=1)
def _judged() -> list[tuple[Scene, Reading]]:
    clips = (_clip(seed) for seed in range(150))
    return [(scene, read(frames)) for scene, frames in clips]


def _shares(judged: list[tuple[Scene, Reading]]) -> dict[str, float]:
    """How many of the clips are read right, attribute by attribute: 0 … 1."""
    rights = defaultdict(list)
    for scene, reading in judged:
        for name, right in matches(scene, reading).items():
            rights[name].append(right)
    return {name: float(np.mean(right)) for name, right in rights.items()}


def _one(shape: str = "square", motion: str | None = None, seed: int = 0, *, frames: int = 16, **of_subject) -> Reading:
    subject = Subject(of_subject.pop("colour", "red"), shape, motion, **of_subject)
    return read(stage(Scene((subject,), "navy"), np.random.default_rng(seed)).film(frames, HEIGHT, WIDTH))


def test_true_noisy_clips_are_read_as_they_were_meant():
    shares = _shares(_judged())
    assert shares["colour"] >= 0.99
    assert shares["background"] >= 0.99
    assert shares["shape"] >= 0.97
    assert shares["motion"] >= 0.98
    assert shares["all"] >= 0.95
    assert shares["size"] >= 0.97
    assert shares["count"] >= 0.99


@pytest.mark.slow
def test_a_mild_blur_changes_little():
    shares = _shares([(scene, read(frames)) for scene, frames in (_clip(s, blur=True) for s in range(400, 460))])
    assert min(shares.values()) >= 0.96, shares


def test_stills_are_read_and_their_motion_is_not_judged():
    judged = [(scene, read(frames)) for scene, frames in (_clip(seed, 1, still=True) for seed in range(150))]
    shares = _shares(judged)
    assert "motion" not in shares
    assert min(shares.values()) >= 0.97, shares
    assert all(reading.still and reading.subjects[0].motion is None for _, reading in judged)
    moving = Scene((replace(judged[0][0].subjects[0], motion="growing"),), judged[0][0].background)
    assert "motion" not in matches(moving, judged[0][1])


@pytest.mark.parametrize("seed", range(5))
def test_a_clip_in_which_nothing_moves_has_no_motion(seed):
    scene, frames = _clip(seed, still=True)
    reading = read(frames)
    assert not reading.still
    assert reading.subjects[0].motion is None
    for motion in MOTIONS:
        moving = Scene((replace(scene.subjects[0], motion=motion),), scene.background)
        assert matches(moving, reading)["motion"] is matches(moving, reading)["all"] is False


@pytest.mark.slow
def test_two_subjects_are_read_each_for_itself():
    judged = [(scene, read(frames)) for scene, frames in (_clip(seed, two=1.0) for seed in range(100))]
    shares = _shares(judged)
    assert min(shares.values()) >= 0.95, shares
    alike = [pair for pair in judged if len({s.colour for s in pair[0].subjects}) == 1]
    assert len(alike) >= 5
    assert _shares(alike)["all"] >= 0.8


def test_what_one_subject_has_does_not_pass_for_the_other():
    red, blue = Subject("red", "circle", "moving left"), Subject("blue", "square", "moving right")
    true = Scene((red, blue), "gray")
    reading = read(stage(true, np.random.default_rng(3)).film(16, HEIGHT, WIDTH))
    assert all(matches(true, reading).values())
    assert all(matches(Scene((blue, red), "gray"), reading).values())
    crossed = matches(Scene((replace(red, motion=blue.motion), replace(blue, motion=red.motion)), "gray"), reading)
    assert crossed == {**matches(true, reading), "motion": False, "all": False}
    assert matches(Scene((red,), "gray"), reading)["count"] is False
    lone = _one("circle", "moving left")
    assert not any(matches(true, lone).values()), "one of two is missing"


@pytest.mark.parametrize("size", ["small", "big"])
@pytest.mark.parametrize("motion", [*MOTIONS, None])
def test_the_size_is_told(size, motion):
    for shape in ("circle", "star", "triangle"):
        if not (shape == "circle" and motion == "spinning"):
            assert _one(shape, motion, size=size).subjects[0].size == size


def test_another_caption_does_not_match():
    judged = _judged()
    shuffled = [(judged[i - 1][0], reading) for i, (_, reading) in enumerate(judged)]
    shares = _shares(shuffled)
    assert shares["colour"] < 0.25
    assert shares["shape"] < 0.35
    assert shares["motion"] < 0.25
    assert shares["background"] < 0.35
    assert shares["all"] < 0.03


@pytest.mark.parametrize(
    ("name", "wrong"), [("colour", "pink"), ("shape", "circle"), ("motion", "moving left"), ("size", "small")]
)
def test_one_wrong_word_is_told_apart(name, wrong):
    subject = Subject("red", "star", "spinning", "big")
    reading = _one("star", "spinning", size="big")
    assert all(matches(Scene((subject,), "navy"), reading).values())
    answer = matches(Scene((replace(subject, **{name: wrong}),), "navy"), reading)
    assert [key for key, right in answer.items() if not right] == ([name] if name == "size" else [name, "all"])
    assert matches(Scene((subject,), "black"), reading)["background"] is False


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("frames", [1, 16])
def test_blank_frames_show_a_background_and_nothing_else(background, frames):
    blank = np.full((frames, HEIGHT, WIDTH, 3), BACKGROUNDS[background], np.uint8)
    for shown in (blank, _noisy(blank, np.random.default_rng(0))):
        reading = read(shown)
        assert (reading.background, reading.subjects) == (background, ())
    answer = matches(Scene((Subject("red", "star", "spinning"),), background), reading)
    assert [name for name, right in answer.items() if right] == ["background"]


def test_pure_noise_and_a_border_in_a_subjects_colour_match_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (16, HEIGHT, WIDTH, 3)).astype(np.uint8)
    reading = read(noise)
    assert not any(matches(scene, reading)["all"] for scene, _ in _judged())
    assert read(np.full((4, HEIGHT, WIDTH, 3), COLOURS["yellow"], np.uint8)).background is None


@pytest.mark.parametrize(("frames", "height", "width"), [(61, 64, 96), (8, 64, 96), (16, 32, 48), (16, 250, 380)])
def test_any_size_and_length_will_do(frames, height, width):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        scene = random_scene(rng, held_out=True)
        film = stage(scene, rng, width / height).film(frames, height, width)
        assert all(matches(scene, read(film)).values()), scene.caption


def test_a_subject_that_goes_away_half_way_is_still_read():
    frames = stage(Scene((Subject("red", "star", "moving right"),), "navy"), np.random.default_rng(0)).film(16, 64, 96)
    frames[9:] = BACKGROUNDS["navy"]
    (subject,) = read(frames).subjects
    assert (subject.colour, subject.shape, subject.motion) == ("red", "star", "moving right")


def test_the_judge_is_not_told_what_was_asked_for():
    assert list(inspect.signature(read).parameters) == ["frames"]
    _, frames = _clip(7)
    before = frames.copy()
    assert read(frames) == read(frames.copy())
    assert np.array_equal(frames, before)


@pytest.mark.parametrize("kind", [{}, {"blur": True}, {"two": 1.0}])
def test_true_noisy_clips_fit_their_outlines(kind):
    clips = (_clip(seed, **kind) for seed in range(600, 660))
    outlines = [outline for _, frames in clips for outline in read(frames).outlines]
    assert np.mean([outline.fit >= LEAST_FIT for outline in outlines]) >= 0.97


def _melted() -> np.ndarray:
    """A star that moves right, two of whose arms have run into one."""
    angles, radii = np.arange(10) * np.pi / 5, np.resize([1.1, 0.5], 10)
    radii[1], radii[4:6] = 1.0, (0.45, 0.9)
    corners = 16 * np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)
    frames = []
    for left in np.linspace(24, 72, 16):
        image = Image.new("RGB", (96, 64), BACKGROUNDS["navy"])
        ImageDraw.Draw(image).polygon((corners + (left, 32)).ravel().tolist(), fill=COLOURS["red"])
        frames.append(np.asarray(image))
    return np.stack(frames)


def test_a_blob_has_no_shape_and_a_reading_keeps_all_else():
    reading = read(_melted())
    strict = drop_unfit_shapes(reading)
    assert strict.subjects[0].shape == NO_SHAPE
    assert strict.subjects[0] == replace(reading.subjects[0], shape=NO_SHAPE)
    scene = Scene((Subject("red", reading.subjects[0].shape, "moving right"),), "navy")
    assert matches(scene, reading)["all"]
    assert not matches(scene, strict)["all"] and matches(scene, strict)["motion"]


def test_what_keeps_its_shape_wobbles_less_than_what_changes_it():
    true = [read(_clip(seed)[1]) for seed in range(30)]
    told = [reading.wobble for reading in true if reading.wobble is not None]
    assert len(told) > 20 and np.mean(told) < 0.08
    frames = stage(Scene((Subject("red", "star", "moving right"),), "navy"), np.random.default_rng(0)).film(16, 64, 96)
    other = stage(Scene((Subject("red", "square", "moving right"),), "navy"), np.random.default_rng(0))
    changing = frames.copy()
    changing[::2] = other.film(16, 64, 96)[::2]
    assert read(changing).wobble > 3 * read(frames).wobble


def test_a_turn_is_no_wobble():
    assert _one("star", "spinning").wobble is None
    assert _one("star", "growing").wobble is not None
