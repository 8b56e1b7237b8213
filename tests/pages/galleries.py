"""A gallery of some clips, and how a person gets about in it, for the tests in this folder."""

from app.config import StudioConfig
from app.studio import Studio
from lavie.request import Interpolation, Request
from tests.fakes import FakeCascade
from tests.pages.browser import settled, unfold

MANY = 28  # clips: more than a page
HOSTILE = "<img src=x onerror=alert(1)> ${x}"


def fill(folder) -> list[str]:
    """Make clips in a data folder; their ids, the oldest first. The second is made from the first."""
    studio, ids = Studio(StudioConfig(data=folder), load=lambda config: FakeCascade(steps=1)), []
    for number in range(MANY):
        prompt = [HOSTILE, "a blue square", *["a red star on a navy background"] * (MANY - 2)][number]
        request = Request(prompt, seed=number, interpolation=Interpolation() if number == 1 else None)
        ids.append(studio.submit(request, parent=ids[0] if number == 1 else None))
        assert [snapshot.state for snapshot in studio.follow(ids[-1])][-1] == "done"
    studio.close()
    return ids


def gallery(page):
    """Go there, and wait for what is found."""
    page.get_by_role("tab", name="Gallery").click()
    page.locator("#lv-clips .lv-found").wait_for()
    settled(page.get_by_label("Search", exact=True))


def card(page, clip_id):
    return page.locator(f'.lv-card[data-id="{clip_id}"]')


def found(page, words):
    page.locator(".lv-found").get_by_text(words).wait_for()


def search(page, text):
    page.get_by_label("Search", exact=True).fill(text)


def opened(page, clip_id):
    """The board of a clip that is open."""
    page.locator(f'#lv-player [data-focus="{clip_id}"]').wait_for()
    return page.locator("#lv-about")


def filters(page):
    unfold(page, "Filters and saved searches", page.get_by_label("Made since", exact=True))
