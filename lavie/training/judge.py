"""Reads back from frames what a clip of the procedural world shows: colours, shapes, motions, sizes, background.

`read` sees the frames alone, `matches` compares the reading with a prompt. Pixels that differ from the border's colour
are split by palette colour, then into connected parts, which are followed over time. A shape is the outline whose polar
picture leaves the least error; a motion is the strongest trend of place, area and angle. More than two subjects of a
colour, subjects that touch, and fast spins are not recognised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations, product

import numpy as np

from lavie.training.world import BACKGROUNDS, COLOURS, GROWTH, RADII, SHAPES, Placement, Scene, Staging, Subject

SMALLEST = 20  # pixels of a connected part, at 64 rows; anything less is noise
Palette = dict[str, tuple[int, int, int]]  # name → red, green and blue


def _label_parts(mask: np.ndarray) -> np.ndarray:
    """The connected parts of each frame of a mask F H W, numbered throughout (0: none), as F H W."""
    first = mask & ~np.pad(mask[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
    runs = first.cumsum().reshape(mask.shape) * mask
    one, two = (side[mask[:, 1:] & mask[:, :-1]] for side in (runs[:, 1:], runs[:, :-1]))  # runs that touch
    number = np.arange(runs.max() + 1)
    while (number[one] != number[two]).any():
        lower = np.minimum(number[one], number[two])
        np.minimum.at(number, number[one], lower)
        np.minimum.at(number, number[two], lower)
        number = number[number]
    return number[runs]


def follow_subjects(mask: np.ndarray) -> list[np.ndarray]:
    """The masks F H W of a colour's one or two subjects: the largest part of each frame or, where two are there most of
    the time, the two largest, each by its way (neither while they touch or one is gone)."""
    labels = _label_parts(mask)
    sizes = np.bincount(labels.ravel())
    y, x = (np.bincount(labels.ravel(), (labels > 0).ravel() * place.ravel()) for place in np.indices(mask.shape)[1:])
    places = np.stack([x, y], axis=1) / np.maximum(sizes, 1)[:, None]
    numbers = [np.unique(frame[frame > 0]) for frame in labels]
    found = [sorted(n[sizes[n] >= SMALLEST].tolist(), key=lambda i: -sizes[i])[:2] for n in numbers]
    if sum(len(f) == 2 for f in found) < max(1, 0.5 * sum(map(bool, found))):
        return [labels == np.array([f[0] if f else -1 for f in found])[:, None, None]]
    chosen, last = np.full((len(found), 2), -1), next(f for f in found if len(f) == 2)
    for moment, pair in enumerate(found):
        if len(pair) == 2:
            last = min(pair, pair[::-1], key=lambda p: np.linalg.norm(places[p] - places[last]))
            chosen[moment] = last
    return [labels == column[:, None, None] for column in chosen.T]


RINGS = np.linspace(0.35, 1.75, 12)  # of a polar picture, in units of the radius of the disc of the same area
TURNS = 60  # angles of a polar picture: a multiple of every outline's symmetry
LEAST_FIT = 0.93  # true clips are above it, noisy ones too


@dataclass(frozen=True)
class Outline:
    """How well an outline fits, and how steady it is.

    Args:
        fit: mean over the frames in which the subject is whole: 1 is the named shape, 0 as far as an empty picture.
        wobble: root mean square change of the polar picture from one frame to the next; None for a single frame.
    """

    fit: float
    wobble: float | None


def draw_polar(cover: np.ndarray, centre: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Pictures F rings angles, 0 … 1, of cover F H W about the centres F 2, scaled by the areas F; 0 outside."""
    turn = np.arange(TURNS) * 2 * np.pi / TURNS
    radius = np.sqrt(area / np.pi)[:, None, None] * RINGS[:, None]
    places = np.stack([np.sin(turn), np.cos(turn)])[:, None, None] * radius + centre.T[::-1, :, None, None]
    limits = np.array(cover.shape[1:])[:, None, None, None] + 1
    row, column = (places * cover.shape[1] + 1).astype(int).clip(0, limits)
    return np.pad(cover, ((0, 0), (1, 1), (1, 1)))[np.arange(len(cover))[:, None, None], row, column].clip(0, 1)


