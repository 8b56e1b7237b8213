"""Whatever of a prompt the encoder did not see is said, and nothing else."""

import logging

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lavie.text import TextEncoder, embeddings, load_tokenizer, unconditional_first
from lavie.training.nano.networks import MAX_TOKENS, build_text_model, build_tokenizer, start_places
from lavie.training.world import BACKGROUNDS, COLOURS, MOTIONS, RADII, SHAPES, Scene, Subject

SENTENCE = "a red star spinning on a navy background"


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(build_tokenizer())


@pytest.fixture(scope="module")
def clip_like():
    """A byte-level BPE as CLIP's: what it has no word for it spells out; its unknown token is its end token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SENTENCE] * 3, trainer)
    markers = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[0]} $A {special[1]}", special_tokens=markers
    )
    return TextEncoder(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=special[0],
            eos_token=special[1],
            unk_token=special[1],
            pad_token=special[1],
            model_max_length=12,
        )
    )


def test_an_encoder_that_knows_places_reads_each_frame_its_own_text(encoder):
    torch.manual_seed(0)
    tokens = encoder.tokens([SENTENCE, "a heart"])
    model = start_places(build_text_model(encoder.tokenizer, 32, 1, 1, places=5)).eval()
    with torch.inference_mode():
        read = embeddings(model, tokens, 5)
        alone, twice, other = embeddings(model, tokens), embeddings(model, tokens, 9), embeddings(model, tokens[1:], 5)
        positions = model.embeddings.position_embedding.weight
        positions[:MAX_TOKENS] = positions[-MAX_TOKENS:]  # as at the last place
        last = embeddings(model, tokens)
    assert read.shape == (2, 5, MAX_TOKENS, 32) and alone.shape == (2, MAX_TOKENS, 32)
    assert torch.equal(twice[:, ::2], read)  # spread over the clip, however many frames it has
    assert torch.allclose(other[0], read[1])
    assert torch.allclose(last, read[:, -1])
    texts = [alone[0], *read[0]]
    assert all((one - two).abs().max() > 0.01 for index, one in enumerate(texts) for two in texts[:index])


def test_a_published_encoder_reads_all_frames_alike(encoder):
    model, tokens = build_text_model(encoder.tokenizer, 32, 1, 1).eval(), encoder.tokens([SENTENCE])
    with torch.inference_mode():
        assert torch.equal(embeddings(model, tokens, 16), model(tokens).last_hidden_state)


def test_a_caption_of_the_world_is_understood_whole(encoder):
    report = encoder.read(SENTENCE)
    assert (report.tokens, report.limit, report.cut, report.unknown) == (10, MAX_TOKENS, "", ())
    assert report.notices() == []


def test_every_word_and_the_longest_caption_of_the_world_is_known_and_fits(encoder):
    for size in RADII:
        for motion in MOTIONS:
            for colour, shape, background in zip(list(COLOURS), list(SHAPES) * 2, list(BACKGROUNDS) * 2, strict=False):
                subject = Subject(colour, shape, motion, size)
                report = encoder.read(Scene((subject, subject), background).caption)
                assert report.unknown == ()
                assert report.cut == ""


def test_unknown_words_are_named_once_in_order_as_they_were_written(encoder):
    report = encoder.read("a RED Dragon and a Café-table, a dragon on a red ☆ background, Dragon")
    assert report.unknown == ("Dragon", "Café-table", "dragon", "☆")
    (notice,) = report.notices("negative prompt")
    assert "“Dragon”, “Café-table”, “dragon”, “☆” in the negative prompt" in notice
    assert "\n" not in notice


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("an orange heart on the grey background", "a orange heart on a gray background"),
        ("The Large blue circle rotating on a BLACK background.", "a big blue circle spinning on a black background"),
        (
            "a little, red   star\nmoving left; on a teal background!",
            "a small red star moving left on a teal background",
        ),
    ],
)
def test_synonyms_case_space_and_punctuation_change_nothing(encoder, written, meant):
    assert torch.equal(encoder.tokens([written]), encoder.tokens([meant]))
    assert encoder.read(written).unknown == ()


def test_a_synonym_inside_a_word_is_left_alone(encoder):
    report = encoder.read("a banana theatre on a gray background")
    assert report.unknown == ("banana", "theatre")


def test_what_does_not_fit_is_reported_with_the_words_that_were_cut(encoder):
    prompt = " ".join(["a red star"] * 7) + " and a blue Square, moving LEFT"  # 21 words fit, 22 are the limit
    report = encoder.read(prompt)
    assert report.tokens == 21 + 6 + 2
    assert report.cut == "a blue Square, moving LEFT"
    (notice,) = report.notices()
    assert "29 tokens of 24" in notice
    assert "“a blue Square, moving LEFT” was cut off" in notice
    kept = prompt.removesuffix(report.cut)
    assert torch.equal(encoder.tokens([prompt]), encoder.tokens([kept]))


def test_a_prompt_that_just_fits_is_not_cut(encoder):
    prompt = " ".join(["a"] * (MAX_TOKENS - 2))
    assert encoder.read(prompt).cut == ""
    assert encoder.read(prompt + " red").cut == "red"


def test_the_library_says_nothing_on_its_own_about_a_long_prompt(caplog):
    encoder = TextEncoder(build_tokenizer())
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        encoder.read("a red star " * 20)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_an_empty_prompt_is_read_without_notices_and_encoded(encoder):
    report = encoder.read("")
    assert (report.tokens, report.cut, report.unknown) == (2, "", ())
    assert report.notices() == []
    assert encoder.tokens([""]).shape == (1, MAX_TOKENS)


def test_a_tokenizer_that_spells_words_out_knows_every_word(clip_like):
    assert clip_like.read("a dragon ☆ 龍").unknown == ()


def test_a_tokenizer_that_spells_words_out_reports_what_it_cut(clip_like):
    report = clip_like.read(SENTENCE + " xyz☆")
    assert report.limit == 12
    assert report.tokens > 12
    assert SENTENCE.split()[0] not in report.cut.split()[:1]
    assert (SENTENCE + " xyz☆").endswith(report.cut)
    assert report.cut


def test_tokens_are_padded_and_cut_to_the_encoders_length(encoder, clip_like):
    for reader in (encoder, clip_like):
        ids = reader.tokens(["a", "a red star " * 30])
        assert ids.shape == (2, reader.limit)
        assert ids[1, -1] == reader.tokenizer.eos_token_id


def test_embeddings_depend_on_the_prompt_and_not_on_the_batch(encoder):
    torch.manual_seed(0)
    model = build_text_model(encoder.tokenizer, width=32, layers=1, heads=2).requires_grad_(False).eval()
    both = encoder.encode(model, ["a red star", "a blue star"], "cpu")
    assert both.shape == (2, MAX_TOKENS, 32)
    torch.testing.assert_close(both[:1], encoder.encode(model, ["a red star"], "cpu"))
    assert (both[0] - both[1]).abs().max() > 0.1
    halves = unconditional_first(both[:1], both[1:])
    assert torch.equal(halves, both)


def test_a_saved_tokenizer_reads_as_the_one_that_was_saved(encoder, tmp_path):
    encoder.tokenizer.save_pretrained(tmp_path)
    again = TextEncoder(load_tokenizer(tmp_path))
    prompt = "An orange dragon rotating on the grey background"
    assert again.read(prompt) == encoder.read(prompt)
    assert torch.equal(again.tokens([prompt]), encoder.tokens([prompt]))
