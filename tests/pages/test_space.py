"""A Space's page in a browser: a click makes a video on the lent device, and what is shared is on everybody's wall."""

import pytest

from tests.pages.browser import button, free_port, generate, serve, stop, watched


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("space"), free_port()
    with open(folder / "log", "w") as log:
        process = serve(["-m", "tests.servers.space", folder / "data", port], port, log)
        yield f"http://localhost:{port}"  # there a browser keeps cookies that are for safe connections only
        stop(process)
    assert "Traceback" not in (folder / "log").read_text()


def visit(browser, address):
    """As `watched`, which takes any other name than a number for a stranger's."""
    opened = browser.new_context()
    opened.set_default_timeout(60_000)
    page = opened.new_page()
    page.goto(address)
    return page


def test_a_visitor_makes_a_video_and_shares_it_with_another(browser, address):
    page = visit(browser, address)
    page.locator("#lv-space").get_by_role("alert").wait_for()
    assert (
        "no storage" in page.locator("#lv-space").inner_text() and "ZeroGPU" in page.locator("#lv-space").inner_text()
    )
    assert page.get_by_role("tab", name="Personalize").count() == 0
    generate(page, "a red star", seed="7")
    page.locator("#lv-screen video").wait_for()
    page.get_by_role("tab", name="Wall").click()
    button(page, "Share").click()
    button(page, "Share no longer").wait_for()
    button(page, "Download my gallery").click()
    page.get_by_text("1 clips are in the zip").wait_for()

    other = visit(browser, address)
    other.get_by_role("tab", name="Wall").click()
    other.locator("#lv-wall .lv-card").wait_for()
    assert button(other, "Share").count() == button(other, "Share no longer").count() == 0
    other.get_by_role("tab", name="Gallery").click()
    other.locator("#lv-clips").get_by_text("0").first.wait_for()
    assert other.locator("#lv-clips .lv-card").count() == 0
    for each in (page, other):
        each.context.close()


def test_at_home_nothing_of_it_shows(browser, fake):
    with watched(browser, fake[0]) as page:
        page.get_by_role("tab", name="Gallery").wait_for()
        assert page.locator("#lv-space").count() == 0 and page.get_by_role("tab", name="Wall").count() == 0


def test_a_visitor_is_offered_no_weights(browser, address):
    page = visit(browser, address)
    page.get_by_role("tab", name="Settings").click()
    page.locator("#lv-settings .lv-panel").last.wait_for()
    assert page.locator("#lv-models").count() == page.locator("#lv-models-live").count() == 0
    page.context.close()
