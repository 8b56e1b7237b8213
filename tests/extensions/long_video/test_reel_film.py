"""A film of clips with bridges between them: what is kept, what an exchange makes anew, and the stages behind it."""

import itertools
from dataclasses import replace

import pytest
import torch

from extensions.long_video.base_frames import SegmentDone
from extensions.long_video.join_plan import JoinPlan, SourceClip, Transition
from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.plan import CONDITIONED, CORRECTED, REPAINT
from extensions.long_video.resolve import resolve_plan
from lavie import vae
from lavie.errors import RequestError
from lavie.events import INTERPOLATION, STAGES, SUPER_RESOLUTION, StageDone, StageStarted, Step
from tests.cascades import request
from tests.extensions.long_video.films import LATENTS, PROVENANCE, Memory, finished, frame_hash
from tests.extensions.long_video.test_film_memory import EVERY, Disk, storage_alive

SLOWLY = pytest.param(True, False, marks=pytest.mark.slow)
LENGTHS = (6, 1, 3, 4)  # a clip longer than the window of 4, a picture, a short clip


def clip(frames: int, seed: int) -> torch.Tensor:
    return torch.randn(1, LATENTS[0], frames, *LATENTS[1:], generator=torch.Generator().manual_seed(seed))


CLIPS = [clip(frames, seed) for seed, frames in enumerate(LENGTHS)]


def reel_of(clips=CLIPS, frames=2, **values) -> JoinPlan:
    shots = tuple(SourceClip(f"clip {number}", latents.shape[2]) for number, latents in enumerate(clips))
    between = tuple(Transition(f"a {colour} star", frames) for colour in ("red", "blue", "green")[: len(clips) - 1])
    return JoinPlan(shots, between, **{"window": 4, **values})


def film(cascade, reel=None, clips=CLIPS, kept=None, asked=None) -> LongVideoPipeline:
    resolved = cascade.resolve(asked or request(True, True))
    reel = resolve_plan(cascade, resolved, reel or reel_of(clips))
    readers = [lambda latents=latents: latents for latents in clips]
    kept = Memory() if kept is None else kept
    return LongVideoPipeline(cascade, resolved, reel, None, kept, PROVENANCE, clips=readers)


def test_the_video_is_the_clips_frame_for_frame_with_new_ones_between(tiny_cascade):
    made = film(tiny_cascade, asked=request())
    for _ in made.make():
        pass
    frames = list(made.frames())
    assert made.shape == (len(frames), *frames[0].shape) == (20, 16, 32, 3)  # 6 + 2 + 1 + 2 + 3 + 2 + 4
    assert made.fps == 8 and made.joins == [6, 8, 9, 11, 14, 16]
    latents = made.latents("base")
    assert torch.equal(latents.read(range(6)), CLIPS[0]) and torch.equal(latents.read(range(11, 14)), CLIPS[2])
    with tiny_cascade.residency.on_device("vae") as autoencoder:
        expected = [vae.to_uint8(frame.detach())[0].numpy() for frame in vae.decode(autoencoder, CLIPS[0])]
    assert all((a == b).all() for a, b in zip(expected, frames, strict=False))


@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED, REPAINT])
def test_every_step_is_told_and_each_bridge_when_it_is_kept(extending, strategy):
    kept = Memory()
    made = film(extending, reel_of(strategy=strategy), kept=kept)
    told, steps = [], {}
    for event in made.make():
        if isinstance(event, StageStarted):
            steps[event.stage] = [event.steps]
        elif isinstance(event, Step):
            steps[event.stage].append((event.index, event.steps))
        elif isinstance(event, SegmentDone):
            told.append(event.number)
            assert kept[made.keys[event.number]].latents is event.latents
            assert event.facts["frames"] == 2 and event.facts["seed"] == 7 + event.number
        elif isinstance(event, StageDone):
            assert event.latents is None
    assert told == [0, 1, 2]
    for total, *counted in steps.values():
        assert counted == [(index, total) for index in range(1, total + 1)]
    parts = [(part.stage, part.number) for part in kept.values()]
    windows = [(stage, number) for stage in STAGES[1:] for number in range(len(made.window_keys(stage)))]
    assert parts == [("base", 0), ("base", 1), ("base", 2), *windows]


