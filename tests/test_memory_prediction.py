"""What is predicted of memory from a config is what full-size networks allocate when they run."""

import pytest
import torch

from bench import memory
from bench.allocations import Allocations
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.layers import TextContext
from lavie.memory_mode import DECODING, MODEL, NONE, SEQUENTIAL, MemoryMode
from lavie.memory_plan import Shape, decoder_bytes, predict, transformer_parameters, unet_bytes
from lavie.unet import ATTENTION_DOWN, ATTENTION_UP, PLAIN_DOWN, PLAIN_UP, BaseUNet
from tests.test_vae import build as build_vae

WITHIN = 0.15
PLACES = (BASE, INTERPOLATION, SUPER_RESOLUTION, DECODING)


def slowly(*size: int):
    return pytest.param(size, marks=pytest.mark.slow)


def _agree(place: str, size: tuple[int, int, int], mode: MemoryMode, guided: bool = True) -> None:
    work = memory.works(*size, guided)[place]
    measured = memory.measure(place, work, mode)
    assert predict(work, mode, memory.resident()) == pytest.approx(measured, rel=WITHIN)


@pytest.mark.parametrize("offload", [NONE, MODEL, SEQUENTIAL])
@pytest.mark.parametrize("halves", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", PLACES)
def test_of_every_stage_at_the_published_size(place, halves, offload):
    """320×512 and 16 frames → 61 → 1280×2048."""
    _agree(place, (320, 512, 16), MemoryMode(None, halves, offload))


@pytest.mark.parametrize("tile", [1024, 512])
@pytest.mark.parametrize("offload", [NONE, MODEL, SEQUENTIAL])
def test_of_decoding_in_pieces(tile, offload):
    _agree(DECODING, (320, 512, 16), MemoryMode(tile, False, offload))


@pytest.mark.slow
@pytest.mark.parametrize("offload", [NONE, MODEL, SEQUENTIAL])
@pytest.mark.parametrize("halves", [False, True])
def test_of_super_resolution_in_pieces(halves, offload):
    """Three beside each other, of the size that the published frames are cut into."""
    _agree(SUPER_RESOLUTION, (176, 512, 16), MemoryMode(1024, halves, offload))


@pytest.mark.parametrize("size", [(256, 256, 16), slowly(512, 320, 8), slowly(192, 448, 24)])
@pytest.mark.parametrize("place", PLACES)
def test_of_every_stage_at_other_sizes(place, size):
    _agree(place, size, MemoryMode(offload=SEQUENTIAL), guided=place != BASE)


@pytest.mark.slow
def test_of_super_resolution_in_pieces_of_another_size():
    _agree(SUPER_RESOLUTION, (104, 232, 4), MemoryMode(512, True, SEQUENTIAL))


@pytest.mark.parametrize("size", [(9, 13), (40, 24)])
@pytest.mark.parametrize(
    ("widths", "layers", "attends"),
    [((64, 128, 128), 1, (True, True, True)), ((64, 96, 128), 2, (True, False, True)), ((32, 64), 3, (False, True))],
)
def test_of_a_network_of_another_shape(widths, layers, attends, size):
    config = {
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": tuple(ATTENTION_DOWN if one else PLAIN_DOWN for one in attends),
        "up_block_types": tuple(ATTENTION_UP if one else PLAIN_UP for one in reversed(attends)),
        "attention_head_dim": 1,
        "cross_attention_dim": 64,
    }
    with memory.META:
        network = BaseUNet(**config).eval()
        given = torch.empty(2, 4, 12, *size), torch.tensor(5), TextContext(torch.empty(2, 77, 64))
    with torch.inference_mode(), Allocations() as seen:
        network(*given)
    assert unet_bytes(dict(network.config), Shape(2, 12, *size), 4) == pytest.approx(seen.peak, rel=WITHIN)


@pytest.mark.parametrize("size", [(24, 40), (33, 17)])
def test_of_an_autoencoder_of_another_shape(size):
    with memory.META:
        model = build_vae(attention=False)
        latents = torch.empty(1, 4, *size)
    with torch.inference_mode(), Allocations() as seen:
        model.decode(latents)
    assert decoder_bytes(dict(model.config), *size, 4) == pytest.approx(seen.peak, rel=WITHIN)


@pytest.mark.parametrize("stage", [BASE, INTERPOLATION, SUPER_RESOLUTION])
def test_of_the_largest_part_that_is_moved_at_once(stage):
    at_once = memory._at_once(memory.network(stage))
    assert transformer_parameters(memory.part(stage).config) * 2 == pytest.approx(at_once, rel=WITHIN)


def test_allocations_are_counted_while_they_live_and_views_and_weights_are_not():
    weights = torch.empty(1000, device=memory.META)
    with Allocations() as seen:
        one = weights.view(10, 100)[2:]
        two = torch.empty(250, device=memory.META)  # 1000 bytes
        assert seen.live == 1000
        three = two + 1
        assert (seen.live, seen.peak) == (2000, 2000)
        view = three[5:]
        del two, three
        assert (seen.live, seen.peak) == (1000, 2000)
        del view
        assert (seen.live, len(one)) == (0, 8)
