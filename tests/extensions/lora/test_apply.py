"""What an adapter adds is what its weights say, for every family; off and removed are the bits of none."""

import copy

import pytest
import torch
from accelerate import cpu_offload

from extensions.lora.adapter import Adapter
from extensions.lora.bake import PARTS_OF, merge
from extensions.lora.deltas import LowRank
from extensions.lora.files.read import AdapterDeltas, read_deltas, targets_in
from extensions.lora.hooks import hooks_of, remove_adapters, set_adapters
from extensions.lora.names import PARTS
from lavie import Request
from lavie.errors import AdapterError, RequestError
from tests.extensions.lora.files import FAMILIES, LINEAR, Maker

ADAPTERS = [Adapter(digit * 64, f"number {digit}") for digit in "123"]


@pytest.fixture
def use(networks):
    """Put adapters on both networks; whatever a test does, they are plain again after it."""

    def put(adapters, changes):
        for part in PARTS:
            set_adapters(getattr(networks, part), part, adapters, changes)

    yield put
    for part in PARTS:
        remove_adapters(getattr(networks, part))


def weighed(adapter: Adapter, weight: float, text_weight: float | None = None) -> Adapter:
    return Adapter(adapter.sha256, adapter.name, weight, text_weight)


@torch.no_grad()
def by_hand(networks, part: str, weighed_deltas) -> torch.Tensor:
    """The output with the changes added to the weights themselves, sum_in_parallel in float64."""
    network = copy.deepcopy(networks.plain[part])
    layers = dict(network.named_modules())
    for deltas, weight in weighed_deltas:
        for name, delta in deltas[part].items():
            layers[name].weight.data = (layers[name].weight.double() + weight * delta).float()
    return networks.run(part, **{part: network})


def relative_error(networks, part: str, plain: torch.Tensor, weighed_deltas) -> float:
    expected = by_hand(networks, part, weighed_deltas)
    return float((networks.run(part) - expected).norm() / (expected - plain).norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_changes_the_output_as_merged_by_hand(networks, use, path, family):
    maker = Maker(networks.targets)
    found = read_deltas(FAMILIES[family](maker, path), networks.targets)
    assert found.unmatched == ()
    plain = {part: networks.run(part) for part in PARTS}
    use([weighed(ADAPTERS[0], 0.7)], lambda _: found)
    for part in PARTS:
        assert found.of(part).keys() == maker.deltas[part].keys()
        if maker.deltas[part]:
            assert relative_error(networks, part, plain[part], [(maker.deltas, 0.7)]) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_change_in_float64_is_exact(networks, path, family):
    maker = Maker(networks.targets)
    found = read_deltas(FAMILIES[family](maker, path), networks.targets)
    for part in PARTS:
        for name, delta in maker.deltas[part].items():
            ours = found.of(part)[name].delta(torch.float64)
            # A Tucker core is multiplied into `down` once, in float32.
            assert (ours - delta).norm() < 1e-6 * delta.norm()


def test_several_at_once_with_negative_and_separate_weights(networks, use, tmp_path):
    makers = [Maker(networks.targets, seed) for seed in range(3)]
    files = [
        FAMILIES[name](maker, tmp_path / f"{number}.safetensors")
        for number, (name, maker) in enumerate(zip(("kohya", "kohya LoCon", "LyCORIS LoHa"), makers, strict=True))
    ]
    read = {one.sha256: read_deltas(file, networks.targets) for one, file in zip(ADAPTERS, files, strict=True)}
    plain = {part: networks.run(part) for part in PARTS}
    use(
        [weighed(ADAPTERS[0], -0.5, 1.5), weighed(ADAPTERS[1], 1.0), weighed(ADAPTERS[2], 0.3)],
        lambda adapter: read[adapter.sha256],
    )
    unet = [(maker.deltas, weight) for maker, weight in zip(makers, (-0.5, 1.0, 0.3), strict=True)]
    assert relative_error(networks, "unet", plain["unet"], unet) < 1e-4
    assert relative_error(networks, "text", plain["text"], [(makers[0].deltas, 1.5)]) < 1e-4


def test_weights_change_without_reading_again(networks, use, path):
    maker = Maker(networks.targets)
    found, reads = read_deltas(FAMILIES["kohya"](maker, path), networks.targets), []
    plain = networks.run("unet")
    for weight in (1.0, -2.0, 0.0, 0.25):
        set_adapters(networks.unet, "unet", [weighed(ADAPTERS[0], weight)], lambda one: reads.append(one) or found)
        if weight:
            assert relative_error(networks, "unet", plain, [(maker.deltas, weight)]) < 1e-4
        else:
            assert torch.equal(networks.run("unet"), plain)
    assert len(reads) == 1


@pytest.mark.parametrize("family", ["kohya", "kohya LoCon", "LyCORIS LoHa", "LyCORIS LoKr"])
def test_off_and_removed_are_the_bits_of_none(networks, use, path, family):
    found = read_deltas(FAMILIES[family](Maker(networks.targets), path), networks.targets)
    before = {part: networks.run(part) for part in PARTS}
    names = {part: list(getattr(networks, part).state_dict()) for part in PARTS}
    for after in ([weighed(ADAPTERS[0], 0.0)], []):
        use([ADAPTERS[0]], lambda _: found)
        assert not torch.equal(networks.run("unet"), before["unet"])
        use(after, lambda _: found)
        for part in PARTS:
            assert torch.equal(networks.run(part), before[part])
            assert list(getattr(networks, part).state_dict()) == names[part]
    remove_adapters(networks.unet)
    assert all(not layer._forward_hooks for layer in networks.unet.modules())
    assert not any("adapter_hooks" in name for name, _ in networks.unet.named_modules())


def test_the_order_of_adapters_and_what_was_on_before_leave_no_trace(networks, use, tmp_path):
    files = [FAMILIES["kohya"](Maker(networks.targets, seed), tmp_path / f"{seed}.safetensors") for seed in range(3)]
    read = dict(zip(ADAPTERS, (read_deltas(file, networks.targets) for file in files), strict=True))
    made = []
    for steps in ([ADAPTERS], [ADAPTERS[::-1]], [ADAPTERS[1:2], ADAPTERS[2:], ADAPTERS]):
        for adapters in steps:
            set_adapters(networks.unet, "unet", adapters, read.get)
        made.append(networks.run("unet"))
        remove_adapters(networks.unet)
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])


