"""A training run that is killed goes on with the same bits, and its last good checkpoint outlives every failure."""

import json

import pytest
import torch
from torch import nn

from lavie.errors import TrainingError
from lavie.training import media
from lavie.training.loop import MatrixOptimizer, Plan, fit

STEPS = 12


class Net(nn.Module):
    """A kind of everything that is trained: matrices, channels-last convolutions, an embedding table, norms."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.embedding = nn.Embedding(10, 16)
        self.out = nn.Linear(16, 16)
        self.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels, words):
        features = self.norm(self.wide(torch.relu(self.conv(pixels)))).mean((2, 3)) + self.embedding(words)
        return self.out(self.frozen(features))


def loss_of(net: Net):
    def loss_at(step: int):
        generator = torch.Generator().manual_seed(step)
        pixels = torch.randn(4, 3, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
        words = torch.randint(10, (4,), generator=generator)
        return (net(pixels, words) - pixels.mean((1, 2, 3))[:, None]).square().mean()

    return loss_at


def plan(**changes) -> Plan:
    defaults = {"steps": STEPS, "warmup": 2, "checkpoint_every": 5, "report_every": 4, "autocast": False}
    return Plan(**{**defaults, **changes})


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(folder, stop_at: int | None = None, **changes) -> Net:
    """Train a fresh network in `folder`; with `stop_at` the run dies at that step, as a killed one does."""
    net = Net()
    loss_at = loss_of(net)

    def dying(step: int):
        if step == stop_at:
            raise KeyboardInterrupt
        return loss_at(step)

    list(fit(net, dying, plan(**changes), folder))
    return net


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return weights(run(tmp_path_factory.mktemp("whole")))


def test_the_same_run_gives_the_same_bits(whole, tmp_path):
    assert same(weights(run(tmp_path)), whole)


@pytest.mark.parametrize("stop_at", [3, 5, 7, 11])
def test_a_run_that_is_killed_and_resumed_ends_with_the_bits_of_one_that_was_not(whole, tmp_path, stop_at):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_at=stop_at)
    assert same(weights(run(tmp_path)), whole)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(whole, tmp_path):
    for stop_at in (6, 6, 9, 11):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, stop_at=stop_at)
    assert same(weights(run(tmp_path)), whole)


def test_a_run_that_is_over_hands_out_its_result_again_without_a_step(whole, tmp_path):
    run(tmp_path)
    net = Net()
    assert list(fit(net, lambda step: pytest.fail("it trained again"), plan(), tmp_path)) == []
    assert same(weights(net), whole)


def test_whoever_stops_listening_has_stopped_the_run_and_may_resume_it(whole, tmp_path):
    net = Net()
    reports = fit(net, loss_of(net), plan(), tmp_path)
    next(reports)
    next(reports)
    reports.close()
    assert same(weights(run(tmp_path)), whole)


def test_a_run_that_is_asked_to_stop_ends_behind_that_step_and_may_be_resumed(whole, tmp_path):
    net, asked = Net(), []

    def stop(done: int) -> bool:
        asked.append(done)
        return done == 5

    done = yield_from(fit(net, loss_of(net), plan(checkpoint_every=1000), tmp_path, stop=stop))
    assert done == 5 and asked == [1, 2, 3, 4, 5]
    net = Net()
    steps = plan().steps
    assert yield_from(fit(net, loss_of(net), plan(), tmp_path, stop=lambda done: done == steps)) == steps
    assert same(weights(net), whole)


def yield_from(run):
    """What a generator returns."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def test_training_lowers_the_loss_and_leaves_frozen_weights_alone(tmp_path):
    net, before = Net(), weights(Net())
    reports = list(fit(net, loss_of(net), plan(steps=60, report_every=10), tmp_path))
    assert reports[-1].loss < 0.7 * reports[0].loss
    assert torch.equal(net.frozen.weight, before["frozen.weight"])
    assert not torch.equal(net.out.weight, before["out.weight"])


