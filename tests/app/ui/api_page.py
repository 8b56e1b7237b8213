"""The examples of docs/api.md, run as they stand there."""

import contextlib
import io
import re

from app.config import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
LOGIN, LONG, ADAPTERS = "## With a login", "## Long videos", "## Adapters"
ADDRESS = "http://127.0.0.1:7860"
BEGIN = """```python\nfrom gradio_client import Client\nstudio = Client("http://127.0.0.1:7860")\n```\n"""


def blocks(kind: str, section: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def section(title: str, page: str = PAGE) -> tuple[str, str]:
    """The page without one of its parts, and that part."""
    before, _, behind = page.partition(title)
    part, _, after = behind.partition("\n## ")
    return f"{before}\n## {after}", part


def run_python(section: str, address: str) -> None:
    """All blocks one after another, as one script; what is printed is what the comments say."""
    code = "\n".join(blocks("python", section))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace(ADDRESS, address).replace("Client(", "Client(verbose=False, src="), {})
    assert printed.getvalue().splitlines() == re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