def test_an_adapter_of_weight_0_is_not_read(networks, use):
    use([weighed(ADAPTERS[0], 0.0)], lambda _: pytest.fail("read for nothing"))


@torch.no_grad()
@pytest.mark.parametrize("family", ["kohya", "LyCORIS LoKr"])
def test_adapters_follow_the_network_through_types_and_offloading(networks, path, family):
    found = read_deltas(FAMILIES[family](Maker(networks.targets), path), networks.targets)
    unet = copy.deepcopy(networks.unet)
    set_adapters(unet, "unet", ADAPTERS[:1], lambda _: found)
    expected = networks.run("unet", unet=unet)
    layer = hooks_of(unet)._deltas[LINEAR[0]][ADAPTERS[0].sha256]
    unet.to(torch.bfloat16)
    assert {factor.dtype for factor in layer.factors.values()} == {torch.bfloat16}
    assert {factor.dtype for factor in found.unet[LINEAR[0]].factors.values()} == {torch.float32}
    half = networks.run("unet", unet=unet).float()
    assert (half - expected).norm() < 0.05 * expected.norm()
    assert half.isfinite().all()

    offloaded = cpu_offload(copy.deepcopy(networks.unet), torch.device("cpu"), preload_module_classes=["Transformer"])
    assert next(offloaded.parameters()).is_meta
    set_adapters(offloaded, "unet", ADAPTERS[:1], lambda _: found)
    assert torch.equal(networks.run("unet", unet=offloaded), expected)


@torch.no_grad()
@pytest.mark.parametrize(("alpha", "size"), [(1.0, 2e-3), (0.1, 1e4)])
def test_half_precision_keeps_small_alphas(networks, alpha, size):
    """Baked into a factor the first leaves float16's normal numbers; behind the product the second is too large."""
    layer = copy.deepcopy(dict(networks.plain["unet"].named_modules())[LINEAR[0]])
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(128, 32, generator=generator) / 6, torch.randn(32, 128, generator=generator) * size
    x = torch.randn(64, 32, generator=generator)
    expected = x.double() @ (up.double() @ down.double()).T * (alpha / 128)
    made = LowRank(alpha, down.half(), up.half()).apply(layer.half(), x.half()).double()
    assert (made - expected).norm() < 2e-3 * expected.norm()


