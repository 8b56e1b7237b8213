"""Media are encoded once, and found again by their content; what cannot be read is a fault and ends nothing."""

import resource

import pytest
import torch

from app.media import UPLOAD_LIMITS, frames_of
from lavie.errors import TrainingError
from lavie.training.data.cuts import Cut
from lavie.training.data.encoded import Encoded, EncodedSet, Encoder, collect, hold_out
from lavie.training.data.items import Fault, Item
from tests.training.folders import write_clip, write_picture

CUT = Cut(4, 32, 16)


def encode(clip):
    """Stands in for an autoencoder: 3 F 2 4 of the clip's own pixels."""
    return {"latents": torch.from_numpy(clip[:, ::8, ::8]).permute(3, 0, 1, 2).half().contiguous()}


def encode_large(clip):
    small = torch.from_numpy(clip[:, ::4, ::4].copy())
    return {"latents": small.permute(3, 0, 1, 2).half().contiguous(), "small": small}


def encoder(folder, encode=encode, cut=CUT, mark="m") -> Encoder:
    return Encoder(folder / "latents", lambda path: frames_of(path, UPLOAD_LIMITS), cut, encode, mark)


def never(clip):
    raise AssertionError("it was encoded again")


def items(folder, count: int = 1, frames: int = 8) -> list[Item]:
    return [Item(f"{n}.mp4", f"number {n}", write_clip(folder / f"{n}.mp4", n, frames=frames)) for n in range(count)]


def tokens(captions):
    return torch.tensor([[int(caption.split()[1])] * 3 for caption in captions])


def test_a_medium_is_encoded_once_whatever_it_is_called(tmp_path):
    (item,) = items(tmp_path)
    first = encoder(tmp_path).load_or_encode(item)
    assert first.count == 2
    renamed = Item("b.mp4", "other words", item.path.rename(tmp_path / "b.mp4"))
    again = encoder(tmp_path, never).load_or_encode(renamed)
    assert (again.file, again.count) == (first.file, 2)


@pytest.mark.parametrize("change", [{"cut": Cut(4, 16, 16)}, {"cut": Cut(4, 32, 16, stride=2)}, {"mark": "other"}])
def test_another_cut_or_autoencoder_is_another_file(tmp_path, change):
    (item,) = items(tmp_path)
    assert encoder(tmp_path).load_or_encode(item).file != encoder(tmp_path, **change).load_or_encode(item).file


def test_other_content_under_the_same_name_is_another_file(tmp_path):
    (item,) = items(tmp_path)
    first = encoder(tmp_path).load_or_encode(item)
    write_clip(item.path, 5)
    assert encoder(tmp_path).load_or_encode(item).file != first.file


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_damaged_latents_are_made_again(tmp_path, damage):
    (item,) = items(tmp_path)
    file = encoder(tmp_path).load_or_encode(item).file
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert encoder(tmp_path).load_or_encode(item).count == 2
    assert file.read_bytes() == whole


@pytest.mark.parametrize("kind", ["cut off", "zero bytes", "no video", "gone", "short"])
def test_what_cannot_be_read_is_a_fault_beside_the_good_ones(tmp_path, kind):
    good, bad = items(tmp_path, 2)
    if kind == "cut off":
        bad.path.write_bytes(bad.path.read_bytes()[:900])
    elif kind == "short":
        write_clip(bad.path, 1, frames=3)
    elif kind == "gone":
        bad.path.unlink()
    else:
        bad.path.write_bytes(b"" if kind == "zero bytes" else b"plain words" * 50)
    faults = []
    collecting = collect(encoder(tmp_path), [bad, good], faults)
    assert next(collecting).done == 2
    with pytest.raises(StopIteration) as end:
        next(collecting)
    (media,), (fault,) = end.value.value, faults
    assert isinstance(media, Encoded) and media.item == good
    assert fault.name == "1.mp4"
    assert fault.kind == ("it is too short" if kind == "short" else "it cannot be read")
    assert str(tmp_path) not in fault.detail


def test_a_picture_of_zero_bytes_is_a_fault(tmp_path):
    path = write_picture(tmp_path / "a.png", 1)
    path.write_bytes(b"")
    fault = encoder(tmp_path, cut=Cut(1, 32, 16)).load_or_encode(Item("a.png", "x", path))
    assert isinstance(fault, Fault) and "0 bytes" in fault.detail


def test_a_full_disk_is_no_fault_of_a_medium(tmp_path):
    (item,) = items(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(TrainingError, match="make room"):
            encoder(tmp_path).load_or_encode(item)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in (tmp_path / "latents").rglob("*") if path.is_file()]


def test_a_set_draws_clips_with_their_own_captions(tmp_path):
    media = [encoder(tmp_path).load_or_encode(item) for item in items(tmp_path, 3)]
    clips = EncodedSet(media, tokens, CUT.frames)
    assert len(clips) == 6
    latents, drawn = clips.draw(50, torch.Generator().manual_seed(0))
    assert latents.shape == (50, 3, 4, 2, 4) and latents.dtype == torch.float32
    assert set(drawn[:, 0].tolist()) == {0, 1, 2}
    by_caption = {}
    for latent, token in zip(latents, drawn[:, 0].tolist(), strict=True):
        by_caption.setdefault(token, set()).add(tuple(latent.flatten().tolist()))
    assert all(len(seen) <= 2 for seen in by_caption.values())
    again, _ = clips.draw(50, torch.Generator().manual_seed(0))
    assert torch.equal(latents, again)


def test_a_large_set_draws_small_frames_of_the_same_moment(tmp_path):
    media = [encoder(tmp_path, encode_large).load_or_encode(item) for item in items(tmp_path, 2)]
    latents, small, drawn = EncodedSet(media, tokens, CUT.frames).draw_large(20, 2, torch.Generator().manual_seed(0))
    assert latents.shape == small.shape == (20, 3, 2, 4, 8)
    torch.testing.assert_close(latents / 127.5 - 1, small, atol=2e-3, rtol=0)
    assert drawn.shape == (20, 3)


def test_latents_that_are_gone_while_training_are_named(tmp_path):
    media = [encoder(tmp_path).load_or_encode(item) for item in items(tmp_path)]
    clips = EncodedSet(media, tokens, CUT.frames)
    media[0].file.unlink()
    with pytest.raises(TrainingError, match="cannot be read any more"):
        clips.read(0)


def test_what_is_held_out_is_chosen_by_content_and_stays_held_out(tmp_path):
    media = [Encoded(None, f"{n * 2654435761 % 2**32:08x}", tmp_path, 1) for n in range(1, 201)]
    trained, held = hold_out(media)
    assert 2 <= len(held) <= 30
    assert not {each.digest for each in trained} & {each.digest for each in held}
    kept = set(each.digest for each in hold_out(media[:100])[1])
    assert kept <= {each.digest for each in held}


def test_a_single_medium_is_trained_on_and_copies_of_one_stay_together(tmp_path):
    one, other = Encoded(None, "80000000", tmp_path, 1), Encoded(None, "90000000", tmp_path, 1)
    assert hold_out([one, one]) == ([one, one], [])
    assert hold_out([other, one, one]) == ([other], [one, one])
