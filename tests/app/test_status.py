"""What the settings' tab tells: bundle, device, disk, versions, as values."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from app.config import ROOT, StudioConfig
from app.gallery import Query
from app.gallery.rebuild import check_files
from app.gallery.search import find_clips
from app.gallery.trash import move_to_trash
from app.models.loaded import load_cascade
from app.status import bundle_status, device_status, disk_status, versions
from app.storage.latents import StageLatents
from app.studio import Studio
from lavie.errors import StorageError
from lavie.request import STAGES, Request
from tests.app.studios import ended, until
from tests.fakes import FakeCascade

COLD = """
import sys
from pathlib import Path
from app.config import StudioConfig
from app.status import bundle_status, device_status, disk_status, versions
from app.studio import Studio
studio = Studio(StudioConfig(data=Path(sys.argv[1])))
bundle = bundle_status(studio.workspace)
print(bundle.name, len(bundle.weights), bundle.missing, device_status(studio.workspace).runs_on)
disk_status(studio.workspace), versions()
print(sorted({"torch", "gradio", "diffusers"} & set(sys.modules)))
studio.close()
"""


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def warm(bundle, tmp_path):
    """A studio with the real cascade, loaded."""
    studio = Studio(StudioConfig(data=tmp_path / "data", model=str(bundle), device="cpu"), load=load_cascade)
    studio.serve()
    studio.warm()
    until(lambda: studio.models.cascade is not None)
    yield studio
    studio.close()


def test_nothing_heavy_is_imported_for_it(tmp_path):
    done = subprocess.run([sys.executable, "-c", COLD, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["Nano 8 {} {}", "[]"], done.stderr


def test_a_whole_bundle(warm, bundle):
    status = bundle_status(warm.workspace)
    assert (status.name, status.folder, status.missing) == ("Tiny", bundle, {stage: [] for stage in STAGES})
    assert status.weights["base"] == (bundle / "base" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert set(status.weights) == {"base", "interpolation", "super_resolution", "vae", "text_encoder"} | {
        "super_resolution_vae"
    }


def test_what_is_missing_is_named_for_each_stage(warm, bundle):
    (bundle / "interpolation" / "diffusion_pytorch_model.safetensors").unlink()
    status = bundle_status(warm.workspace)
    assert status.missing["base"] == status.missing["super_resolution"] == []
    assert status.missing["interpolation"] == ["interpolation/diffusion_pytorch_model.safetensors"]
    assert "interpolation" not in status.weights


@pytest.mark.parametrize("damage", ["", "{}", '{"format": 99}'])
def test_a_bundle_that_cannot_be_read(warm, bundle, damage):
    (bundle / "cascade.json").write_text(damage)
    status = bundle_status(warm.workspace)
    assert (status.name, status.missing) == (None, {}) and status.weights


def test_a_bundle_that_is_gone(warm, bundle):
    shutil.rmtree(bundle)
    assert (bundle_status(warm.workspace).name, bundle_status(warm.workspace).weights) == (None, {})


def test_the_device_and_what_is_on_it(warm):
    before = device_status(warm.workspace)
    assert (before.asked, before.loaded, before.state) == ("cpu", (), "ready")
    assert before.runs_on["device"].startswith("cpu (") and before.runs_on["dtype"] == "float32"
    ended(warm, warm.submit(Request("a red star", seed=1)))
    assert device_status(warm.workspace).loaded == ("text_encoder", "base", "vae")


def test_a_model_that_cannot_be_loaded(make_studio, tmp_path):
    studio = Studio(StudioConfig(data=tmp_path / "data", model=str(tmp_path / "gone")))
    studio.serve()
    studio.warm()
    until(lambda: studio.models.state not in ("loading", "ready"))
    assert "gone" in device_status(studio.workspace).state and device_status(studio.workspace).runs_on == {}
    studio.close()


def test_the_disk(make_studio):
    studio = make_studio(FakeCascade())
    empty = disk_status(studio.workspace)
    assert empty.clips == empty.trash == empty.work == (0, 0)
    assert 0 < empty.free <= empty.total and empty.database > 0 and empty.folder.is_absolute()
    ids = [ended(studio, studio.submit(Request("a red star", seed=seed))).row.id for seed in (1, 2, 3)]
    move_to_trash(studio.gallery, ids[0])
    studio.gallery.require(ids[1]).path.unlink()
    check_files(studio.gallery)
    sizes = {clip.id: clip.bytes for clip in find_clips(studio.gallery, Query()).clips}
    disk = disk_status(studio.workspace)
    assert disk.clips == (1, sizes[ids[2]]) and disk.trash[0] == 1 and disk.trash[1] > 0
    assert disk.work[0] == len(ids) == sum(len(StageLatents(studio.database, disk.folder).stages(name)) for name in ids)
    assert disk.work[1] == sum(path.stat().st_size for path in (disk.folder / "work").glob("*/*"))


def test_a_data_folder_that_is_gone(make_studio, tmp_path):
    studio = make_studio(serve=False)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(StorageError, match="cannot be read"):
        disk_status(studio.workspace)
    (tmp_path / "moved").rename(tmp_path / "data")


def test_versions():
    found = versions()
    assert list(found)[:2] == ["LaVie Studio", "Python"] and found["torch"] and found["gradio"].startswith("6.")
