"""What the outline of a subject tells besides its shape: how well it fits, and how much it changes by itself.

An outline is looked at as a polar picture: what covers the plane about the subject's centre, ring by ring and angle by
angle, in units of the radius of the disc of the same area. Place and size are no part of it; a turn is a shift of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RINGS = np.linspace(0.35, 1.75, 12)  # of a polar picture, in units of the radius of the disc of the same area
TURNS = 60  # angles of a polar picture: a multiple of every outline's symmetry
LEAST_FIT = 0.93  # true clips are above it, noisy ones too


@dataclass(frozen=True)
class Outline:
    """fit: 1 where it is the named shape's in all frames, 0 where an empty picture would be as near to it; the mean
    over the frames in which the subject is whole. wobble: root mean square change of the polar picture from one frame
    to the next, None where there are no two."""

    fit: float
    wobble: float | None


def polar(cover: np.ndarray, centre: np.ndarray, area: np.ndarray) -> np.ndarray:
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


def outline(pictures: np.ndarray, templates: np.ndarray, whole: np.ndarray) -> Outline:
    """pictures, templates: F rings angles, these of the shape that was found, upright. whole: F, in which frames the
    subject is seen as a whole; where it never is, all count."""
    counted = whole if whole.any() else np.ones_like(whole)
    shown, known = pictures[counted], templates[counted]
    most = likeness(shown, known[:, None]).max((1, 2))
    misfit = (power(shown) + power(known) - 2 * most) / power(known)
    together = counted[1:] & counted[:-1]
    change = np.square(np.diff(pictures, axis=0)[together]).mean() if together.any() else None
    return Outline(float(1 - misfit.mean()), None if change is None else float(np.sqrt(change)))
