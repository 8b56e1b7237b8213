"""A training from its media to a file that our importer reads; resumed, it ends with the same bits."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from extensions.lora.embeddings import extend_vocabulary, spell
from extensions.lora.files.header import read_header
from extensions.lora.files.inspection import inspect
from extensions.lora.files.read import read_deltas, targets_in
from extensions.lora.hooks import hooks_of
from extensions.lora.training.factors import VECTORS
from extensions.lora.training.session import LoraSession
from lavie.bundle import BASE, Bundle
from lavie.errors import TrainingError
from lavie.training.loop import Progress
from lavie.training.tuning.session import Samples
from tests.bundles import change_json
from tests.extensions.lora.training.conftest import TRIGGER, notices, read, run


def trained(settings) -> LoraSession:
    session = LoraSession(settings, read)
    session.events = list(session.run())
    return session


@torch.no_grad()
def output(session: LoraSession, network=None) -> torch.Tensor:
    """What a network makes of fixed noise and a prompt with the trigger."""
    network = session.network if network is None else network
    prompt = spell(f"a {TRIGGER} on a navy background", session._words)
    text = session._encoder.encode(session.text_model, [prompt], "cpu")
    noise = torch.randn(1, 4, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    return network(noise, 500, text)


def test_the_file_does_what_was_trained_and_the_base_stays(settings, tiny_bundle):
    session = trained(settings(learning_rate=0.1, prior=0.5))
    assert [event.step for event in session.events if isinstance(event, Progress)] == [1, 2, 3, 4]
    bundle = Bundle(tiny_bundle)
    plain = bundle.load(BASE, torch.float32)
    before = plain.state_dict()
    now = {name: value for name, value in session.network.state_dict().items() if name in before}
    assert now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in before)
    untouched = bundle.load("text_encoder", torch.float32).state_dict()
    assert all(torch.equal(session.text_model.state_dict()[name], value) for name, value in untouched.items())
    changes = read_deltas(session.settings.output, targets_in(bundle))
    assert changes.unmatched == () and changes.unet and not changes.text
    hooks_of(plain).add("file", changes.unet)
    with extend_vocabulary(session._encoder, session.text_model, changes.words):
        ours, theirs = output(session), output(session, plain)
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)  # the file has float16
    assert (ours - output(session, bundle.load(BASE, torch.float32))).abs().max() > 0.01


def test_the_file_tells_other_tools_what_they_look_for(settings):
    session = trained(settings(steps=2))
    said = read_header(session.settings.output).metadata
    assert said["ss_base_model_version"] == "lavie_tiny" and said["modelspec.architecture"] == "lavie-tiny/lora"
    assert (said["modelspec.trigger_phrase"], said["ss_num_train_images"], said["ss_steps"]) == (TRIGGER, "2", "2")
    card = inspect(session.settings.output, targets_in(session.bundle))
    assert card.trigger_words == (TRIGGER,) and card.base_model == "LaVie" and card.unmatched == 0
    assert any(f"a {TRIGGER}" in tag for tag in card.tags)


def test_a_trigger_of_a_closed_vocabulary_comes_back_with_its_vectors(settings, tiny_bundle, tmp_path):
    model = shutil.copytree(tiny_bundle, tmp_path / "model")
    change_json(model / "cascade.json", words={"colour": ["red", "blue"], "shape": ["star", "heart"]})
    session = trained(settings(learning_rate=0.1, model=model))
    changes = read_deltas(session.settings.output, targets_in(session.bundle))
    assert changes.words.keys() == {TRIGGER}
    assert torch.equal(changes.words[TRIGGER], session.trigger.words()[TRIGGER].detach())
    assert changes.words[TRIGGER].shape == (VECTORS, 32)
    (begun,) = re.findall(rf"“{TRIGGER}” begins as “((?:red|blue) (?:star|heart))”", notices(session.events))
    numbers = session._encoder.tokenizer.convert_tokens_to_ids(begun.split())
    start = session.text_model.get_input_embeddings().weight[torch.tensor(numbers)]
    assert 0.01 < (changes.words[TRIGGER] - start).abs().max() < 1


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bits and say the same; the order of their headers is the library's own."""
    ours, theirs = load_file(one), load_file(other)
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    return equal and read_header(one).metadata == read_header(other).metadata


