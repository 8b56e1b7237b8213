"""Presets and settings as values, and what a model makes of a trigger."""

from pathlib import Path

import pytest

from extensions.lora.training.factors import needs_vector, ordinary_word
from extensions.lora.training.settings import MOTION, NAMES, SUBJECT, Settings, preset_for
from lavie.errors import TrainingError
from lavie.text import TextEncoder
from lavie.training.nano.networks import build_tokenizer


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_network_gets_a_smaller_rank_and_a_higher_rate(name):
    full, small = preset_for(name, 320), preset_for(name, 32)
    most = 1e-2 if name == SUBJECT else 3e-3
    assert small.rank == 8 and small.rank < full.rank and 1e-4 <= full.learning_rate < small.learning_rate <= most
    assert full.from_clips == (name == MOTION) == ("attn_temp" in str(full.layers))
    assert preset_for(name, 256) == full


def test_steps_grow_with_the_media_between_limits():
    full = preset_for("subject", 320)
    assert [full.steps(count) for count in (1, 8, 100)] == [400, 800, 1500]
    with pytest.raises(TrainingError, match="preset is 'face': choose one of subject, style, motion"):
        preset_for("face", 320)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"images": ()}, "no image is named"),
        ({"trigger": "two words"}, "the trigger is 'two words': give one word"),
        ({"trigger": ""}, "give one word"),
        ({"trigger": "x" * 51}, "at most 50 characters"),
        ({"preset": "face"}, "choose one of subject, style, motion"),
        ({"steps": 0}, "steps is 0: give 1 to"),
        ({"rank": 10_000}, "rank is 10000: give 1 to 512"),
        ({"learning_rate": 2.0}, "the learning rate is 2.0"),
        ({"prior": -1.0}, "the prior's weight is -1.0"),
        ({"keep": 0}, "keep is 0: give 1 or more"),
        ({"output": Path("a.pt")}, "a name that ends in .safetensors"),
    ],
)
def test_values_that_cannot_be(values, said):
    usual = {"images": (Path("a"),), "trigger": "zkw", "preset": "subject", "model": Path("m")}
    usual |= {"output": Path("a.safetensors"), "work": Path("w")}
    with pytest.raises(TrainingError, match=said) as caught:
        Settings(**{**usual, **values})
    assert "\n" not in str(caught.value)


def test_a_closed_vocabulary_knows_its_words_and_no_other():
    encoder = TextEncoder(build_tokenizer())
    assert needs_vector(encoder, "zkw") and not needs_vector(encoder, "red")
    assert ordinary_word(encoder, "zkw") is None
    assert "“red” is an ordinary word" in ordinary_word(encoder, "red")


class Spelling:
    """A tokenizer as CLIP's: every word has numbers, the rare ones of several pieces or large ones."""

    unk_token_id = eos_token_id = 49407
    unk_token = eos_token = "<end>"
    model_max_length = 77

    def __call__(self, text, **asked):
        numbers = {"dog": [1929], "sks": [48136]}.get(text, [5, 6])
        return {"input_ids": numbers, "offset_mapping": [(0, 1)] * len(numbers)}


def test_an_open_vocabulary_spells_every_word():
    encoder = TextEncoder(Spelling())
    assert not any(needs_vector(encoder, word) for word in ("dog", "sks", "zkw"))
    assert [bool(ordinary_word(encoder, word)) for word in ("dog", "sks", "zkw")] == [True, False, False]
