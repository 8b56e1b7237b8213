"""A network is on its device while its block lasts, however that ends, and computes the same wherever it is."""

import pytest
import torch

from lavie import Cascade
from lavie.bundle import Bundle
from lavie.errors import DeviceError
from lavie.residency import OFFLOADS, Residency, pick_device, pick_dtype
from tests.cascades import finish, request

CPU = torch.device("cpu")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


class Recorder:
    """A bundle of one tiny network that remembers where it was moved; sizes in bytes as given."""

    def __init__(self, **sizes: int):
        self.sizes, self.moves, self.loads = sizes, [], []

    def load(self, component, dtype):
        self.loads.append((component, dtype))
        network = torch.nn.Linear(2, 2)
        network.to = lambda device: self.moves.append((component, str(device))) or network
        return network

    def components(self):
        return list(self.sizes)

    def size(self, component):
        return self.sizes[component]


def test_auto_takes_the_cpu_where_nothing_else_is(no_gpu):
    assert pick_device("auto") == pick_device("cpu") == CPU


def test_auto_prefers_cuda_and_then_mps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "mps"


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "tpu:0", "auto:0"])
def test_an_unknown_device_is_refused_with_the_known_ones(name):
    with pytest.raises(DeviceError, match=f"device is '{name}': choose one of auto, cpu, cuda, mps"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(no_gpu, name):
    with pytest.raises(DeviceError, match=f"device '{name}' is not available here: choose one of cpu, or auto"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cpu:x", "cpu:", "cpu:-1"])
def test_a_device_with_a_malformed_number_is_refused(name):
    with pytest.raises(DeviceError, match=f"device is '{name}': give cpu"):
        pick_device(name)


def test_from_bundle_names_the_device_before_any_weight_is_read(tiny_bundle):
    with pytest.raises(DeviceError, match="'abacus'"):
        Cascade.from_bundle(tiny_bundle, device="abacus")


@pytest.mark.parametrize(
    ("device", "native", "expected"),
    [("cpu", True, "float32"), ("cuda", True, "bfloat16"), ("cuda", False, "float16"), ("mps", True, "float16")],
)
def test_the_number_type_goes_by_the_device(monkeypatch, device, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert pick_dtype(torch.device(device)) == getattr(torch, expected)


def test_the_autoencoder_that_overflows_in_float16_stays_in_float32():
    residency = Residency(Recorder(), CPU, torch.float16, "none")
    assert residency.dtype_of("super_resolution_vae") == torch.float32
    assert residency.dtype_of("vae") == torch.float16
    assert Residency(Recorder(), CPU, torch.bfloat16, "none").dtype_of("super_resolution_vae") == torch.bfloat16


def test_an_unknown_offload_is_refused_with_the_known_ones():
    with pytest.raises(DeviceError, match=f"offload is 'half': choose one of {', '.join(OFFLOADS)}"):
        Residency(Recorder(), CPU, torch.float32, "half")


def test_on_a_cpu_there_is_nothing_to_offload_from():
    assert Residency(Recorder(base=10**15), CPU, torch.float32).offload == "none"


@pytest.mark.parametrize(("free", "expected"), [(200, "none"), (199, "model"), (120, "model"), (119, "sequential")])
def test_auto_offloads_as_little_as_free_memory_allows_for(monkeypatch, free, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**6))
    bundle = Recorder(base=60, vae=40)
    assert Residency(bundle, torch.device("cuda"), torch.bfloat16).offload == expected
    assert Residency(bundle, torch.device("cuda"), torch.bfloat16, "none").offload == "none"


def test_without_offload_a_network_is_loaded_once_and_stays():
    bundle = Recorder()
    residency = Residency(bundle, CPU, torch.float32, "none")
    for _ in range(2):
        with residency.on_device("base") as one, residency.on_device("base") as same:
            assert one is same
    assert bundle.loads == [("base", torch.float32)]
    assert set(bundle.moves) == {("base", "cpu")}


def _meta_residency(bundle) -> Residency:
    return Residency(bundle, torch.device("meta"), torch.float32, "model")


def test_model_offload_moves_a_network_to_the_device_and_back():
    bundle = Recorder()
    residency = _meta_residency(bundle)
    with residency.on_device("base"):
        assert bundle.moves == [("base", "meta")]
    assert bundle.moves == [("base", "meta"), ("base", "cpu")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, torch.OutOfMemoryError])
def test_a_network_is_moved_back_however_its_block_ends(error):
    bundle = Recorder()
    residency = _meta_residency(bundle)
    with pytest.raises((error, DeviceError)), residency.on_device("base"):
        raise error
    assert bundle.moves[-1] == ("base", "cpu")
    with residency.on_device("base"):
        assert bundle.moves[-1] == ("base", "meta")


def test_memory_that_runs_out_is_told_with_the_network_and_the_ways_out():
    residency = Residency(Recorder(), CPU, torch.float32, "none")
    with pytest.raises(DeviceError) as caught, residency.on_device("base"):
        raise torch.OutOfMemoryError("tried to allocate 7 GiB\nsecond line")
    message = str(caught.value)
    assert "cpu ran out of memory in base (tried to allocate 7 GiB)" in message
    assert "smaller or shorter" in message
    assert "\n" not in message


def test_memory_that_runs_out_without_a_word_is_told_too():
    residency = Residency(Recorder(), CPU, torch.float32, "none")
    with pytest.raises(DeviceError, match="ran out of memory in base"), residency.on_device("base"):
        raise torch.OutOfMemoryError


def test_forgetting_frees_every_network():
    bundle = Recorder()
    residency = Residency(bundle, CPU, torch.float32, "none")
    with residency.on_device("base"):
        pass
    residency.forget()
    with residency.on_device("base"):
        pass
    assert len(bundle.loads) == 2


def test_weights_that_cannot_be_read_leave_nothing_loaded():
    def load(component, dtype):
        raise ValueError("damaged")

    bundle = Recorder()
    bundle.load = load
    with pytest.raises(ValueError, match="damaged"), _meta_residency(bundle).on_device("base"):
        pass
    assert bundle.moves == []


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_every_way_to_offload_makes_the_same_video(tiny_bundle, tiny_cascade, offload):
    bundle = Bundle(tiny_bundle)
    cascade = Cascade(bundle, Residency(bundle, CPU, torch.float32, offload))
    asked = request(interpolate=True, upscale=True)
    expected = finish(tiny_cascade, asked).video.frame_hash
    assert finish(cascade, asked).video.frame_hash == expected
    assert finish(cascade, asked).video.frame_hash == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_makes_almost_the_same_video(tiny_bundle, tiny_cascade, dtype):
    bundle = Bundle(tiny_bundle)
    cascade = Cascade(bundle, Residency(bundle, CPU, dtype, "none"))
    asked = request(interpolate=True, upscale=True)
    ours, expected = (finish(each, asked).video.frames.astype(int) for each in (cascade, tiny_cascade))
    assert 0 < abs(ours - expected).mean() < 2


def test_after_a_run_with_sequential_offload_no_weight_is_left_on_the_device(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    residency = Residency(bundle, CPU, torch.float32, "sequential")
    finish(Cascade(bundle, residency), request())
    with residency.on_device("base") as network:
        assert all(parameter.is_meta for parameter in network.parameters())