def test_resumed_it_ends_with_the_same_bits(settings, tmp_path):
    def asked(name, **values):
        return settings(work=tmp_path / name, output=tmp_path / f"{name}/out.safetensors", prior=0.5, **values)

    whole = trained(asked("whole"))
    killed = LoraSession(asked("killed"), read).run()
    for event in killed:
        if isinstance(event, Progress) and event.step == 3:
            break
    killed.close()
    assert not (tmp_path / "killed/out.safetensors").exists()
    with pytest.raises(TrainingError, match="killed holds the checkpoint of a run: give --resume"):
        LoraSession(asked("killed"), read)
    events = run(asked("killed", resume=True, samples_every=1))
    assert [event.step for event in events if isinstance(event, Progress)] == [3, 4]
    assert same(tmp_path / "killed/out.safetensors", whole.settings.output)
    assert "changed" not in notices(events)


def test_samples_from_step_0_on_and_the_last_checkpoints(settings, tmp_path):
    asked = settings(samples_every=2, checkpoint_every=1, keep=2, prompts=("a red square", f"a {TRIGGER}"))
    samples = [event for event in run(asked) if isinstance(event, Samples)]
    assert [each.step for each in samples] == [0, 2, 4] and len(samples[0].videos) == 2
    kept = sorted(path.name for path in (tmp_path / "work/checkpoints").iterdir())
    assert kept == ["out-000003.safetensors", "out-000004.safetensors"]
    last, final = load_file(tmp_path / "work/checkpoints" / kept[1]), load_file(asked.output)
    assert all(torch.equal(last[key], final[key]) for key in final)
    assert inspect(tmp_path / "work/checkpoints" / kept[0], targets_in(Bundle(asked.model))).unmatched == 0


@pytest.mark.parametrize(("preset", "pieces"), [("subject", "attn1"), ("style", ".ff."), ("motion", "attn_temp")])
def test_each_preset_changes_its_own_layers(settings, clips, pictures, preset, pieces):
    asked = settings(preset, images=(clips if preset == "motion" else pictures,), steps=1)
    changes = read_deltas(trained(asked).settings.output, targets_in(Bundle(asked.model)))
    over_time = {layer for layer in changes.unet if "temp" in layer}
    assert any(pieces in layer for layer in changes.unet)
    heard = {layer for layer in changes.unet if "attn2" in layer}  # where each frame reads a text of its own
    assert over_time == (changes.unet.keys() - heard if preset == "motion" else set())


def test_every_factor_is_trained(settings):
    session = LoraSession(settings(learning_rate=0.1, steps=3), read)
    session._load()
    before = copy.deepcopy(session.trained.state_dict())
    list(session.run())
    after = session.trained.state_dict()
    assert before.keys() == after.keys() and not any(torch.equal(after[name], before[name]) for name in before)


def test_what_is_told_before_the_start(settings, pictures, tmp_path):
    said = notices(run(settings(steps=1)))
    assert "subject: 2 media, 1 steps of 4" in said and "GiB of memory" in said
    assert f"“{TRIGGER}” gets vectors" in said and "ordinary word" not in said
    said = notices(run(settings(steps=1, trigger="circle", images=(pictures / "0.png",), work=tmp_path / "other")))
    assert "“circle” is an ordinary word of this model" in said and "there is one medium only" in said
    assert "1 of 1 captions do not hold “circle” (0.png): add it to them" in said


def test_a_loss_that_is_no_number_stops_it(settings, monkeypatch):
    monkeypatch.setattr("extensions.lora.training.losses.weighted_error", lambda said, *_: said.sum() * float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        run(settings())


def test_a_place_that_cannot_be_written(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be made"):
        LoraSession(settings(output=tmp_path / "file/out.safetensors"), read)
