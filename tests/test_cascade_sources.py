"""What is left open is decided once, what cannot be made is refused at once, and any given video is refined."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from lavie import Cascade, Interpolation, Request, Sampling, SuperResolution
from lavie.errors import BundleError, RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION, StageStarted
from lavie.request import MAX_FRAMES, MAX_SEED
from tests.cascades import clip, copied, finish, request


def test_what_a_request_leaves_open_comes_from_the_bundle(tiny_cascade):
    resolved = tiny_cascade.resolve(request(interpolate=True, upscale=True))
    assert resolved == Request(
        prompt="a red star",
        seed=7,
        width=32,
        height=16,
        frames=4,
        fps=8.0,
        base=Sampling("ddim", 2, 3.0),
        interpolation=Interpolation(Sampling("ddim", 2, 1.0)),
        super_resolution=SuperResolution(Sampling("ddim", 2, 1.0), noise_level=20),
    )


def test_what_a_request_says_is_kept(tiny_cascade):
    asked = request(
        width=48,
        height=32,
        frames=2,
        fps=5.5,
        negative_prompt="a circle",
        base=Sampling("euler", 1, 0.0, 0.5),
        super_resolution=SuperResolution(Sampling("unipc", 3, 2.0, 1.0), noise_level=0),
    )
    assert tiny_cascade.resolve(asked) == asked


@pytest.mark.parametrize("source", [None, clip(5)], ids=["made", "given"])
def test_a_resolved_request_stays_as_it_is_and_survives_json(tiny_cascade, source):
    resolved = tiny_cascade.resolve(request(interpolate=True, upscale=True, seed=None), source)
    assert tiny_cascade.resolve(resolved, source) == resolved
    assert Request.from_json(resolved.to_json()) == resolved


def test_a_seed_is_drawn_where_none_is_given_and_told_at_the_end(tiny_cascade):
    seeds = {tiny_cascade.resolve(request(seed=None)).seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    finished = finish(tiny_cascade, request(seed=None))
    assert finish(tiny_cascade, finished.request).video.frame_hash == finished.video.frame_hash


def test_seed_zero_is_a_seed(tiny_cascade):
    assert tiny_cascade.resolve(request(seed=0)).seed == 0


@pytest.mark.parametrize(("interpolate", "upscale"), [(True, False), (False, True), (True, True)])
def test_a_source_is_refined_without_the_base_stage(tiny_cascade, interpolate, upscale):
    events = list(tiny_cascade.generate(request(interpolate, upscale), clip(5)))
    started = [event.stage for event in events if isinstance(event, StageStarted)]
    assert started == [INTERPOLATION] * interpolate + [SUPER_RESOLUTION] * upscale
    video, scale = events[-1].video, 4 if upscale else 1
    assert video.frames.shape == (17 if interpolate else 5, 16 * scale, 32 * scale, 3)
    assert video.fps == (40 if interpolate else 10)


def test_the_sources_content_counts(tiny_cascade):
    source = clip(4)
    other = type(source)(255 - source.frames, source.fps)
    for asked in (request(interpolate=True), request(upscale=True)):
        hashes = [finish(tiny_cascade, asked, given).video.frame_hash for given in (source, other)]
        assert hashes[0] != hashes[1]


def test_a_source_may_be_longer_and_faster_than_any_request(tiny_cascade):
    frames = MAX_FRAMES + 3
    finished = finish(tiny_cascade, request(upscale=True), clip(frames, 2, 2, fps=240))
    assert len(finished.video) == frames
    assert finished.video.fps == 240


def test_a_source_of_one_frame_is_refined(tiny_cascade):
    assert len(finish(tiny_cascade, request(interpolate=True, upscale=True), clip(1)).video) == 1


def test_enlarging_takes_any_even_size(tiny_cascade):
    video = finish(tiny_cascade, request(upscale=True), clip(2, 18, 30)).video
    assert video.frames.shape == (2, 72, 120, 3)


def test_a_longer_source_begins_with_the_shorter_one_up_to_its_last_overlap(tiny_cascade):
    """Windows of 8 frames, 4 apart: the last one that 16 frames need shares its first 4 with the one before."""
    short, long = (finish(tiny_cascade, request(upscale=True), clip(count)).video.frames for count in (16, 20))
    assert len(long) == 20
    assert np.array_equal(long[:12], short[:12])
    assert not np.array_equal(long[12:16], short[12:16])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"width": 40}, ["width is 40", "Tiny makes multiples of 16", "such as 32"]),
        ({"height": 24}, ["height is 24", "multiples of 16", "such as 32"]),
        ({"height": 8}, ["height is 8", "such as 16"]),
    ],
)
def test_a_size_that_the_networks_cannot_halve_is_refused_with_one_that_they_can(tiny_cascade, values, said):
    with pytest.raises(RequestError) as caught:
        tiny_cascade.resolve(request(**values))
    assert all(part in str(caught.value) for part in said), caught.value
    near = int(str(caught.value).rsplit(" ", 1)[1])
    tiny_cascade.resolve(request(**dict.fromkeys(values, near)))


@pytest.mark.parametrize(
    ("asked", "source", "said"),
    [
        (request(upscale=True), clip(2, 17, 32), ["height is 17", "multiples of 2", "such as 16"]),
        (request(upscale=True), clip(2, 16, 31), ["width is 31", "such as 32"]),
        (request(interpolate=True), clip(2, 18, 32), ["height is 18", "multiples of 16", "such as 16"]),
        (request(upscale=True), clip(1, 2, 2050), ["width is 2050", "at most 2048"]),
        (request(), clip(2), ["no stage to run", "ask for interpolation or super-resolution"]),
    ],
)
def test_a_source_that_cannot_be_refined_is_refused_before_anything_runs(tiny_cascade, asked, source, said):
    with pytest.raises(RequestError) as caught:
        next(tiny_cascade.generate(asked, source))
    assert all(part in str(caught.value) for part in said), caught.value


@pytest.mark.parametrize("stage", [BASE, INTERPOLATION, SUPER_RESOLUTION, "vae", "super_resolution_vae"])
def test_a_stage_whose_weights_are_missing_is_named_before_anything_runs(tiny_bundle, tmp_path, stage):
    folder = copied(tiny_bundle, tmp_path / "copy", f"{stage}/diffusion_pytorch_model.safetensors")
    cascade = Cascade.from_bundle(folder, device="cpu")
    with pytest.raises(BundleError, match=rf"{stage}.diffusion_pytorch_model\.safetensors missing; copy"):
        next(cascade.generate(request(interpolate=True, upscale=True)))


def test_stages_that_are_there_run_without_those_that_are_not(tiny_bundle, tmp_path):
    gone = [INTERPOLATION, SUPER_RESOLUTION, "super_resolution_vae"]
    cascade = Cascade.from_bundle(copied(tiny_bundle, tmp_path / "copy", *gone), device="cpu")
    assert len(finish(cascade, request()).video) == 4


def test_provenance_names_weights_device_and_versions(tiny_cascade):
    provenance = tiny_cascade.provenance()
    assert provenance["bundle"] == "Tiny"
    assert provenance["device"].startswith("cpu (")
    assert provenance["dtype"] == "float32"
    assert provenance["weights"] == tiny_cascade.bundle.hashes()
    assert (provenance["attention"], provenance["offload"]) == ("sdpa", "none")
    assert provenance["threads"] == torch.get_num_threads()
    assert {"torch", "diffusers", "transformers", "python"} <= provenance["versions"].keys()


def test_provenance_names_the_kernels_of_attention_where_not_all_are_allowed(tiny_cascade):
    with sdpa_kernel(SDPBackend.MATH):
        assert tiny_cascade.provenance()["attention"] == "sdpa math"
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]):
        assert tiny_cascade.provenance()["attention"] == "sdpa flash+math"
    assert tiny_cascade.provenance()["attention"] == "sdpa"


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_provenance_names_where_the_weights_were_kept(tiny_bundle, offload):
    assert Cascade.from_bundle(tiny_bundle, "cpu", offload).provenance()["offload"] == offload