def test_progress_is_told_and_logged(tmp_path):
    net = Net()
    reports = list(fit(net, loss_of(net), plan(), tmp_path))
    assert [(report.step, report.steps) for report in reports] == [(4, 12), (8, 12), (12, 12)]
    logged = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [entry["loss"] for entry in logged] == [report.loss for report in reports]
    assert reports[-1].eta_seconds == 0
    assert reports[0].eta_seconds == pytest.approx(8 * reports[0].seconds_a_step)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_checkpoint_as_it_was(tmp_path, value):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_at=6)
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()
    net = Net()
    loss_at = loss_of(net)
    with pytest.raises(TrainingError, match=f"the loss is {value} at step 8: lower the learning rate") as caught:
        list(fit(net, lambda step: loss_at(step) * (value if step == 8 else 1), plan(), tmp_path))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept


def test_a_gradient_that_is_no_number_never_reaches_a_checkpoint(tmp_path):
    """√0 has a finite value and an infinite slope: the loss alone would tell one checkpoint too late."""
    net = Net()
    loss_at = loss_of(net)

    def loss_with_a_trap(step):
        return loss_at(step) + (0 * net.out.weight).sum().sqrt() if step == 4 else loss_at(step)

    with pytest.raises(TrainingError, match="gradient is nan at step 4"):
        list(fit(net, loss_with_a_trap, plan(), tmp_path))
    assert not (tmp_path / "checkpoint.safetensors").exists()
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


def test_a_checkpoint_write_that_is_interrupted_keeps_the_last_good_one(whole, tmp_path, monkeypatch):
    save_file, writes = media.save_file, []

    def full_disk(tensors, path, metadata):
        writes.append(path)
        if len(writes) == 2:
            path.write_bytes(b"half a checkpoint")
            raise OSError(28, "No space left on device")
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr(media, "save_file", full_disk)
    with pytest.raises(TrainingError, match=r"step 10 .*No space left.* the one before it is still there") as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.partial"))
    monkeypatch.undo()
    assert same(weights(run(tmp_path)), whole)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["checkpoint.safetensors"]


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path):
    path.write_bytes(b"")


def _overwrite(path):
    path.write_bytes(b"x" * 999)


@pytest.mark.parametrize("damage", [_cut, _empty, _overwrite])
def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_at=6)
    damage(tmp_path / "checkpoint.safetensors")
    with pytest.raises(
        TrainingError, match=r"checkpoint\.safetensors is damaged .* delete it to start again"
    ) as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    other = nn.ModuleDict({"a": nn.Linear(16, 16)})
    list(fit(other, lambda step: other["a"].weight.square().sum(), plan(), tmp_path))
    with pytest.raises(TrainingError, match=r"checkpoint\.safetensors .*belongs to another network"):
        run(tmp_path)


def test_the_result_is_the_moving_average_and_not_the_last_step(tmp_path):
    averaged = run(tmp_path / "a", ema=0.9)
    last = run(tmp_path / "b", ema=0.0)
    assert not torch.equal(averaged.out.weight, last.out.weight)


def test_what_no_step_asks_for_decays_in_matrices_alone():
    parameters = {name: nn.Parameter(torch.ones(shape)) for name, shape in (("a.weight", (16, 16)), ("a.bias", (16,)))}
    optimizer = MatrixOptimizer(parameters, 0.1, 0.1, matrix_weight_decay=0.5)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.5)
    torch.testing.assert_close(parameters["a.weight"].data, torch.full((16, 16), 1 - 0.5 * 0.1 * 0.5))
    assert torch.equal(parameters["a.bias"].data, torch.ones(16))


def test_the_learning_rate_rises_holds_and_falls_to_nothing():
    schedule = plan(steps=100, warmup=10, decay=0.5)
    shares = [schedule.share_at(step) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[:10] == sorted(shares[:10])
    assert set(shares[10:50]) == {1.0}
    assert shares[50:] == sorted(shares[50:], reverse=True)
    assert shares[100] == pytest.approx(0)