def test_a_cascade_makes_another_video_and_then_the_same_again(tiny_cascade, path):
    targets, request = targets_in(tiny_cascade.bundle), Request(prompt="a red circle moving right", seed=1)
    found = read_deltas(FAMILIES["kohya"](Maker(targets), path), targets)
    hashes = []
    for adapters in ((), ADAPTERS[:1], ADAPTERS[:1], ()):
        for component, part in PARTS_OF.items():
            if component in tiny_cascade.bundle.components():
                with tiny_cascade.residency.on_device(component) as network:
                    set_adapters(network, part, adapters, lambda _: found)
        *_, finished = tiny_cascade.generate(request)
        hashes.append(finished.video.frame_hash)
    assert hashes[0] == hashes[3] != hashes[1] == hashes[2]


def test_factors_may_be_trained(networks, use):
    shape = networks.targets.unet[LINEAR[0]]
    down, up = torch.ones(2, shape[1], requires_grad=True), torch.zeros(shape[0], 2, requires_grad=True)
    hooks_of(networks.unet).add("training", {LINEAR[0]: LowRank(2.0, down, up)})
    sample = torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    networks.unet(sample, 10, torch.ones(1, 3, 32)).square().sum().backward()
    assert up.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in networks.unet.parameters())


def test_what_fits_no_layer_changes_nothing(networks, use):
    wrong = AdapterDeltas({LINEAR[0]: LowRank(1.0, torch.ones(2, 7), torch.ones(32, 2))}, {})
    right = AdapterDeltas({LINEAR[0]: LowRank(1.0, torch.ones(2, 32), torch.ones(32, 2))}, {})
    before = networks.run("unet")
    read = dict(zip(ADAPTERS, (right, wrong, None), strict=True))
    with pytest.raises(AdapterError, match=r"attn1\.to_q.*shape \[32, 7\]"):
        use(ADAPTERS[:2], read.get)
    assert torch.equal(networks.run("unet"), before)
    with pytest.raises(RequestError, match=r"'number 1' is asked for twice"):
        use([ADAPTERS[0], weighed(ADAPTERS[0], 0.5)], read.get)


def test_merging_is_the_same_change(networks, path):
    maker = Maker(networks.targets)
    found = read_deltas(FAMILIES["LyCORIS LoKr"](maker, path), networks.targets)
    merged = merge(copy.deepcopy(networks.unet).double(), [(found.unet, -1.5)])
    layers = dict(merged.named_modules())
    for name, delta in maker.deltas["unet"].items():
        expected = dict(networks.unet.named_modules())[name].weight.double() - 1.5 * delta
        assert (layers[name].weight - expected).abs().max() < 1e-12


@torch.no_grad()
def test_a_network_that_reads_more_channels(networks):
    """The first layer of a network that is told known frames: only the noisy latents, its first channels, change."""
    extension = copy.deepcopy(networks.plain["unet"])
    extension.conv_in = torch.nn.Conv2d(9, 32, 3, padding=1)
    maker = Maker(networks.targets)
    factors = maker.low_rank("unet", "conv_in", 2, 1.0)
    change = LowRank.from_factors(1.0, (32, 4, 3, 3), factors)
    x = torch.randn(2, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = extension.conv_in(x) + torch.nn.functional.conv2d(
        x[:, :4], maker.deltas["unet"]["conv_in"].float(), padding=1
    )
    merged = merge(copy.deepcopy(extension), [({"conv_in": change}, 1.0)])
    hooks_of(extension).add("a", {"conv_in": change})
    for network in (extension, merged):
        assert torch.allclose(network.conv_in(x), expected, atol=1e-5)
    wider = LowRank.from_factors(1.0, (32, 9, 3, 3), {"down": torch.ones(2, 9, 3, 3), "up": torch.ones(32, 2)})
    with pytest.raises(AdapterError, match=r"'conv_in' of shape \[32, 9, 3, 3\]"):
        merge(copy.deepcopy(networks.plain["unet"]), [({"conv_in": wider}, 1.0)])
