"""What the hub reads of README.md, against what the repository says elsewhere."""

import re
from importlib.metadata import version

import pytest

from app.config import ROOT

LINE = re.compile(r"(\w+): (.+)|(\w+):|  - (.+)")


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def front(readme):
    """The front matter: plain values and one list, which is all it has."""
    _, text, _ = readme.split("---\n", 2)
    found, name = {}, None
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        key, value, list_name, item = match.groups()
        if item:
            found[name].append(item)
        else:
            name = key or list_name
            found[name] = value.strip('"') if value else []
    return found


def test_the_space_runs_the_gradio_that_is_tested_and_allowed(front):
    wanted = re.search(r"^gradio>=([\d.]+),<(\d+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert front["sdk"] == "gradio" and front["sdk_version"] == version("gradio")
    number = tuple(map(int, front["sdk_version"].split(".")))
    assert tuple(map(int, wanted[1].split("."))) <= number < (int(wanted[2]),)


def test_the_space_starts_our_door_with_a_python_that_we_support(front):
    assert (ROOT / front["app_file"]).is_file()
    least = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert int(least[1]) <= int(front["python_version"].split(".")[1])


def test_it_names_the_weights_that_can_be_fetched(front):
    source = "".join(path.read_text() for path in (ROOT / "app" / "models").glob("*.py"))
    assert front["models"] and all(name in source for name in front["models"])


def test_the_hub_takes_the_description_and_people_find_the_title(front, readme):
    assert len(front["short_description"]) <= 60
    assert readme.split("---\n", 2)[2].lstrip().startswith(f"# {front['title']}\n")
