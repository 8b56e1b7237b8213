"""`models list, download, convert, verify`: the whole way from a hub to a video, what they print, how they end."""

import json

import pytest

from app.cli.progress import Lines
from app.config import StudioConfig
from app.models import sources as module
from app.models.catalog import find_models, format_bytes
from app.models.download import Downloading, collect
from app.models.sources import LARGE, PUBLISHED, SEINE, Sources
from extensions.published.layout import COMPANIONS, NETWORKS, TOKENIZERS
from lavie import Cascade, Finished, Request
from tests.extensions.published.toys import write_published


def done(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_from_the_hub_to_a_video(run, hub, tmp_path):
    fetched = done(run("models", "download", "official", "--with-seine", "--json"))
    assert fetched["folder"] == "data/models/published"
    assert (
        "lavie_base.pt" in fetched["files"] and "stable-diffusion-x4-upscaler/tokenizer/vocab.json" in fetched["files"]
    )
    made = done(run("models", "convert", "--json"))
    assert made["stages"] == ["base", "interpolation", "super_resolution", "extension"]
    assert made["sources"]["seine.pt"] == fetched["files"]["seine.pt"]
    checked = done(run("models", "verify", "official", "--json"))
    assert checked["whole"] and not any(checked["stages"].values())
    listed = done(run("models", "list", "--json"))
    nano, official = listed["models"]
    assert (nano["name"], official["name"], official["asked"]) == ("Nano", "Tiny", "official")
    assert official["sha256"] == made["files"] and not any(listed["published"]["missing"].values())
    *_, last = Cascade.from_bundle(StudioConfig(model="official").bundle, device="cpu").generate(Request("a", seed=1))
    assert isinstance(last, Finished)


def test_a_person_is_told_checksums_and_what_to_do_next(run, hub):
    result = run("models", "download", "official")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("data/models/published\nnext: `models convert`\n")
    assert "  lavie_base.pt\n" in result.stdout and "seine.pt" not in result.stdout
    assert " of " in result.stderr
    assert "models convert" in run("models", "list").stdout


def test_damage_is_told_and_ends_with_1(run, hub, tmp_path):
    run("models", "download", "official")
    assert run("models", "convert", "--output", "mine").exit_code == 0
    (tmp_path / "mine" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    result = run("models", "verify", "mine", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["gone"] == ["vae/diffusion_pytorch_model.safetensors"]
    assert result.stderr.splitlines()[-1].startswith("error: mine is damaged")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["download", "nano"], 2, "name is 'nano': official"),
        (["download", "official", "--mirror", "here"], 2, "the hub's address is 'here'"),
        (["download", "official", "--revision", "other=1"], 2, "REPOSITORY=REVISION"),
        (["download", "official", "--revision", "lavie=v9"], 1, "no revision 'v9'"),
        (["download", "official", "--offline"], 1, "without a network there is no lavie_base.pt"),
        (["convert", "--dtype", "fp8"], 2, "dtype is 'fp8': choose one of fp16, bf16"),
        (["convert"], 1, "data/models/published is not a folder"),
        (["verify", "nowhere"], 1, "nowhere is not a folder"),
        (["verify"], 2, "BUNDLE"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, hub, monkeypatch, tmp_path, arguments, code, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    result = run("models", *arguments)
    assert result.exit_code == code and said in result.stderr.splitlines()[-1], result.output
    assert result.stdout == ""


def test_the_files_that_are_fetched_are_those_that_are_converted():
    places = {
        f"{each.folder}/{name}".lstrip("/") for each in PUBLISHED.values() for files in each.files for name in files
    }
    read = {*NETWORKS.values(), *(name for names in (*COMPANIONS.values(), *TOKENIZERS.values()) for name in names)}
    assert read <= places
    assert PUBLISHED[LARGE].folder == module.LARGE and SEINE in Sources(PUBLISHED).optional


def test_folders_of_ones_own_and_broken_ones_are_listed(tiny_bundle, tmp_path):
    models = tmp_path / "models"
    (models / "mine").mkdir(parents=True)
    (models / "mine" / "cascade.json").write_text("{")
    (models / "tiny").symlink_to(tiny_bundle)
    (models / "other").mkdir()
    nano, official, mine, tiny = find_models(StudioConfig(tmp_path))
    assert (official.name, official.bytes, official.problem) == (None, {}, "")
    assert mine.name is None and "cannot be read as JSON" in mine.problem
    assert (tiny.asked, tiny.name, tiny.sha256) == (str(models / "tiny"), "Tiny", {})
    assert nano.bytes["base"] > 10**6 and not any(nano.stages.values())


def test_offline_is_enough_where_all_is_there(hub, tmp_path):
    folder = write_published(tmp_path / "own")
    (folder / "stable-diffusion-v1-4" / "vae" / "config.json").write_text("{}")
    files = PUBLISHED["stable-diffusion-v1-4"].files
    kept = tuple(choice for choice in files if choice[0] != "text_encoder/config.json")
    small = module.Repository(("a/b",), kept, "stable-diffusion-v1-4")
    assert len(collect(Sources({"small": small}), folder).files) == len(kept)
    assert hub.requests == []


def test_lines_come_every_ten_seconds():
    lines, now = [], iter([0, 0, 1, 9.9, 10, 11])
    show = Lines(lines.append, lambda: next(now))
    for done in (0, 1, 2, 3, 4):
        show(Downloading("a.pt", done * 10**9, 4 * 10**9, 2_500_000.0, 7.4))
    assert lines == [
        "a.pt: 0 B of 4.0 GB, 2.5 MB a second, 7 s left",
        "a.pt: 3.0 GB of 4.0 GB, 2.5 MB a second, 7 s left",
    ]
    assert [format_bytes(n) for n in (0, 999, 1500, 10**10)] == ["0 B", "999 B", "1.5 kB", "10.0 GB"]
