"""The plan, the script and the metrics load without torch."""

from tests.test_imports import imported


def test_plans_scripts_and_metrics_load_without_torch():
    modules = [f"extensions.long_video.{name}" for name in ("plan", "script", "metrics")]
    assert "torch" not in imported(modules)["modules"]
