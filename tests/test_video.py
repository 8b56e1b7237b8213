"""A video is checked when it is made, and its hash is that of its shape and pixels."""

import hashlib

import numpy as np
import pytest

from lavie import MediaError, Video
from lavie.video import FrameHash

FRAMES = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)


def test_a_video_knows_its_length_size_and_duration():
    video = Video(FRAMES, 8)
    assert (len(video), video.height, video.width, video.seconds) == (2, 4, 6, 0.25)


def test_the_hash_is_sha256_of_shape_and_pixels():
    assert Video(FRAMES, 8).frame_hash == hashlib.sha256(b"(2, 4, 6, 3)" + FRAMES.tobytes()).hexdigest()


def test_the_hash_depends_on_pixels_and_shape_and_on_nothing_else():
    changed = FRAMES.copy()
    changed[1, 3, 5, 2] += 1
    turned = np.ascontiguousarray(FRAMES.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    assert Video(FRAMES, 8).frame_hash == Video(turned, 24).frame_hash
    others = [Video(frames, 8).frame_hash for frames in (FRAMES, changed, FRAMES.reshape(2, 6, 4, 3))]
    assert len(set(others)) == 3


def test_frames_that_pass_one_by_one_have_the_same_hash():
    digest = FrameHash(FRAMES.shape)
    for frame in FRAMES:
        digest.add(frame)
    assert digest.hexdigest() == Video(FRAMES, 8).frame_hash


def test_too_few_too_many_and_other_frames_are_refused():
    digest = FrameHash((2, 4, 6, 3))
    digest.add(FRAMES[0])
    with pytest.raises(MediaError, match="1 of 2 frames"):
        digest.hexdigest()
    for other in (FRAMES[0, :2], FRAMES[0].astype(np.float32)):
        with pytest.raises(MediaError, match="frame 2 is"):
            digest.add(other)
    digest.add(FRAMES[1])
    with pytest.raises(MediaError, match="frame 3 is"):
        digest.add(FRAMES[1])


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (FRAMES.astype(np.float32), 8),
        (FRAMES[0], 8),
        (FRAMES[..., :2], 8),
        (FRAMES[:0], 8),
        (FRAMES, 0),
        (FRAMES, -1),
        (FRAMES, float("nan")),
    ],
    ids=["float", "one frame", "two channels", "empty", "no rate", "negative", "nan"],
)
def test_what_is_no_video_is_refused(frames, fps):
    with pytest.raises(MediaError, match="a video"):
        Video(frames, fps)