def likeness(pictures: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """F shapes turns: the products of pictures F rings angles with templates F shapes rings angles at every turn."""
    spectra = np.fft.rfft(pictures)[:, None] * np.fft.rfft(templates).conj() * RINGS[:, None]
    return np.fft.irfft(spectra.sum(2), TURNS)


def power(pictures: np.ndarray) -> np.ndarray:
    """The product of each picture … rings angles with itself."""
    return (np.square(pictures) * RINGS[:, None]).sum((-2, -1))


def fit_outline(pictures: np.ndarray, templates: np.ndarray, whole: np.ndarray) -> Outline:
    """pictures, templates: F rings angles, these of the shape that was found, upright. whole: F, in which frames the
    subject is seen as a whole; where it never is, all count."""
    counted = whole if whole.any() else np.ones_like(whole)
    shown, known = pictures[counted], templates[counted]
    most = likeness(shown, known[:, None]).max((1, 2))
    misfit = (power(shown) + power(known) - 2 * most) / power(known)
    together = counted[1:] & counted[:-1]
    change = np.square(np.diff(pictures, axis=0)[together]).mean() if together.any() else None
    return Outline(float(1 - misfit.mean()), None if change is None else float(np.sqrt(change)))


ROWS, MOMENTS = 64, 21  # what a clip is reduced to, about
CONTRAST = 40.0  # a pixel further than this from the background (of 255, over three channels) is no background
BLEND = 25.0  # a colour nearer than this to a mixture of another one and the background is that one's outline
SECOND_COLOUR = 0.06  # share of the inner pixels from which on a second colour is more than noise
LEAST = 0.12  # area of a second subject, as a share of the largest's: the world never goes below 0.2
NO_SHAPE = "no shape"  # of a subject whose outline fits none
FEWEST = 4  # moments from which on a motion can be told
TEMPLATE_RADII = np.array([0.11, 0.2, 0.3])  # of the outlines compared with, in heights: pixels blur the small ones
SYMMETRY = {"square": 4, "triangle": 3, "star": 5, "heart": 1}  # equal turns in a full one; a circle has no angle
ACROSS, DOWN, BOUNCE, SWELL = 0.375, 0.25, 0.225, float(np.log(GROWTH))  # the least that the world shows of each


@dataclass(frozen=True)
class Reading:
    """What frames show.

    Args:
        background: None where the border has a subject's colour.
        subjects: the largest first; `size` is None in between small and big, `motion` where none is seen.
        still: whether there are too few frames for a motion.
        outlines: of each subject.
    """

    background: str | None
    subjects: tuple[Subject, ...]
    still: bool
    outlines: tuple[Outline, ...] = ()

    @property
    def wobble(self) -> float | None:
        """The mean of the subjects that do not spin, since a turn changes the picture as well."""
        seen = zip(self.subjects, self.outlines, strict=True)
        told = [found.wobble for subject, found in seen if subject.motion != "spinning" and found.wobble is not None]
        return float(np.mean(told)) if told else None


@dataclass(frozen=True)
class _Body:
    """One subject followed over F moments; lengths in frame heights, NaN where it is not seen."""

    colour: str
    cover: np.ndarray  # F H W, how much of a pixel it covers: 0 … 1, and noise
    centre: np.ndarray  # F 2: x, y
    area: np.ndarray  # F
    whole: np.ndarray  # F bool: seen, and neither cut by the border nor beside another subject


def read(frames: np.ndarray) -> Reading:
    """Read one or more frames (uint8 F H W 3, any size)."""
    return read_by(COLOURS, frames)


def read_by(colours: Palette, frames: np.ndarray) -> Reading:
    """Read frames with subjects in the colours of another world."""
    picked = np.unique(np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int))
    times, still = picked / max(len(frames) - 1, 1), len(picked) < FEWEST
    video = _reduce(frames[picked])
    edges = (video[:, :3], video[:, -3:], video[:, :, :3], video[:, :, -3:])
    ground = np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)
    (name,) = _name_colours(ground[None], {**colours, **BACKGROUNDS})
    seen = [(body, *_find_shape(body)) for body in _find_bodies(_smooth(video), ground, colours)]
    motions = [_find_motion(times, *one[:3]) if (one[0].area > 0).sum() >= FEWEST else None for one in seen]
    radii = np.array([_measure_radius(times, body, shape) for body, shape, *_ in seen])
    sizes = _name_sizes(
        radii, np.array([np.nanmean(b.centre, axis=0) for b, *_ in seen]), video.shape[2] / video.shape[1]
    )
    subjects = [Subject(b.colour, s, *rest) for (b, s, *_), *rest in zip(seen, motions, sizes, strict=True)]
    outlines = tuple(found for *_, found in seen)
    return Reading(name if name in BACKGROUNDS else None, tuple(subjects), still, outlines)


