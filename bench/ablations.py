"""What the parts of the base network's training are for: the same few steps once more, each time without one of them.

    python -m bench.ablations [--model assets/nano] [--steps 250] [--anew-steps 700] [--prompts 48] [--unseen 48]
                              [--only NAME …] [--clips 600] [--stills 3000] [--work runs/ablations] [--threads 1]

All variants begin with the bundle's own base network, and see the same clips with the same noise: `joint` as it was
trained, `video only` without stills (LaVie, section 4.1: it forgets), `no temporal attention`, and `no positions`,
where it knows neither rotation nor the bias by distance. The last two are nothing but weights: zeros, held there.
`joint anew` and `video only anew` learn time from nothing, as an inflated text-to-image network does (section 4.1):
what it knew of time is at zero, so that the start makes pictures alone. Purple and hearts are in no clip. A training
that is done is not done again. Prints a table, leaves results/ablations.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.quality import ALL, RESULTS, UNSEEN, measure, show
from lavie.bundle import Bundle
from lavie.events import BASE
from lavie.manifest import MANIFEST, TEXT_ENCODER, VAE
from lavie.training.assemble import write_changed
from lavie.training.diffusion import Batches, Networks, joint_loss
from lavie.training.loop import Plan, fit
from lavie.training.media import LatentSet
from lavie.training.nano.data import encode_world
from lavie.training.nano.networks import quick_attention, start_time_at_zero

JOINT, VIDEO_ONLY, NO_TIME, NO_POSITIONS = "joint", "video only", "no temporal attention", "no positions"
JOINT_ANEW, VIDEO_ONLY_ANEW = "joint anew", "video only anew"
BATCH, SEED = 8, 90


def as_it_is(network: nn.Module) -> None:
    """Nothing is taken from it."""


def without_temporal_attention(network: nn.Module) -> None:
    """Frames no longer see one another, but in the statistics of the group norms."""
    for name, module in network.named_modules():
        if name.endswith("attn_temp"):
            module.requires_grad_(False)
            for parameter in module.to_out[0].parameters():
                parameter.zero_()


def without_positions(network: nn.Module) -> None:
    """Temporal attention sees a set of frames: no angle turns them, no distance is told apart."""
    for name, module in network.named_modules():
        if name.endswith("rotary_emb"):
            module.freqs.zero_()
        if name.endswith("time_rel_pos_bias"):
            module.requires_grad_(False).relative_attention_bias.weight.zero_()


def without_time(network: nn.Module) -> None:
    """All that mixes time adds nothing to begin with; it may learn to."""
    torch.manual_seed(SEED)
    start_time_at_zero(network)


@dataclass(frozen=True)
class Variant:
    """change: what is taken from the network. joint: whether stills are trained on beside clips. anew: whether it has
    time to learn from nothing, and more steps for that."""

    change: Callable[[nn.Module], None]
    joint: bool = True
    anew: bool = False


VARIANTS = {
    JOINT: Variant(as_it_is),
    VIDEO_ONLY: Variant(as_it_is, joint=False),
    NO_TIME: Variant(without_temporal_attention),
    NO_POSITIONS: Variant(without_positions),
    JOINT_ANEW: Variant(without_time, anew=True),
    VIDEO_ONLY_ANEW: Variant(without_time, joint=False, anew=True),
}


def train(name: str, bundle: Bundle, clips: LatentSet, stills: LatentSet, steps: int, work: Path) -> Path:
    """The bundle of a variant, trained unless it is there already: from the same start, with the same amounts."""
    weights = [sha for file, sha in bundle.hashes().items() if file.split("/")[0] in (BASE, TEXT_ENCODER, VAE)]
    decides = json.dumps([weights, len(clips), len(stills), steps])
    folder = work / f"{name.replace(' ', '-')}-{hashlib.sha256(decides.encode()).hexdigest()[:12]}"
    if (folder / "bundle" / MANIFEST).is_file():
        return folder / "bundle"
    variant = VARIANTS[name]
    network = bundle.load(BASE, torch.float32).requires_grad_(True).train()
    text = bundle.load(TEXT_ENCODER, torch.float32)
    with torch.no_grad():
        variant.change(network)
    empty = bundle.text_encoder(BASE).tokens([""])[0]
    networks = Networks(network, text)
    plan = Plan(steps, learning_rate=4e-4, matrix_learning_rate=1.5e-3, warmup=20, ema=0.98, seed=SEED)
    with quick_attention():
        prediction = bundle.defaults[BASE].prediction_type
        batches = Batches(empty, BATCH, plan.seed, prediction)
        loss = joint_loss(networks, clips, stills if variant.joint else None, batches)
        for told in fit(networks, loss, plan, folder):
            left = f"{told.eta_seconds:.0f} s left"
            print(f"{name} {told.step}/{told.steps}  loss {told.loss:.4f}  {left}", file=sys.stderr, flush=True)
    manifest = json.loads((bundle.folder / MANIFEST).read_text(encoding="utf-8"))
    write_changed(folder / "bundle", bundle.folder, {BASE: network}, manifest)
    return folder / "bundle"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="assets/nano", help="folder of a bundle of the procedural world")
    parser.add_argument("--steps", type=int, default=250, help="of each training that goes on")
    parser.add_argument("--anew-steps", type=int, default=700, help="of each that learns time from nothing")
    parser.add_argument("--clips", type=int, default=600, help="that are trained on")
    parser.add_argument("--stills", type=int, default=3000, help="that are trained on")
    parser.add_argument("--prompts", type=int, default=48, help="drawn from all combinations")
    parser.add_argument("--unseen", type=int, default=48, help="with purple or a heart")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"), help="folder of the trainings")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args(argv)
    if min(asked.steps, asked.anew_steps, asked.clips, asked.stills, asked.prompts) < 1 or asked.unseen < 0:
        parser.error("steps, anew-steps, clips, stills and prompts are 1 or more, unseen is 0 or more")
    return asked


def main(argv: list[str] | None = None) -> None:
    asked = parse(argv)
    torch.set_num_threads(asked.threads)
    bundle = Bundle(asked.model)
    vae, text = bundle.load(VAE, torch.float32).eval(), bundle.text_encoder(BASE)
    clips = encode_world(vae, text, asked.clips, SEED, clips=True)
    stills = encode_world(vae, text, asked.stills, SEED, clips=False)
    steps = {name: asked.anew_steps if VARIANTS[name].anew else asked.steps for name in asked.only}
    folders = {name: train(name, bundle, clips, stills, steps[name], asked.work) for name in asked.only}
    groups = {ALL: range(asked.prompts), UNSEEN: range(asked.unseen)}
    results = {name: measure(str(folder), groups, None)[0] for name, folder in folders.items()}
    show(results)
    asked.results.mkdir(parents=True, exist_ok=True)
    facts = {"steps": steps, "batch": BATCH, "clips": asked.clips, "stills": asked.stills, "variants": results}
    (asked.results / "ablations.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
