"""The table of predicted and counted memory: what it says, and where it is written."""

import json

import pytest

from bench import memory


@pytest.fixture(autouse=True)
def one_place(monkeypatch):
    works = memory.works
    monkeypatch.setattr(memory, "works", lambda *size: {memory.BASE: works(*size)[memory.BASE]})
    monkeypatch.setattr(memory, "COMPONENTS", {memory.BASE: memory.COMPONENTS[memory.BASE]})


def test_both_figures_of_every_rung_are_written_and_the_pages_tables_made_anew(tmp_path):
    output, page = tmp_path / "memory.json", tmp_path / "memory.md"
    page.write_text("before\n<!-- bench.memory -->\nold\n<!-- /bench.memory -->\nbehind\n")
    memory.main(["--base", "64", "96", "--frames", "4", "--output", str(output), "--page", str(page)])
    results = json.loads(output.read_text())
    assert (results["base"], results["frames"], results["dtype"]) == ([64, 96], 4, "bfloat16")
    assert [row["card"] for row in results["cards"]] == [6, 8, 12, 16, 24, 80]
    assert len(results["rows"]) == 6  # halves together and in turn, three ways to offload
    for row in results["rows"]:
        assert row["predicted"] == pytest.approx(row["measured"], rel=0.15)
    text = page.read_text()
    assert text.startswith("before\n<!-- bench.memory -->\n| device memory | base |")
    assert text.endswith("<!-- /bench.memory -->\nbehind\n") and "old" not in text
    assert "| 80 GB | everything at once (" in text and "| base | whole | in turn | sequential | " in text


@pytest.mark.slow
def test_without_a_page_only_the_figures_are_written(tmp_path):
    output = tmp_path / "memory.json"
    memory.main(["--base", "64", "64", "--frames", "2", "--output", str(output), "--page", str(tmp_path / "none.md")])
    assert output.is_file() and not (tmp_path / "none.md").exists()
