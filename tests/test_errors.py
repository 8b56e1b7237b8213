"""Messages: a value in one is as Python writes it, and never longer than a line."""

import pytest

from lavie.errors import short


@pytest.mark.parametrize(
    ("value", "text"),
    [("a\nb", r"'a\nb'"), (None, "None"), ("x" * 98, f"'{'x' * 98}'"), ("x" * 99, f"'{'x' * 99}…"), ([1], "[1]")],
)
def test_a_value_is_cut_behind_a_hundred_characters(value, text):
    assert short(value) == text
    assert len(short(value)) <= 101