def drop_unfit_shapes(reading: Reading) -> Reading:
    """The same with a shape only for those subjects whose outline fits: a blob is no heart."""
    seen = zip(reading.subjects, reading.outlines, strict=True)
    subjects = (subject if found.fit >= LEAST_FIT else replace(subject, shape=NO_SHAPE) for subject, found in seen)
    return replace(reading, subjects=tuple(subjects))


def matches(scene: Scene, reading: Reading) -> dict[str, bool]:
    """Which attributes of `scene` the reading has right, each for all subjects at once.

    Keys: colour, shape, background, count, all (colour, shape, motion and background at once); and motion and size
    where the caption names one (motion never for stills). The scene is compared with as many of the largest subjects
    as it has, in the order that fits best; where one is missing, nothing of the subjects is right.
    """
    wanted, seen = scene.subjects, reading.subjects[: len(scene.subjects)]
    named = [n for n in ("motion", "size") if any(getattr(subject, n) for subject in wanted)]
    judged = ["colour", "shape", *(n for n in named if not (n == "motion" and reading.still))]

    def right(order: tuple[Subject, ...], name: str) -> int:
        pairs = zip(wanted, order, strict=False)  # fewer where some are missing
        return sum(getattr(want, name) in (None, getattr(got, name)) for want, got in pairs)

    best = max(permutations(seen), key=lambda order: sum(right(order, name) for name in judged))
    result = {name: right(best, name) == len(wanted) for name in judged}
    result["background"] = scene.background == reading.background
    result["all"] = all(value for name, value in result.items() if name != "size")
    return {**result, "count": len(wanted) == len(reading.subjects)}


def _reduce(frames: np.ndarray) -> np.ndarray:
    """float32 F H W 3 with about ROWS rows: means over blocks, or repeated pixels where there are few."""
    step, times = max(1, round(frames.shape[1] / ROWS)), max(1, round(ROWS / frames.shape[1]))
    count, height, width = len(frames), frames.shape[1] // step, frames.shape[2] // step
    rows = frames[:, : height * step].reshape(count, height, step, -1, 3).sum(2, dtype=np.float32)
    blocks = rows[:, :, : width * step].reshape(count, height, width, step, 3).sum(3) / step**2
    return blocks.repeat(times, axis=1).repeat(times, axis=2)


