"""Adapters as a person uses and trains them: a real Chromium, a real server, real networks at toy size."""

import io
import json

import pytest
from PIL import Image, ImageDraw

from extensions.lora.files.read import targets_in
from lavie.bundle import Bundle
from tests.extensions.lora.files import FAMILIES, Maker
from tests.pages.browser import PATIENCE, button, generate, settled, watched
from tests.pages.test_accessibility import SIZES, faults

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=PATIENCE)
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def lora(tmp_path_factory, tiny_bundle):
    """A file with what other tools put beside it."""
    path = tmp_path_factory.mktemp("lora") / "plush.safetensors"
    FAMILIES["kohya"](Maker(targets_in(Bundle(tiny_bundle))), path)
    Image.new("RGB", (90, 60), "teal").save(path.with_suffix(".png"))
    notes = {"activation text": f"plush, {HOSTILE}", "description": HOSTILE, "preferred weight": 0.5}
    path.with_suffix(".json").write_text(json.dumps(notes))
    return path


@pytest.fixture
def page(browser, tiny):
    with watched(browser, tiny[0]) as page:
        opened(page)
        yield page


def opened(page, name="Personalize"):
    page.get_by_role("tab", name=name).click()
    settled(page.locator("#lv-train-start"))


def card(page, name):
    return page.get_by_role("listitem", name=name, exact=True)


def bring(page, *files):
    page.locator("#lv-bring input[type=file]").set_input_files(files)


def prompt(page):
    return page.get_by_label("Prompt", exact=True)


def picture(number=0) -> dict:
    file, image = io.BytesIO(), Image.new("RGB", (64, 32), "navy")
    ImageDraw.Draw(image).rectangle((5 * number, 5, 5 * number + 20, 25), fill="magenta")
    image.save(file, "PNG")
    return {"name": f"zkw {number}.png", "mimeType": "image/png", "buffer": file.getvalue()}


def setting(page, name):
    return page.locator(f'#lv-train-new [data-edit=set][data-name="{name}"]')


def write(field, text):
    field.fill(text)
    field.press("Tab")


def prepare(page, *files):
    """Media and a trigger word, two steps."""
    page.locator("#lv-train-files input[type=file]").set_input_files(list(files))
    expect(page.locator(".lv-medium")).to_have_count(len(files))
    write(setting(page, "trigger"), "zkw")
    page.locator("#lv-train-advanced button").first.click()
    for name, text in (("steps", "2"), ("samples_every", "1"), ("checkpoint_every", "1"), ("prior", "0")):
        write(setting(page, name), text)
    page.get_by_text("2 steps from").wait_for()


def test_a_file_is_imported_used_and_found_again_in_its_clip(page, lora):
    bring(page, lora, lora.with_suffix(".png"), lora.with_suffix(".json"))
    page.get_by_text("plush.safetensors is in the library as “plush”.").wait_for()
    plush = card(page, "plush")
    assert plush.locator("img").first.get_attribute("src").startswith("studio/adapter/")
    expect(plush.locator(".lv-word")).to_have_text(["plush", HOSTILE])
    name = page.get_by_label("Name of plush")
    name.fill("Teddy")
    name.press("Enter")
    card(page, "Teddy").wait_for()
    card(page, "Teddy").locator("summary").click()
    slider = page.get_by_label("Weight: Teddy", exact=True)
    slider.fill("0.8")
    expect(card(page, "Teddy").locator("output").first).to_have_text("0.8")
    expect(card(page, "Teddy").locator("details")).to_have_attribute("open", "")  # what was opened stays so
    expect(card(page, "Teddy").locator("details")).to_contain_text(HOSTILE)
    page.reload()
    opened(page)
    expect(card(page, "Teddy").locator("output").first).to_have_text("0.8")
    button(page, "Use Teddy").click()
    expect(prompt(page)).to_have_value("<lora:Teddy:0.8> a plush")
    expect(page.locator(".lv-wear")).to_contain_text("Teddy × 0.8")
    generate(page, "<lora:Teddy:0.8> a plush star", "5")
    page.locator("#lv-screen video").wait_for()
    page.get_by_role("tab", name="Personalize").click()
    card(page, "Teddy").locator(".lv-made button").click()
    page.locator("#lv-made").get_by_text("Teddy (").wait_for()
    button(page, "Use prompt").click()
    expect(prompt(page)).to_have_value("<lora:Teddy:0.8> a plush star")
    page.get_by_role("button", name="Take off Teddy × 0.8").click()
    expect(prompt(page)).to_have_value("a plush star")
    expect(page.locator(".lv-wear")).to_have_count(0)


