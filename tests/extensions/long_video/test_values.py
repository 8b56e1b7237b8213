"""The plan, the script and the meters are there at once: without torch."""

from tests.test_imports import imported


def test_plans_scripts_and_meters_load_without_torch():
    modules = [f"extensions.long_video.{name}" for name in ("plan", "script", "meters")]
    assert "torch" not in imported(modules)["modules"]