def _smooth(video: np.ndarray) -> np.ndarray:
    """F H W 3 blurred by ¼ ½ ¼ along rows and columns, as float32."""
    wide = np.pad(video.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = 0.5 * wide[:, 1:-1] + 0.25 * (wide[:, 2:] + wide[:, :-2])
    return 0.5 * rows[:, :, 1:-1] + 0.25 * (rows[:, :, 2:] + rows[:, :, :-2])


def _name_colours(pixels: np.ndarray, palette: Palette) -> list[str]:
    """The palette's names nearest to pixels N 3."""
    names, values = list(palette), np.array(list(palette.values()), np.float32)
    return [names[i] for i in np.square(pixels[:, None] - values).sum(2).argmin(1)]


def _dilate(mask: np.ndarray) -> np.ndarray:
    """A bool F H W mask and its neighbours up, down, left and right."""
    wide = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    return mask | wide[:, 2:, 1:-1] | wide[:, :-2, 1:-1] | wide[:, 1:-1, 2:] | wide[:, 1:-1, :-2]


def _unmix(pixels: np.ndarray, ground: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of the colour `value` in pixels … 3 on `ground`, and the squared distance from any such mixture."""
    line = value - ground
    share = (pixels - ground) @ (line / (line @ line))
    return share, np.square(pixels - ground - share.clip(0, 1)[..., None] * line).sum(-1)


def _find_colours(video: np.ndarray, ground: np.ndarray, palette: Palette) -> dict[str, np.ndarray]:
    """The names of the palette's colours that are shown, the most frequent first, each as measured (3,)."""
    pixels = video[~_dilate(np.square(video - ground).sum(-1) < CONTRAST**2)]
    nearest = np.array(_name_colours(pixels, palette))
    chosen = {name: pixels[nearest == name] for name in palette}
    found: dict[str, np.ndarray] = {}
    for name, own in sorted(chosen.items(), key=lambda item: -len(item[1])):
        if len(own) < max(SMALLEST / 2, SECOND_COLOUR * len(pixels)):
            break
        value = np.median(own, axis=0)
        if all(_unmix(value, ground, other)[1] > BLEND**2 for other in found.values()):
            found[name] = value
    return found


def _find_bodies(video: np.ndarray, ground: np.ndarray, palette: Palette) -> list[_Body]:
    """The subjects, the largest first, in smoothed frames F H W 3 on a background of the colour `ground` (3,)."""
    unmixed = {name: _unmix(video, ground, value) for name, value in _find_colours(video, ground, palette).items()}
    least = np.min([misfit for _, misfit in unmixed.values()], axis=0) if unmixed else None
    parts = []
    for name, (cover, misfit) in unmixed.items():
        parts += [(name, cover, mask) for mask in follow_subjects((cover > 0.5) & (misfit == least))]
    taken = np.sum([mask for *_, mask in parts], axis=0, dtype=int)
    kept: list[_Body] = []
    bodies = [_measure_body(name, cover, mask, taken > mask) for name, cover, mask in parts]
    enough = LEAST * max((np.nansum(body.area) for body in bodies), default=0)
    lasting = [body for body in bodies if np.mean(body.area > 0) > 0.4 and np.nansum(body.area) >= enough]
    for body in sorted(lasting, key=lambda b: -np.nansum(b.area)):
        gaps = [np.linalg.norm(body.centre - k.centre, axis=1) / np.sqrt(k.area / np.pi) for k in kept]
        if all(np.isnan(gap).all() or np.nanmedian(gap) > 0.8 for gap in gaps):  # else: two names for one subject
            kept.append(body)
    return kept


def _measure_body(colour: str, cover: np.ndarray, mask: np.ndarray, others: np.ndarray) -> _Body:
    """Measures one subject from its mask F H W; `others` is the mask of all other subjects."""
    near = _dilate(_dilate(mask))
    edges = mask[:, 0].any(1) | mask[:, -1].any(1) | mask[:, :, 0].any(1) | mask[:, :, -1].any(1)
    whole = ~edges & ~(near & others).any((1, 2))
    cover = np.where(near & ~others, cover, 0)
    area, height = cover.sum((1, 2)), cover.shape[1]
    area[(mask.sum((1, 2)) < SMALLEST) | (area <= 0)] = np.nan
    sums = [cover.sum(axis) @ (np.arange(cover.shape[3 - axis]) + 0.5) for axis in (1, 2)]
    return _Body(
        colour, cover, np.stack(sums, axis=1) / area[:, None] / height, area / height**2, whole & ~np.isnan(area)
    )


@lru_cache(maxsize=1)
def _draw_templates() -> tuple[np.ndarray, dict[str, float]]:
    """The world's outlines as polar pictures, radii shapes rings angles; and their areas at radius one."""
    pictures, areas = [], {}
    ground, colour = (np.array(value, np.float32) for value in (BACKGROUNDS["black"], COLOURS["white"]))
    for radius, shape in product(TEMPLATE_RADII, SHAPES):
        subject = Subject("white", shape)
        place = Placement(subject, (0.5, 0.5), (0.0, 0.0), radius, 0.0, 1.0)
        cover, _ = _unmix(_smooth(Staging(Scene((subject,), "black"), (place,)).film(1, ROWS, ROWS)), ground, colour)
        body = _measure_body("white", cover, cover > 0.5, cover > 2)
        pictures.append(draw_polar(body.cover, body.centre, body.area)[0])
        areas[shape] = float(body.area[0] / radius**2)
    return np.stack(pictures).reshape(len(TEMPLATE_RADII), len(SHAPES), len(RINGS), TURNS), areas


def _find_shape(body: _Body) -> tuple[str, np.ndarray, Outline]:
    """The outline that fits best over all frames, its angle where it is seen (radians clockwise), and how it fits."""
    seen = body.area > 0  # not NaN
    area, pictures = body.area[seen], draw_polar(body.cover[seen], body.centre[seen], body.area[seen])
    scale = np.abs(np.log(np.sqrt(area / 2)[:, None] / TEMPLATE_RADII)).argmin(1)
    templates = _draw_templates()[0][scale]  # F shapes rings angles
    alike = likeness(pictures, templates)
    error = power(templates) - 2 * alike.max(2)  # less the picture's own power
    best = int(((area * np.where(body.whole[seen], 1.0, 0.1)) @ error).argmin())
    angle = alike[:, best].argmax(1) * 2 * np.pi / TURNS
    return SHAPES[best], angle, fit_outline(pictures, templates[:, best], body.whole[seen])


def _find_motion(times: np.ndarray, body: _Body, shape: str, angle: np.ndarray) -> str | None:
    """The strongest trend, in units of what the world shows, or None where all are weak. `times` (F,) run 0 … 1."""
    seen = body.area > 0  # not NaN
    t, tracks = times[seen], np.column_stack([body.centre, 0.5 * np.log(body.area)])[seen]
    right, down, swell = np.polyfit(t, tracks, 1)[0]
    found = {
        "moving right" if right > 0 else "moving left": abs(right) / ACROSS,
        "moving down" if down > 0 else "moving up": abs(down) / DOWN,
        "growing" if swell > 0 else "shrinking": abs(swell) / SWELL,
        "bouncing": _measure_bounce(t, tracks[:, 1]) / BOUNCE,
        "spinning": _measure_turn(t, angle, SYMMETRY[shape]) / np.pi if shape in SYMMETRY else 0.0,
    }
    name = max(found, key=found.__getitem__)
    return name if found[name] > 0.5 else None


def _measure_bounce(times: np.ndarray, y: np.ndarray) -> float:
    """The height of two bounces, of any phase, in a track (F,); 0 where a straight line tells it nearly as well."""
    line = np.vander(times, 2)
    power, height = np.square(y - line @ np.linalg.lstsq(line, y, rcond=None)[0]).sum() / 2, 0.0
    for phase in np.arange(0, 1, 0.125):
        arcs = np.column_stack([line, -np.abs(np.sin(np.pi * (2 * times + phase)))])  # y points down
        fit = np.linalg.lstsq(arcs, y, rcond=None)[0]
        power, height = min((power, height), (np.square(y - arcs @ fit).sum(), max(0.0, float(fit[2]))))
    return height


def _measure_turn(times: np.ndarray, angle: np.ndarray, symmetry: int) -> float:
    """The steady turn (radians, without sign) of a track of angles (F,); 0 where there is none to be told."""
    turns = np.linspace(-np.pi, np.pi, 121) * min(1.5, 0.95 / symmetry / float(np.median(np.diff(times))))
    together = np.abs(np.exp(1j * symmetry * (angle - turns[:, None] * times)).mean(1))
    return float(abs(turns[together.argmax()])) if together.max() > 0.7 else 0.0


def _measure_radius(times: np.ndarray, body: _Body, shape: str) -> float:
    """The outline's radius in heights as the world counts it, at the middle of the clip."""
    trusted = body.whole if body.whole.sum() >= FEWEST else body.area > 0
    t, swell = times[trusted] - 0.5, np.log(body.area[trusted] / _draw_templates()[1][shape]) / 2
    return float(np.exp(np.polyfit(t, swell, 1)[1] if len(t) >= FEWEST else swell.mean()))


def _name_sizes(radii: np.ndarray, centres: np.ndarray, aspect: float) -> list[str | None]:
    """small, big or None (in between) for each of S radii, centres S 2. Of two, the world makes those smaller that
    share the frame as an upper and a lower half: how far are places and radii from either layout?"""
    least, most = RADII["small"], RADII["big"]
    if len(radii) == 2:
        off = np.abs(np.sort(centres, axis=0) - np.array([[0.25], [0.75]]) * (aspect, 1)).max(0) / (0.18, 0.1)
        off += [np.abs(r - r.clip(least, most)).max() / 0.02 for r in (radii, radii / 0.75)]
        radii = radii if off[0] < off[1] else radii / 0.75
    third = (most - least) / 3
    return ["small" if r < least + third else "big" if r > most - third else None for r in radii]