def test_refused_files_are_named_with_why(page, tmp_path):
    (tmp_path / "evil.pt").write_bytes(b"PK\x03\x04 whatever")
    (tmp_path / "short.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    before = page.locator(".lv-adapter").count()
    bring(page, tmp_path / "evil.pt", tmp_path / "short.safetensors")
    alerts = page.locator("#lv-shelf [role=alert]")
    expect(alerts).to_have_count(2)
    expect(alerts.nth(0)).to_contain_text("evil.pt is a pickle or an archive")
    expect(alerts.nth(1)).to_contain_text("short.safetensors is no safetensors file")
    assert page.locator(".lv-adapter").count() == before
    assert page.request.get(f"{page.url}studio/adapter/..%2F..%2Fstudio.db").status == 404
    assert page.request.get(f"{page.url}studio/training/x/samples/..%2Flog.txt").status == 404


def test_a_training_is_prepared_watched_and_used(browser, tiny, page):
    prepare(page, picture(0), picture(1), picture(2))
    wait = "all => all.every((one) => one.complete && one.naturalWidth)"
    page.wait_for_function(f"({wait})([...document.querySelectorAll('.lv-medium img')])")
    write(page.get_by_label("Caption of number 2"), f"a zkw {HOSTILE}")
    expect(page.get_by_label("Caption of number 2")).to_have_js_property("defaultValue", f"a zkw {HOSTILE}")  # kept
    page.get_by_role("button", name="Leave out number 3").click()
    expect(page.locator(".lv-medium")).to_have_count(2)
    write(setting(page, "trigger"), "two words")
    page.get_by_role("alert").get_by_text("give one word").wait_for()
    expect(setting(page, "trigger")).to_have_value("zkw")
    page.reload()
    opened(page)
    expect(page.get_by_label("Caption of number 2")).to_have_value(f"a zkw {HOSTILE}")
    button(page, "Start training").click()
    button(page, "Use it").wait_for()
    expect(page.locator(".lv-medium")).to_have_count(0)  # ready for the next one
    expect(page.locator(".lv-samples th")).to_have_text(["Step 0", "Step 1", "Step 2"])
    page.locator(".lv-plot polyline").first.wait_for(state="attached")
    button(page, "Step 1 into the library").click()
    card(page, "zkw-1").wait_for()
    with watched(browser, tiny[0]) as other:  # the same on another page
        opened(other)
        expect(other.locator(".lv-samples video")).to_have_count(6)
    button(page, "Use it").click()
    expect(prompt(page)).to_have_value("<lora:zkw:1> a zkw")
    expect(page.locator(".lv-wear")).to_have_count(1)


def test_an_answer_that_is_overtaken_takes_nothing_back(page):
    held = []

    def hold(route):
        if not held and '"seed"' in route.request.post_data:
            held.append((route, route.fetch()))
        else:
            route.continue_()

    page.locator("#lv-train-advanced button").first.click()
    page.route("**/gradio_api/run/*", hold)
    write(setting(page, "seed"), "8")
    write(setting(page, "rank"), "2")
    expect(setting(page, "rank")).to_have_js_property("defaultValue", "2")  # kept, and told
    (late, answer) = held[0]
    with page.expect_request(lambda request: '"refresh"' in (request.post_data or "")):
        late.fulfill(response=answer)
    expect(setting(page, "rank")).to_have_js_property("defaultValue", "2")
    expect(setting(page, "seed")).to_have_js_property("defaultValue", "8")
    for name in ("rank", "seed"):
        write(setting(page, name), "")


def test_clips_of_the_gallery_are_trained_on(browser, tiny):
    with watched(browser, tiny[0]) as page:
        page.get_by_role("tab", name="Gallery").click()
        clip = page.locator(f'.lv-card[data-id="{tiny[1]}"]')
        clip.get_by_role("button", name="Choose to compare").click()
        page.locator(".lv-nows").get_by_role("button", name="Use for training").click()
        expect(page.locator(".lv-medium")).to_have_count(4)  # frames of the clip
        expect(page.get_by_label("Caption of number 1", exact=True)).to_have_value("…, a red star")
        page.get_by_label("What is to be learned").select_option("motion")
        expect(page.locator(".lv-medium")).to_have_count(1)  # the clip itself
        button(page, "Start over").click()
        expect(page.locator(".lv-medium")).to_have_count(0)


@pytest.mark.parametrize("size", SIZES)
def test_no_grave_fault_and_nothing_to_scroll_across(browser, tiny, axe, size):
    with watched(browser, tiny[0], viewport=SIZES[size], locale="de-DE", color_scheme="dark") as page:
        page.wait_for_function("document.body.classList.contains('dark')")
        opened(page, "Anpassen")
        page.locator(".lv-adapter").first.wait_for()
        page.locator(".lv-samples").wait_for()
        assert page.get_by_role("tab", name="Einstellungen").is_visible()  # all of them fit
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = faults(page, axe)
        assert found == [], "\n".join(found)
