"""Nano's language: a word-level tokenizer for the captions of the procedural world, and a small CLIP text model."""

from __future__ import annotations

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from lavie.text import frame_places
from lavie.training.world import BACKGROUNDS, COLOURS, MOTIONS, RADII, SHAPES

START, END, UNKNOWN = "<start>", "<end>", "<unknown>"
# What people write for words of the world.
SYNONYMS = {"an": "a", "the": "a", "grey": "gray", "large": "big", "little": "small", "rotating": "spinning"}
MAX_TOKENS = 24
PLACE_DEVIATION = 0.3  # of the vectors that tell places apart, beside words at 0.5


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Lower-cased words and nothing else; what the world has no word for becomes `<unknown>`."""
    words = ["a", "and", "on", "background", *RADII, *COLOURS, *SHAPES, *BACKGROUNDS]
    words += [word for motion in MOTIONS for word in motion.split()]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([START, END, UNKNOWN, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    rewrites = [normalizers.Replace(Regex(rf"\b{word}\b"), known) for word, known in SYNONYMS.items()]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rewrites])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[.,;:!?]+"), "removed")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=MAX_TOKENS,
    )


def build_text_model(
    tokenizer: PreTrainedTokenizerFast, width: int = 128, layers: int = 3, heads: int = 4, places: int = 0
) -> CLIPTextModel:
    """A CLIP text model from scratch. Its word embeddings start far apart, so that words differ from the first step.

    places: of a frame in a clip, for which it has positions of their own (`lavie.text.embeddings`); give them a start
    with `start_places` when it has learned to read.
    """
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=tokenizer.model_max_length * (1 + places),
        **({"frame_places": places} if places else {}),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = CLIPTextModel(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(std=0.5)
    return model


@torch.no_grad()
def start_places(model: CLIPTextModel) -> CLIPTextModel:
    """Let each place in a clip begin as the positions of a caption by itself plus a random vector of its own."""
    places = frame_places(model)
    table = model.embeddings.position_embedding.weight
    alone, *others = table.view(1 + places, -1, table.shape[1])
    for other in others:
        other.copy_(alone + PLACE_DEVIATION * torch.randn(table.shape[1]))
    return model
