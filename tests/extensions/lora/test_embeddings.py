"""Words with vectors of their own: read as such inside a block, unknown again behind it."""

import copy

import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import save_file

from extensions.lora.embeddings import extend_vocabulary, spell
from extensions.lora.files.read import read_deltas, read_embedding
from lavie.errors import AdapterError, RequestError
from lavie.text import TextEncoder
from lavie.training.nano.networks import build_tokenizer
from tests.extensions.lora.files import LINEAR, kohya
from tests.extensions.lora.test_refused import pair

WORDS = {"toy": torch.randn(2, 32, generator=torch.Generator().manual_seed(0)), "<zz>": torch.ones(1, 32)}
PROMPT = "a red toy moving right"


@torch.no_grad()
def test_words_are_read_by_their_vectors(networks):
    encoder, table = TextEncoder(build_tokenizer()), networks.text.get_input_embeddings()
    plain = encoder.encode(networks.text, [PROMPT], "cpu")
    with extend_vocabulary(encoder, networks.text, WORDS):
        ids = encoder.tokens([spell(PROMPT, WORDS)])
        assert encoder.read(spell(PROMPT, WORDS)).unknown == ()
        rows = table(ids)[0]
        inside = encoder.encode(networks.text, [spell(PROMPT, WORDS)], "cpu")
        offloaded = cpu_offload(copy.deepcopy(networks.text), torch.device("cpu"))
    assert torch.equal(rows[3:5], WORDS["toy"])
    assert torch.equal(rows[:3], table.weight[encoder.tokens([PROMPT])[0, :3]])
    assert not torch.equal(inside, plain)
    assert torch.equal(encoder.encode(networks.text, [PROMPT], "cpu"), plain)
    assert not table._forward_hooks and not table._forward_pre_hooks
    with extend_vocabulary(encoder, offloaded, WORDS):
        assert torch.equal(encoder.encode(offloaded, [spell(PROMPT, WORDS)], "cpu"), inside)


def test_prompts_are_spelled_out():
    assert spell("toy, a toyed (toy) <zz>", WORDS) == "toy toy_1, a toyed (toy toy_1) <zz>"


def test_words_that_cannot_be_ones(networks):
    encoder = TextEncoder(build_tokenizer())
    before = encoder.tokenizer
    for word, said in (
        ("red", "a word of this model already"),
        ("two words", "without spaces"),
        ("", "without spaces"),
    ):
        with (
            pytest.raises(RequestError, match=said),
            extend_vocabulary(encoder, networks.text, {word: torch.ones(1, 32)}),
        ):
            pass
    assert encoder.tokenizer is before


def test_vectors_are_read(path, networks):
    save_file({"emb_params": torch.ones(3, 32, dtype=torch.float16)}, path)
    assert torch.equal(read_embedding(path, 32), torch.ones(3, 32))
    with pytest.raises(AdapterError, match="is an embedding and changes no layer"):
        read_deltas(path, networks.targets)
    save_file(pair(kohya(LINEAR[0])), path)
    with pytest.raises(AdapterError, match="is no embedding but an adapter"):
        read_embedding(path, 32)
