"""The HTML of the tab of adapters, and the tags of a prompt: pure functions, no page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from app.adapters import AdapterRow
from app.recipes.job_row import DONE, FAILED, PAUSED, RUNNING, TRAIN
from app.recipes.training import Training
from app.storage.training_folder import Checkpoint, Loss, Sample
from app.training.draft import Draft
from app.training.media import SetItem, TrainingSet
from app.training.service import TrainingProgress
from app.ui.adapters.html import (
    loss_plot,
    render_advanced,
    render_draft,
    render_media,
    render_shelf,
    render_start,
    render_training,
)
from app.ui.adapters.view_model import MEDIA_CARDS, Preparation, Shelf, View, WatchedTraining
from app.ui.create import prompt
from app.ui.i18n import Languages
from extensions.lora.adapter import Adapter, AdapterCard
from extensions.lora.tags import take_tags
from extensions.lora.training.settings import preset_for
from tests.app.ui.test_gallery_html import Reader, clip
from tests.app.ui.test_long_html import row as job_row

HOSTILE = "</textarea></script><img src=x onerror=alert(1)> \"' &amp; ${evil} {{evil}}"
EN, DE = Languages().words("en"), Languages().words("de")
HASH = "ab" * 32


def adapter(**values) -> AdapterRow:
    texts = {name: HOSTILE for name in ("title", "description", "author", "licence", "family", "base_model")}
    lists = {name: (HOSTILE, "b") for name in ("trigger_words", "tags", "notes", "unmatched_names")}
    card = AdapterCard(HASH, 3 * 2**20, "a", **texts, **lists, unmatched=2, ranks=(4, 16), alphas=(1.0, 8.0))
    row = AdapterRow(HASH, "a b", replace(card, **values), Path("gone"), Path("gone.webp"), "2026")
    return row


def preparation(**values) -> Preparation:
    items = (
        SetItem(HOSTILE, HOSTILE, "picture", Path("0000-a.png"), note=HOSTILE),
        SetItem(HOSTILE, "", "picture", problem=HOSTILE),
    )
    draft = Draft("d1", {"trigger": "zkw", "name": HOSTILE, "prompts": HOSTILE, "rank": HOSTILE}, items)
    known = {"view": View(), "draft": draft, "media": draft.set(Path()), "preset": preset_for("subject", 64)}
    return Preparation(**{**known, "word": "own", "needed": 2**31, "free": 2**30, **values})


def watched(state=DONE, count=12, **values) -> WatchedTraining:
    result = json.dumps({"adapter": HASH, "name": HOSTILE, "trigger": "zkw"}) if state == DONE else None
    row = job_row(kind=TRAIN, state=state, notices=(HOSTILE,), steps=400, result=result, **values)
    shown = tuple(
        Sample(100 * n, Path(f"step_{100 * n:06}.png"), (Path(f"step_{100 * n:06}_1.mp4"),)) for n in range(count)
    )
    curve = tuple(Loss(20 * n, 1 / n, 0.1) for n in range(1, 21))
    files = (Checkpoint(300, Path("a")), Checkpoint(400, Path("b")))
    progress = TrainingProgress(row, Training("zkw"), curve, shown, files, 300, 90.0 if state == RUNNING else None)
    return WatchedTraining(View(), [("j1", HOSTILE)], progress, adapter() if state == DONE else None)


HTML = {
    "shelf": lambda: render_shelf(Shelf(View(find=HOSTILE), [adapter()], 2, 2, {HASH: [clip()]}), EN),
    "media": lambda: render_media(preparation(), EN),
    "wanted": lambda: render_draft(preparation(), EN),
    "advanced": lambda: render_advanced(preparation(), EN),
    "training": lambda: render_training(watched(), EN),
    "failed training": lambda: render_training(watched(FAILED, error=HOSTILE), EN),
    "chips": lambda: prompt.adapter_chips(f"a <lora:{HOSTILE.replace('<', '').replace('>', '')}:1>", {}, EN),
}


@pytest.mark.parametrize("name", HTML)
def test_what_others_wrote_stays_text(name):
    read = Reader(HTML[name]())
    assert not any("onerror" in attributes or attributes.get("src") == "x" for _, attributes in read.tags)
    assert not {"script"} & {tag for tag, _ in read.tags}
    said = "".join([*read.texts, *(str(v) for _, a in read.tags for v in a.values())])
    assert (HOSTILE in said) or name == "chips"


@pytest.mark.parametrize("name", HTML)
def test_every_button_field_and_picture_has_a_name(name):
    html = HTML[name]()
    for tag, attributes in Reader(html).tags:
        assert tag != "img" or "alt" in attributes
        assert tag != "video" or attributes["aria-label"]
    for tag, attributes in Reader(re.sub(r"<label.*?</label>", "", html, flags=re.DOTALL)).tags:
        assert tag not in ("input", "textarea", "select") or attributes.get("aria-label")
    for attributes, inside in re.findall(r"<button([^>]*)>(.*?)</button>", html, re.DOTALL):
        assert "aria-label=" in attributes or re.sub(r"<[^>]*>", "", inside).strip()


def test_a_card_says_what_an_adapter_is():
    html = render_shelf(Shelf(View(), [replace(adapter(), set_weight=-0.5, set_text_weight=1.2)], 1, 1), EN)
    text = " ".join(Reader(html).texts)
    assert "rank 4–16" in text and "3.0 MiB" in text and "2 not in this model" in text and "1, 8" in text
    assert f'title="{HASH}"' in html and f'src="studio/adapter/{HASH}.webp"' in html
    assert re.findall(r"<output>([^<]*)</output>", html) == ["-0.5", "1.2"]
    assert re.findall(r'<input type="range"[^>]* value="([^"]*)"', html) == ["-0.5", "1.2"]
    assert "Its file is gone" in text and "Search adapters" not in html


def test_empty_shelves_say_what_to_do():
    assert "Drop a LoRA file" in render_shelf(Shelf(View()), EN)
    assert "No adapter is called so" in render_shelf(Shelf(View(find="x"), [], 3, 0), EN)
    assert "Zum Training nehmen" in render_media(preparation(draft=Draft(), media=Draft().set(Path())), DE)
    assert render_training(WatchedTraining(View()), EN).count("<") == 2  # nothing at all


def test_media_say_what_is_left_out_and_what_will_be_said():
    html = render_media(preparation(), EN)
    assert "1 to learn from" in html and "1 left out" in html and 'src="studio/training/d1/media/0000.webp"' in html
    plain = SetItem("b.png", "", "picture", Path("0001-b.png"))
    asked = SetItem("c1", "a star", "picture", Path("0002-c.png"), from_gallery=True)
    draft = Draft("d1", {"trigger": "zkw"}, (plain, asked))
    html = render_media(preparation(draft=draft, media=draft.set(Path())), EN)
    assert ">\na zkw</textarea>" in html and ">\nzkw, a star</textarea>" in html
    many = replace(draft, items=(plain,) * 60)
    html = render_media(preparation(draft=many, media=many.set(Path()), view=View(media_page=2)), EN)
    assert html.count("<li ") == 60 - 2 * MEDIA_CARDS and "page 3 of 3" in html


def test_a_motion_leaves_pictures_out():
    draft = Draft("d1", {"preset": "motion"}, (SetItem("b.png", "", "picture", Path("0001-b.png")),))
    assert "a motion is learned from videos" in render_media(preparation(draft=draft, media=draft.set(Path())), EN)


def test_it_begins_when_all_is_there_and_says_what_it_takes():
    begin = render_start(preparation(), EN)
    assert " disabled" not in begin and "690 steps from 1 media" in begin
    assert "about 2.0 GiB of memory, 1.0 GiB are free" in begin and "more memory than is free" in begin
    assert "1 are few" in begin
    assert " disabled" in (begin := render_start(preparation(draft=Draft("d1")), EN)) and "trigger word first" in begin
    begin = render_start(preparation(media=TrainingSet("d1", Path(), ())), EN)
    assert " disabled" in begin and "something to learn from" in begin
    assert 'placeholder="690"' in render_advanced(preparation(), EN)


def test_a_training_shows_its_first_and_last_steps_its_files_and_what_can_be_done():
    html = render_training(watched(), EN)
    assert re.findall(r'<th scope="col">Step (\d+)', html) == ["0", *map(str, range(500, 1200, 100))]
    assert html.count("<video ") == 8 and 'src="studio/training/j1/samples/step_000000_1.mp4"' in html
    assert re.findall(r'data-act="take"[^>]*data-n="(\d+)"', html) == ["300", "400"]
    acts = {state: re.findall(r'data-act="(\w+)"', render_training(watched(state), EN)) for state in (RUNNING, PAUSED)}
    assert acts[RUNNING][:2] == ["cancel", "pause"] and acts[PAUSED][:2] == ["resume", "cancel"]
    assert "data-running" in render_training(watched(RUNNING), EN) and "data-running" not in html
    assert "2 min left" in render_training(watched(RUNNING), EN)
    assert "300 steps are stored" in render_training(watched(PAUSED), EN)
    assert f'data-act="wear" data-id="{HASH}"' in html


def test_the_loss_is_drawn_within_its_frame():
    curve = [Loss(step, 1.0 / step, 0.1) for step in range(1, 1001)]
    html = loss_plot(curve, 2000, EN)
    assert "Loss: 1 → 0.001 at step 999" in html or "at step 1000" in html
    raw, smooth = re.findall(r'points="([^"]*)"', html)
    for points in (raw, smooth):
        places = [tuple(map(float, point.split(","))) for point in points.split()]
        assert len(places) <= 400 and all(0 <= x <= 640 and 0 <= y <= 190 for x, y in places)
    assert max(x for x, _ in places) == pytest.approx((64 + 640) / 2, abs=3)  # half of the steps
    assert loss_plot(curve[:1], 10, EN) == ""
    assert "nan" not in loss_plot([Loss(1, 0.0, 1), Loss(2, 0.0, 1)], 2, EN)


def test_a_prompt_puts_on_and_takes_off():
    plush = Adapter("ab" * 32, "plush", 0.7)
    text = prompt.add_tag("a red star", plush, ["plush toy"])
    assert text == "<lora:plush:0.7> a red star, plush toy"
    again = prompt.add_tag(text, Adapter(plush.sha256, "plush", -1.5, 0.25), ["Plush toy"])
    assert again == "<lora:plush:0.25:-1.5> a red star, plush toy"
    assert take_tags(again)[1][0].weight == -1.5 and take_tags(again)[1][0].text_weight == 0.25
    assert prompt.add_tag("", plush, ["zkw"]) == "<lora:plush:0.7> a zkw"
    assert prompt.remove_tag("a <lora:x> b <lora:y:2>", "1") == "a <lora:x> b"
    assert prompt.remove_tag("a <lora:x> b", "7") == prompt.remove_tag("a <lora:x> b", "x") == "a <lora:x> b"
    two = prompt.add_tag("<lora:other:1> a star <lora:PLUSH:2>", plush)
    assert two.count("plush") == 1 and "PLUSH" not in two and "<lora:other:1>" in two


def test_chips_say_the_weight_and_what_is_wrong():
    html = prompt.adapter_chips("<lora:plush:0.5:1> a star <lora:gone> <lora:plush:9>", {"plush": HASH}, EN)
    text = " ".join(Reader(html).texts)
    assert "plush × 1 · text 0.5" in text and "no adapter is called 'gone'" in text and "from -2 to 2" in text
    assert re.findall(r'data-act="take_off" data-n="(\d)"', html) == ["0", "1", "2"]
    assert prompt.adapter_chips("a star", {}, EN) == ""


def test_what_a_clip_wore_comes_back_under_the_name_that_it_has_now():
    was = [Adapter(HASH, "plush", 0.5), Adapter("cd" * 32, "other")]
    assert prompt.tag_prompt("a star", was, {"teddy": HASH}) == "<lora:teddy:0.5> <lora:other:1> a star"
