"""The endpoints as tools for a language model where gradio's extra for it is installed; the refusal where it is not."""

import asyncio
import importlib.util

import httpx
import pytest

from app.cli.main import main
from app.ui.api import endpoints
from tests.pages.browser import fake_studio, free_port

has_mcp = importlib.util.find_spec("mcp") is not None
needs_mcp = pytest.mark.skipif(not has_mcp, reason="gradio[mcp] is not installed")


@pytest.fixture
def app(monkeypatch, capsys):
    """The command line, run in this process, which has gradio already: exit status and what it complains of."""

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["app.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.mark.skipif(has_mcp, reason="gradio[mcp] is installed")
def test_without_its_package_it_is_refused(app, tmp_path):
    done = app("--mcp", "--port", free_port(), "--data", tmp_path / "data")
    words = "error: --mcp needs a package that is not installed: pip install 'gradio[mcp]'\n"
    assert done == (1, words)
    assert not (tmp_path / "data").exists()


def test_it_belongs_to_the_studio_alone(app):
    status, words = app("--mcp", "render", "a red star")
    assert status == 2 and "--mcp stands before 'render'" in words


async def used(address, headers=None):
    """What a client is offered, and what comes of using it."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async with (
        httpx.AsyncClient(headers=headers, timeout=60) as http,
        streamable_http_client(f"{address}/gradio_api/mcp/", http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = (await session.list_tools()).tools
        calls = [("render", {"prompt": "a red star", "seed": 3}), ("clip", {"id": "../studio.db"}), ("lambda", {})]
        return tools, [await session.call_tool(*call) for call in calls]


@needs_mcp
def test_the_endpoints_and_nothing_else_are_tools(tmp_path):
    with fake_studio(tmp_path, 0.01, "--mcp") as address:
        tools, (made, refused, unknown) = asyncio.run(used(address))
    assert [tool.name for tool in tools] == list(endpoints.NAMES)
    for tool in tools:
        assert tool.description and all(each.get("description") for each in tool.inputSchema["properties"].values())
    assert not made.isError and "'seed': 3" in made.content[0].text and made.content[1].text.endswith(".mp4")
    assert refused.isError and "is none of ours" in refused.content[0].text
    assert unknown.isError


@needs_mcp
def test_with_a_login_it_asks_for_the_cookie(tmp_path):
    with fake_studio(tmp_path, 0.01, "ada:secret", "--mcp") as address:
        for path in ("", "schema", "sse", "http"):
            assert httpx.get(f"{address}/gradio_api/mcp/{path}").status_code == 401
        assert httpx.post(f"{address}/gradio_api/mcp/", json={}).status_code == 401
        cookies = httpx.post(f"{address}/login", data={"username": "ada", "password": "secret"}).cookies
        headers = {"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies.jar)}
        _, (made, *_) = asyncio.run(used(address, headers))
    assert not made.isError
