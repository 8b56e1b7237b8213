"""Arguments win over the environment, the environment over defaults; nothing is created."""

from pathlib import Path

import pytest

from app.config import ROOT, ConfigError, Limits, Space, StudioConfig, read_config


def nothing_writable(folder):
    return False


def everything_writable(folder):
    return True


def test_defaults():
    assert read_config({}) == StudioConfig(Path("data"), "nano", "auto", "127.0.0.1", 7860, None)


def test_the_environment_decides_what_no_argument_does():
    environ = {
        "LAVIE_DATA": "/somewhere",
        "LAVIE_MODEL": "official",
        "LAVIE_DEVICE": "cpu",
        "LAVIE_HOST": "0.0.0.0",
        "LAVIE_PORT": "8000",
        "LAVIE_AUTH": "me:a:b",
    }
    named = StudioConfig(Path("/somewhere"), "official", "cpu", "0.0.0.0", 8000, ("me", "a:b"), model_named=True)
    assert read_config(environ) == named
    given = read_config(environ, data=Path("x"), model="y", device="mps", host="h", port=1, auth="u:p")
    assert given == StudioConfig(Path("x"), "y", "mps", "h", 1, ("u", "p"), model_named=True)


def test_empty_variables_count_as_absent():
    assert read_config({"LAVIE_DATA": "", "LAVIE_PORT": "", "LAVIE_AUTH": "", "SPACE_ID": ""}) == StudioConfig()


def test_a_space_keeps_its_data_on_its_own_disk_and_copies_where_they_outlive_a_restart():
    space = {"SPACE_ID": "someone/studio", "SPACE_HOST": "someone-studio.hf.space"}
    there = read_config(space, writable=everything_writable)
    assert (there.data, there.snapshots) == (Path("data"), Path("/data/studio"))
    assert read_config(space, writable=nothing_writable).snapshots is None
    assert read_config({**space, "LAVIE_SNAPSHOTS": "/mine"}, writable=everything_writable).snapshots == Path("/mine")
    assert read_config({}, writable=everything_writable).snapshots is None
    assert read_config({"LAVIE_SNAPSHOTS": "/mine"}).snapshots == Path("/mine")
    assert there.host == "0.0.0.0" and there.space == Space("someone-studio.hf.space")


def test_a_space_says_whether_its_device_is_only_lent():
    space = {"SPACE_ID": "someone/studio", "SPACES_ZERO_GPU": "true"}
    assert read_config(space, writable=nothing_writable).zero_gpu
    assert not read_config({**space, "SPACES_ZERO_GPU": "false"}, writable=nothing_writable).zero_gpu
    assert not read_config({"SPACES_ZERO_GPU": "true"}).zero_gpu


def test_limits_are_numbers_or_nothing():
    assert read_config({}).limits == Limits() == read_config({"LAVIE_LIMIT_JOBS": ""}).limits
    assert read_config({"LAVIE_LIMIT_JOBS": "3", "LAVIE_LIMIT_SECONDS": "7.5"}).limits == Limits(3, 7.5)
    for name, value in (("JOBS", "0"), ("JOBS", "1.5"), ("SECONDS", "0"), ("SECONDS", "nan"), ("SECONDS", "much")):
        with pytest.raises(ConfigError, match=rf"(?i)limit.{{1,4}}{name} is '?{value}"):
            read_config({f"LAVIE_LIMIT_{name}": value})


def test_workers_are_local_or_devices_of_a_cluster():
    assert (StudioConfig().over_ray, StudioConfig().devices) == (False, None)
    open_number, four = read_config({"LAVIE_WORKERS": "ray"}), read_config({"LAVIE_WORKERS": "ray"}, workers="ray:4")
    assert (open_number.over_ray, open_number.devices, four.over_ray, four.devices) == (True, None, True, 4)
    for wrong in ("ray:0", "ray:x", "ray:", "dask", "ray:12345"):
        with pytest.raises(ConfigError, match=f"workers is '{wrong}': give local, ray"):
            read_config({}, workers=wrong)
    with pytest.raises(ConfigError, match="ZeroGPU lends the device: give local"):
        StudioConfig(workers="ray", space=Space(zero_gpu=True))


def test_models_are_folders():
    assert StudioConfig(model="nano").bundle == ROOT / "assets" / "nano"
    assert (ROOT / "app.py").is_file()
    assert StudioConfig(Path("d"), model="official").bundle == Path("d/models/official")
    assert StudioConfig(model="some/folder").bundle == Path("some/folder")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_outside_its_range_is_refused(port):
    with pytest.raises(ConfigError, match=f"port is {port}: give a number from 1 to 65535"):
        read_config({}, port=port)


def test_a_port_that_is_no_number_is_refused():
    with pytest.raises(ConfigError, match="LAVIE_PORT is 'http'"):
        read_config({"LAVIE_PORT": "http"})


def test_how_long_work_is_kept_is_a_number_of_days():
    assert read_config({}).keep_work_days == 7
    assert read_config({"LAVIE_KEEP_WORK_DAYS": "0.5"}).keep_work_days == 0.5
    assert read_config({"LAVIE_KEEP_WORK_DAYS": "0"}).keep_work_days == 0
    assert read_config({"LAVIE_KEEP_WORK_DAYS": ""}).keep_work_days == 7


@pytest.mark.parametrize("days", ["a week", "-1", "nan", "inf", "36501"])
def test_days_that_are_none_are_refused(days):
    with pytest.raises(ConfigError, match=f"(?i)keep_work_days is '?{days}.*: give days from 0 to 36500"):
        read_config({"LAVIE_KEEP_WORK_DAYS": days})


@pytest.mark.parametrize("auth", ["me", "me:", ":secret"])
def test_half_a_login_is_refused_without_repeating_it(auth):
    with pytest.raises(ConfigError, match="user:password") as caught:
        read_config({}, auth=auth)
    assert "secret" not in str(caught.value)


def test_reading_settings_creates_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_config({}).clips == Path("data/clips")
    assert list(tmp_path.iterdir()) == []