def test_what_is_left_open_is_decided_once(tiny_cascade, extending):
    asked = tiny_cascade.resolve(request(negative_prompt="a blue circle"))
    reel = resolve_plan(tiny_cascade, asked, reel_of())
    assert (reel.strategy, reel.seed, reel.negative_prompt, reel.window) == (CORRECTED, 7, "a blue circle", 4)
    assert resolve_plan(tiny_cascade, asked, reel) == reel
    assert resolve_plan(extending, asked, reel_of()).strategy == CONDITIONED
    with pytest.raises(RequestError, match="a transition of 8 frames cannot be made at once: give 1 to 2"):
        resolve_plan(tiny_cascade, asked, reel_of(frames=8, window=16))


def stops(made: LongVideoPipeline) -> list[int]:
    """The numbers of events right at which more is kept, and those behind."""
    counts = [0] + [made.store.written for _ in made.make()]
    grown = [number for number in range(1, len(counts)) if counts[number] > counts[number - 1]]
    return sorted({0, 1, *grown, *(number + 1 for number in grown)})


@pytest.mark.parametrize(("interpolate", "upscale"), [(False, False), (False, True), SLOWLY])
def test_wherever_it_is_stopped_the_same_frames_come_out_and_nothing_is_made_twice(tiny_cascade, interpolate, upscale):
    asked, clips = request(interpolate, upscale), CLIPS[:2] if upscale else CLIPS
    whole = film(tiny_cascade, clips=clips, asked=asked)
    places = stops(whole)
    expected = frame_hash(whole)
    for after in places:
        kept = Memory()
        events = film(tiny_cascade, clips=clips, kept=kept, asked=asked).make()
        for _ in range(after):
            next(events)
        events.close()
        assert finished(film(tiny_cascade, clips=clips, kept=kept, asked=asked)) == expected, after
        assert kept.written == len(kept) == len(whole.store), "a part was made twice, or one for nothing"


def test_an_exchanged_clip_makes_the_two_bridges_beside_it_anew(tiny_cascade):
    kept, asked = Memory(), request()
    before = film(tiny_cascade, kept=kept, asked=asked)
    finished(before)
    clips = [*CLIPS]
    clips[1] = clip(5, 9)
    after = film(tiny_cascade, clips=clips, kept=kept, asked=asked)
    assert [a == b for a, b in zip(before.keys, after.keys, strict=True)] == [False, False, True]
    kept.written = 0
    assert finished(after) == finished(film(tiny_cascade, clips=clips, asked=asked))
    assert kept.written == 2


def test_a_transition_makes_only_itself_anew(tiny_cascade):
    reel, asked = reel_of(), request()
    keys = film(tiny_cascade, reel, asked=asked).keys
    for changed in (Transition("a heart", 2), Transition("a blue star", 1), Transition("a blue star", 2, seed=3)):
        other = replace(reel, transitions=(reel.transitions[0], changed, reel.transitions[2]))
        found = film(tiny_cascade, other, asked=asked).keys
        assert [a == b for a, b in zip(keys, found, strict=True)] == [True, False, True]


def test_frames_that_no_bridge_sees_change_none(tiny_cascade):
    longer = [torch.cat([clip(3, 9), CLIPS[0]], dim=2), *CLIPS[1:]]
    asked = request()
    assert film(tiny_cascade, clips=longer, asked=asked).keys == film(tiny_cascade, asked=asked).keys


def test_every_value_that_decides_a_bridge_changes_its_key(tiny_cascade):
    reel, asked = reel_of(), request()
    reels = [reel, *(replace(reel, **one) for one in ({"seed": 1}, {"strategy": REPAINT}, {"strength": 0.5}))]
    films = [film(tiny_cascade, one, asked=asked) for one in reels]
    films += [film(tiny_cascade, reel, asked=request(negative_prompt="a heart"))]
    films += [film(tiny_cascade, reel, asked=replace(asked, base=replace(asked.base, steps=3)))]
    assert len({key for made in films for key in made.keys}) == 3 * len(films)


