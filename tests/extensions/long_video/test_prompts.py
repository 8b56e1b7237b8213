"""Each frame reads its own prompt; a new one comes in over the first frames of its segment."""

import pytest
import torch

from extensions.long_video.plan import Layout, Segment, SegmentPlan
from extensions.long_video.prompts import PromptTable, blend


class Encoder:
    """Embeds a prompt as its length, in a clip with the frame's number beside it, and counts."""

    def __init__(self):
        self.read = []

    def __call__(self, prompt: str, frames: int | None = None) -> torch.Tensor:
        self.read.append(prompt)
        if frames is None:
            return torch.full((1, 2, 3), float(len(prompt)))
        return (len(prompt) + 100.0 * torch.arange(frames)).view(1, frames, 1, 1).expand(-1, -1, 2, 3)


def _table(encoder=None, guidance: float = 1.0, ramp: int = 3, start: int = 0, prompts=("a", "bb", "bb", "cccc")):
    plan = SegmentPlan(tuple(map(Segment, prompts)), seed=0, negative_prompt="negative", ramp=ramp)
    return PromptTable(Layout(plan, start), encoder or Encoder(), guidance, plan.negative_prompt)


def _read(table: PromptTable, frames: range) -> list[float]:
    return table.text(frames)[-1, :, 0, 0].tolist()


def test_a_window_of_one_prompt_is_read_as_a_clip():
    table = _table()
    assert table.text(range(0, 16)).shape == (1, 2, 3)
    assert table.text(range(20, 36)) is table.text(range(24, 40))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_clip_that_continues_nothing_is_read_frame_by_frame(guidance):
    text = _table(guidance=guidance).free("bb", 3)
    expected = [[2, 102, 202]] if guidance == 1 else [[8, 108, 208], [2, 102, 202]]
    assert text[..., 0, 0].tolist() == expected


def test_a_new_prompt_comes_in_over_the_ramp_and_never_before_its_segment():
    assert _read(_table(), range(12, 28)) == pytest.approx([1] * 4 + [1.25, 1.5, 1.75] + [2] * 9)


def test_without_a_ramp_it_is_there_at_once():
    assert _read(_table(ramp=0), range(12, 28)) == [1] * 4 + [2] * 12


def test_a_ramp_ends_with_its_segment():
    assert _read(_table(ramp=64), range(36, 52))[4:] == pytest.approx([2 + 2 * (j + 1) / 13 for j in range(12)])
    assert _read(_table(ramp=64), range(36, 52))[:4] == [2] * 4


def test_footage_reads_the_first_prompt():
    assert _table(start=30).text(range(26, 42)).shape == (1, 2, 3)


@pytest.mark.parametrize("frames", [range(0, 16), range(12, 28)])
def test_guidance_has_the_negative_prompt_first_and_the_same_at_every_frame(frames):
    text = _table(guidance=3.0).text(frames)
    assert text.shape[0] == 2
    assert text[0].eq(8).all()
    assert text[1].flatten()[0] == 1


def test_each_prompt_is_encoded_once():
    encoder = Encoder()
    table = _table(encoder, guidance=3.0)
    for begin in (0, 12, 24, 36):
        table.text(range(begin, begin + 16))
    assert sorted(encoder.read) == ["a", "bb", "cccc", "negative"]


def test_a_thousand_prompts_are_not_kept():
    table = _table(prompts=tuple(f"{number} stars" for number in range(1000)))
    for number in range(1000):
        table.text(range(16 + 12 * number, 32 + 12 * number))
    assert table._embed.cache_info().currsize <= 8


def test_a_blend_is_as_long_as_what_it_lies_between():
    old, new = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 5.0]]])
    half = blend(old, new, 0.5)
    assert half.norm().item() == pytest.approx(4)
    assert blend(old, new, 1.0) is new
    assert blend(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), 0.5).eq(0).all()
