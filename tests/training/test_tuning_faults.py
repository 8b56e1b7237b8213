"""What can be wrong with a training on own media: it is told in one line, and nothing good is lost."""

import resource
import shutil

import pytest

from lavie.errors import TrainingError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.training.loop import Progress
from lavie.training.tuning import task as task_module
from lavie.training.tuning.session import Session
from lavie.training.tuning.settings import EXTENSION, STILLS
from tests.tiny import write_tiny_bundle
from tests.training.folders import own_folder, write_clip, write_table
from tests.training.runs import notices, read, run


def test_faults_are_counted_told_and_kept(settings, tmp_path):
    data = own_folder(tmp_path / "data", clips=2, pictures=1)
    (data / "empty.png").write_bytes(b"")
    (data / "empty.txt").write_text("a caption")
    broken = write_clip(data / "broken.mp4", 3)
    broken.write_bytes(broken.read_bytes()[:800])
    broken.with_suffix(".txt").write_text("a caption")
    write_clip(data / "short.mp4", 4, frames=3).with_suffix(".txt").write_text("a caption")
    write_table(data / "more.csv", [("gone.mp4", "a caption"), ("clips/0.mp4", "")], ("path", "caption"))
    said = notices(run(settings(data=data, steps=1)))
    assert "5 of 8 left out" in said
    for part in ("empty.png", "broken.mp4", "short.mp4: 3 of 4 frames", "gone.mp4", "its caption is empty"):
        assert part in said
    assert len((tmp_path / "work/left_out.tsv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("clips", "pictures", "values", "said"),
    [
        (0, 2, {}, "no usable clip; for its 2 pictures give --mode stills"),
        (2, 0, {}, "no usable picture"),
        (0, 0, {}, "no usable clip"),
        (2, 0, {"mode": STILLS}, "no usable picture: 2 × a video, not used here"),
        (2, 0, {"kind": SUPER_RESOLUTION}, "no usable clip: 2 × it is too small"),
        (2, 0, {"kind": INTERPOLATION, "frames": 9}, "no usable clip: 2 × it is too short"),
    ],
)
def test_a_folder_with_nothing_usable_is_an_error_with_reasons(settings, tmp_path, clips, pictures, values, said):
    data = own_folder(tmp_path / "data", clips=clips, pictures=pictures)
    with pytest.raises(TrainingError, match=said) as caught:
        run(settings(data=data, **values))
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(settings, tmp_path, monkeypatch):
    original = task_module.joint_loss

    def sabotaged(*arguments):
        loss_at = original(*arguments)
        return lambda step: loss_at(step) * (float("nan") if step == 3 else 1)

    monkeypatch.setattr(task_module, "joint_loss", sabotaged)
    with pytest.raises(TrainingError, match="the loss is nan at step 3"):
        run(settings())
    assert (tmp_path / "work/checkpoint.safetensors").exists() and not (tmp_path / "out").exists()
    monkeypatch.undo()
    run(settings(resume=True))
    assert (tmp_path / "out/cascade.json").exists()


def test_a_full_disk_keeps_the_last_checkpoint(settings, tmp_path):
    run(settings(steps=2))
    kept = (tmp_path / "work/checkpoint.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"checkpoint of step 4 could not be written .* one before it is still"):
            run(settings(steps=4, resume=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "work/checkpoint.safetensors").read_bytes() == kept
    assert not list((tmp_path / "work").glob("*.partial"))
    assert [e.step for e in run(settings(steps=4, resume=True)) if isinstance(e, Progress)] == [3, 4]


def test_a_bundle_is_never_written_over_something_else(settings, tmp_path, tiny_bundle):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"x")
    with pytest.raises(TrainingError, match="photos is there and is no bundle"):
        Session(settings(output=tmp_path / "photos"), read)
    with pytest.raises(TrainingError, match="is what the training starts from"):
        Session(settings(output=tiny_bundle), read)
    assert (tmp_path / "photos/a.png").exists()


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (INTERPOLATION, {"frames": 16}, r"interpolation takes 4 n \+ 1, such as 17"),
        (EXTENSION, {"frames": 1}, "extension needs"),
        (EXTENSION, {"mode": "joint"}, "mode joint is for the base network"),
        (BASE, {"mode": "both"}, "mode is 'both': choose one of joint, concat"),
        (BASE, {"crop": (8, 8)}, "a crop is for super-resolution"),
        (BASE, {"origin": "nothing"}, "origin is 'nothing'"),
        (BASE, {"steps": 0}, "steps is 0"),
        (BASE, {"ema": 1.0}, "ema is 1.0"),
        (BASE, {"learning_rate": -1.0}, "learning rate is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_read(settings, kind, values, said):
    with pytest.raises(TrainingError, match=said):
        settings(kind, **values)


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (BASE, {"size": (33, 16)}, r"size is 33×16: give multiples of 16, such as 32×16"),
        (SUPER_RESOLUTION, {"crop": (64, 16)}, "crop is 64×16: give at most 32×16"),
        (SUPER_RESOLUTION, {"crop": (7, 8)}, "crop is 7×8: give multiples of 2"),
    ],
)
def test_sizes_that_the_networks_cannot_take_are_refused(settings, tmp_path, kind, values, said):
    halved = write_tiny_bundle(tmp_path / "two levels")
    with pytest.raises(TrainingError, match=said):
        Session(settings(kind, model=halved, **values), read)


def test_a_bundle_without_the_network_says_so(settings, tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "part")
    shutil.rmtree(tmp_path / "part/super_resolution")
    with pytest.raises(TrainingError, match="holds no super_resolution to begin with: give --from scratch"):
        Session(settings(SUPER_RESOLUTION, model=tmp_path / "part"), read)
