"""Training on own media: every network from every start, to a bundle that plays; resumed, it ends the same."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lavie import Cascade
from lavie.bundle import Bundle
from lavie.errors import TrainingError
from lavie.events import BASE, SUPER_RESOLUTION
from lavie.training.loop import Progress
from lavie.training.tuning import task as task_module
from lavie.training.tuning.session import Samples, Session, Validation
from lavie.training.tuning.settings import EXTENSION, FROM_BUNDLE, FROM_LAYOUT, FROM_SCRATCH, KINDS, MODES
from lavie.training.tuning.task import build_starting_network, freeze_spatial
from tests import tiny
from tests.cascades import finish, request
from tests.training.runs import notices, read, run, stored


@pytest.mark.parametrize("kind", KINDS)
def test_every_network_trains_validates_shows_and_leaves_a_bundle(settings, tiny_bundle, tmp_path, kind):
    events = run(settings(kind, steps=2, validate_every=2, samples_every=2))
    assert [event.step for event in events if isinstance(event, Progress)] == [1, 2]
    (validation,) = [event for event in events if isinstance(event, Validation)]
    assert validation.step == 2 and 0 < validation.loss < 10
    (samples,) = [event for event in events if isinstance(event, Samples)]
    factor = 4 if kind == SUPER_RESOLUTION else 1
    assert {video.frames.shape[1:3] for video in samples.videos} == {(16 * factor, 32 * factor)}
    assert json.loads((tmp_path / "work/validation.jsonl").read_text()) == {"step": 2, "loss": validation.loss}
    changed, before = stored(tmp_path / "out", kind), tiny_bundle / kind / "diffusion_pytorch_model.safetensors"
    if kind == EXTENSION:
        assert changed["conv_in.weight"].shape[1] == 9
        assert json.loads((tmp_path / "out/cascade.json").read_text())[EXTENSION]["sampler"] == "ddim"
    else:
        assert any(not torch.equal(tensor, load_file(before)[name]) for name, tensor in changed.items())
    video = finish(Cascade.from_bundle(tmp_path / "out", device="cpu"), request(True, True)).video
    assert len(video) == 13


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_the_base_network_trains(settings, mode):
    events = run(settings(mode=mode, steps=1))
    assert [event.step for event in events if isinstance(event, Progress)] == [1]
    unused = {"video-only": "2 × a picture, not used here", "stills": "3 × a video, not used here"}
    assert unused.get(mode, "all 5 media are usable") in notices(events)


def test_training_lowers_the_loss_on_what_is_shown(settings):
    reports = [event.loss for event in run(settings(steps=20, batch=2)) if isinstance(event, Progress)]
    assert sum(reports[-5:]) < 0.8 * sum(reports[:5])


def test_a_run_that_was_killed_goes_on_to_the_same_weights(settings, tmp_path):
    run(settings(work=tmp_path / "a", output=tmp_path / "whole", validate_every=1))
    killed = Session(settings(work=tmp_path / "b", output=tmp_path / "resumed", validate_every=1), read).run()
    for event in killed:
        if isinstance(event, Progress) and event.step == 3:
            break
    killed.close()
    assert not (tmp_path / "resumed").exists()
    events = run(settings(work=tmp_path / "b", output=tmp_path / "resumed", validate_every=1, resume=True))
    assert [event.step for event in events if isinstance(event, Progress)] == [3, 4]
    whole, resumed = stored(tmp_path / "whole", BASE), stored(tmp_path / "resumed", BASE)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_watching_a_run_changes_nothing_of_it(settings, tmp_path):
    run(settings(work=tmp_path / "a", output=tmp_path / "watched", validate_every=1, samples_every=2))
    run(settings(work=tmp_path / "b", output=tmp_path / "alone"))
    watched, alone = stored(tmp_path / "watched", BASE), stored(tmp_path / "alone", BASE)
    assert all(torch.equal(watched[name], alone[name]) for name in watched)


def test_a_validation_loss_is_the_same_for_the_same_weights(settings, tmp_path):
    def losses(work, seed):
        asked = settings(work=tmp_path / work, output=tmp_path / "out", validate_every=1, seed=seed, steps=1)
        session = Session(asked, read)
        return [session._validate(session.task.loss(*held, 1, 5), 1).loss for held in [_held(session)] * 2]

    assert losses("a", 1)[0] == losses("a", 1)[1] == losses("b", 2)[0]


def _held(session):
    session.settings.work.mkdir(exist_ok=True)
    sets = session._sets()
    while True:
        try:
            next(sets)
        except StopIteration as end:
            return end.value[1]


def test_a_checkpoint_is_gone_on_from_only_when_asked(settings, tmp_path):
    run(settings())
    with pytest.raises(TrainingError, match=r"work holds the checkpoint of a run: give --resume"):
        Session(settings(), read)
    said = notices(run(settings(resume=True, learning_rate=2e-3)))
    assert "goes on from its last checkpoint" in said
    assert "learning_rate was 0.001, is 0.002" in said


def test_to_resume_what_has_not_begun_is_to_begin(settings):
    assert "no checkpoint yet" in notices(run(settings(resume=True, steps=1)))


def test_a_second_start_encodes_nothing(settings, monkeypatch):
    run(settings(steps=1))
    monkeypatch.setattr(task_module.Task, "encode", lambda *_: pytest.fail("it was encoded again"))
    run(settings(steps=1, resume=True))


def test_extension_begins_as_the_base_network_that_does_not_look_at_its_new_inputs(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    network, source = build_starting_network(bundle, EXTENSION, FROM_BUNDLE, 0)
    base = bundle.load(BASE, torch.float32)
    noisy, beside, text = torch.randn(1, 4, 3, 2, 4), torch.randn(1, 5, 3, 2, 4), torch.randn(1, 24, tiny.TEXT_WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(network(torch.cat([noisy, beside], 1), 9, text), base(noisy, 9, text))
    assert "base" in source


def test_an_extension_network_is_trained_further_from_its_bundle(settings, tmp_path):
    run(settings(EXTENSION, steps=1))
    events = run(settings(EXTENSION, steps=1, model=tmp_path / "out", work=tmp_path / "w2", output=tmp_path / "out2"))
    assert "Tiny’s extension" in notices(events)


@pytest.mark.parametrize("kind", KINDS)
def test_scratch_is_the_bundles_layout_with_other_weights(tiny_bundle, kind):
    bundle = Bundle(tiny_bundle)
    fresh, source = build_starting_network(bundle, kind, FROM_SCRATCH, 1)
    trained, _ = build_starting_network(bundle, kind, FROM_BUNDLE, 1)
    shapes = [{name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} for net in (fresh, trained)]
    assert shapes[0] == shapes[1]
    assert not torch.equal(fresh.conv_out.weight, trained.conv_out.weight)
    again, _ = build_starting_network(bundle, kind, FROM_SCRATCH, 1)
    assert torch.equal(fresh.conv_out.weight, again.conv_out.weight)
    assert source == "random weights"


def test_the_published_layout_has_the_published_widths(tiny_bundle, monkeypatch):
    from lavie.training.tuning import task

    seen = []
    monkeypatch.setattr(task, "start_time_at_zero", lambda network: network)
    kind = task.CLASSES[EXTENSION]
    monkeypatch.setattr(kind, "from_config", lambda config: seen.append(config) or torch.nn.Linear(1, 1))
    build_starting_network(Bundle(tiny_bundle), EXTENSION, FROM_LAYOUT, 0)
    assert seen == [{"cross_attention_dim": tiny.TEXT_WIDTH, "in_channels": 9}]  # all else by the class's defaults


@pytest.mark.parametrize("kind", [BASE, SUPER_RESOLUTION])
def test_a_frozen_spatial_part_stays_and_time_is_trained(settings, tiny_bundle, tmp_path, kind):
    """At the size of a crop, where torch crashes without `_track_input`."""
    values = {"crop": (16, 8)} if kind == SUPER_RESOLUTION else {}
    run(settings(kind, steps=2, freeze_spatial=True, ema=0.0, **values))
    before, after = stored(tiny_bundle, kind), stored(tmp_path / "out", kind)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("temp" in name for name in moved)


def test_all_that_mixes_time_is_what_stills_pass_by(tiny_bundle):
    """What `freeze_spatial` leaves to train is just what gets no gradient from stills."""
    network, _ = build_starting_network(Bundle(tiny_bundle), SUPER_RESOLUTION, FROM_BUNDLE, 0)
    arguments = torch.randn(1, 4, 1, 4, 8), torch.tensor([3]), torch.randn(1, 24, tiny.TEXT_WIDTH)
    network(*arguments, class_labels=2, image_frames=1, low_res=torch.randn(1, 3, 1, 4, 8)).sum().backward()
    passed_by = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    freeze_spatial(network)
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == passed_by


@pytest.mark.slow
def test_gradient_checkpointing_changes_memory_and_no_bits(settings, tmp_path):
    run(settings(work=tmp_path / "a", output=tmp_path / "plain", steps=2))
    run(settings(work=tmp_path / "b", output=tmp_path / "spared", steps=2, gradient_checkpointing=True))
    plain, spared = stored(tmp_path / "plain", BASE), stored(tmp_path / "spared", BASE)
    assert all(torch.equal(plain[name], spared[name]) for name in plain)