@pytest.mark.parametrize("moved", ["longer", "prompt"])
def test_a_window_is_known_by_the_frames_that_it_shows_and_their_prompts(tiny_cascade, moved):
    """A clip that lies elsewhere, or shows something else, is not what a kept window saw."""
    kept, clips, reel = Memory(), CLIPS, reel_of()
    finished(film(tiny_cascade, kept=kept, asked=request(True)))
    if moved == "longer":
        clips = [torch.cat([clip(2, 9), CLIPS[0]], dim=2), *CLIPS[1:]]
        reel = reel_of(clips)
    else:
        reel = replace(reel, shots=(reel.shots[0], replace(reel.shots[1], prompt="a heart"), *reel.shots[2:]))
    again = film(tiny_cascade, reel, clips, kept, request(True))
    assert finished(again) == finished(film(tiny_cascade, reel, clips, asked=request(True)))


def test_cuts_are_no_parts(tiny_cascade):
    reel = reel_of()
    reel = replace(reel, transitions=(Transition("", 0), reel.transitions[1], Transition("", 0)))
    made = film(tiny_cascade, reel, asked=request(False, True))
    finished(made)
    assert len(made.keys) == 1 and made.shape[0] == 16 and made.joins == [7, 9]
    kept = Memory()
    none = film(tiny_cascade, reel_of(frames=0), kept=kept, asked=request())
    assert none.shape[0] == 14 and none.joins == [] and finished(none) and not kept


@pytest.mark.parametrize(("stage", "interpolate", "upscale"), [(INTERPOLATION, True, False), (SUPER_RESOLUTION, 0, 1)])
def test_parts_that_are_lost_are_made_alone(tiny_cascade, stage, interpolate, upscale):
    kept, asked = Memory(), request(interpolate, upscale)
    made = film(tiny_cascade, kept=kept, asked=asked)
    expected = finished(made)
    lost = [made.keys[1], made.window_keys(stage)[0]]
    for key in lost:
        del kept[key]
    kept.written = 0
    assert finished(film(tiny_cascade, kept=kept, asked=asked)) == expected and kept.written == 2


def test_clips_that_are_not_what_the_reel_says_are_refused(tiny_cascade):
    asked = request()
    with pytest.raises(RequestError, match="3 clips are given for a video of 4: give one for each"):
        film(tiny_cascade, reel_of(), CLIPS[:3], asked=asked)
    with pytest.raises(RequestError, match=r"clip 2 has latents of shape .*, not of 1 frames"):
        finished(film(tiny_cascade, reel_of(), [CLIPS[0], clip(2, 1), *CLIPS[2:]], asked=asked))
    with pytest.raises(RequestError, match="the latents of clip 4 have the size"):
        finished(film(tiny_cascade, reel_of(), [*CLIPS[:3], torch.zeros(1, 4, 4, 4, 4)], asked=asked))
    kept = Memory()
    with pytest.raises(RequestError, match="are latents of shape"):
        small = [torch.zeros(1, 4, frames, 1, 1) for frames in LENGTHS]
        list(film(tiny_cascade, reel_of(), small, kept, asked).make())
    assert not kept


def peaks(cascade, count: int) -> tuple[int, int]:
    """The most bytes of tensors at any event or frame, and the most of parts that were read."""
    asked, disk = cascade.resolve(request(False, True)), Disk()
    reel = JoinPlan(
        tuple(SourceClip("x", 4) for _ in range(count)), (Transition("a red star", 2),) * (count - 1), window=4
    )
    reel = resolve_plan(cascade, asked, reel)
    clips = [lambda seed=seed: clip(4, seed) for seed in range(count)]
    made = LongVideoPipeline(cascade, asked, reel, None, disk, PROVENANCE, clips=clips)
    passing = itertools.chain(made.make(), made.frames())
    return max(storage_alive() for number, _ in enumerate(passing) if number % EVERY == 0), disk.peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_clips(tiny_cascade):
    peaks(tiny_cascade, 2)  # networks are loaded, and whatever else is made once
    short, long = peaks(tiny_cascade, 12), peaks(tiny_cascade, 36)
    assert long[0] <= 1.05 * short[0] and long[1] <= 1.05 * short[1]
