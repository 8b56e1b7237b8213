"""The whole way at full size, with random weights in the published layout: 11 GB of disk, minutes. Marked slow.

`python -m pytest -m slow -s tests/extensions/published` runs it and prints its figures.
"""

import gc
import json
import resource
import time

import pytest
import torch
from safetensors.torch import save_file

from extensions.published.convert import convert, verify
from extensions.published.facts import PUBLISHED
from lavie import Cascade, Request, Sampling, Step
from lavie.bundle import CLASSES, Bundle
from lavie.events import BASE
from lavie.manifest import MANIFEST
from tests.extensions.published.toys import FILES, LARGE, SMALL, write_tokenizer

MAX_MEMORY = 6 * 10**9  # bytes
MAX_SECONDS = 10  # of computing, to load what is in the system's cache


def random_weights(bundle: Bundle, component: str) -> dict[str, torch.Tensor]:
    """Numbers small enough that activations stay finite through the whole depth."""
    return {name: torch.randn(shape) * 0.02 for name, shape in bundle.shapes(component).items()}


def write_full_size(folder, plan):
    """Every published file but SEINE's, in float32 as published; super-resolution under `ema`."""
    for component in PUBLISHED.configs.keys() & FILES.keys() - {"extension"}:
        (plan / component).mkdir(parents=True)
        (plan / component / "config.json").write_text(json.dumps(PUBLISHED.configs[component]))
    (plan / MANIFEST).write_text(json.dumps({"format": 1, **PUBLISHED.manifest}))
    bundle = Bundle(plan)
    for component in [name for name in CLASSES if (plan / name).is_dir()]:
        file = folder / FILES[component]
        file.parent.mkdir(parents=True, exist_ok=True)
        state = random_weights(bundle, component)
        if file.suffix == ".safetensors":
            save_file(state, file)
        else:
            torch.save({"ema": state} if component == "super_resolution" else state, file)
        del state
        gc.collect()
    for side in (SMALL, LARGE):
        write_tokenizer(folder / side / "tokenizer", "!")


def measure(folder, output) -> dict[str, float]:
    """Convert, verify, load, one step: bytes, seconds, and seconds of computing, since others may use the machine."""
    figures = {"published_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())}
    began = time.monotonic()
    *_, converted = convert(folder, output)
    figures |= {"convert_seconds": time.monotonic() - began, "convert_peak_bytes": converted.peak_memory}
    figures["children_peak_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert max(figures["convert_peak_bytes"], figures["children_peak_bytes"]) <= MAX_MEMORY
    figures["bundle_bytes"] = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())

    began = time.monotonic()
    *_, verdict = verify(output)
    figures["verify_seconds"] = time.monotonic() - began
    assert verdict.whole and not any(verdict.stages.values())

    # From nothing loaded to the base network ready for its first step: text encoder, prompt, network.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, computed = time.monotonic(), time.process_time()
    cascade = Cascade.from_bundle(output, device="cpu")
    cascade.provenance()
    cascade.embed(BASE, "a panda")
    with cascade.residency.on_device(BASE) as network:
        figures |= {"load_seconds": time.monotonic() - began, "load_computed_seconds": time.process_time() - computed}
        figures["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    figures["load_peak_growth_bytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert figures["load_computed_seconds"] <= MAX_SECONDS

    began, computed = time.monotonic(), time.process_time()
    request = Request("a panda", seed=1, base=Sampling(steps=50))
    step = next(event for event in cascade.generate(request) if isinstance(event, Step))
    assert step.index == 1
    figures |= {"step_seconds": time.monotonic() - began, "step_computed_seconds": time.process_time() - computed}
    return figures


@pytest.mark.slow
def test_full_size_networks_are_converted_verified_loaded_and_run(tmp_path):
    folder = tmp_path / "pretrained_models"
    write_full_size(folder, tmp_path / "plan")
    print(json.dumps(measure(folder, tmp_path / "official"), indent=1))
