"""Settings under names, in a real database."""

from __future__ import annotations

import math

import pytest

from app.workspace import MAX_PRESET_NAME, Presets
from lavie.errors import RequestError


@pytest.fixture
def presets(database):
    return Presets(database)


def put(database, name, settings):
    with database.write() as connection:
        connection["presets"].upsert({"name": name, "settings": settings, "created": "2026"}, pk="name")


def test_they_are_kept_in_the_order_of_their_names(presets):
    presets.save(" zebra ", {"steps": 5, "style": "“soft” {prompt}"})
    presets.save("Ant", {})
    assert list(presets.all().items()) == [("Ant", {}), ("zebra", {"steps": 5, "style": "“soft” {prompt}"})]


def test_the_same_name_again_replaces(presets):
    presets.save("mine", {"steps": 5})
    presets.save("mine", {"steps": 6, "smooth": True, "fps": None})
    assert presets.all() == {"mine": {"steps": 6, "smooth": True, "fps": None}}


def test_deleting_forgets_one(presets):
    presets.save("mine", {})
    presets.save("yours", {})
    presets.delete("mine")
    presets.delete("nobody's")
    assert list(presets.all()) == ["yours"]


@pytest.mark.parametrize("name", ["", "  ", None, "a\nb", "a\0b", "\ud800", "n" * (MAX_PRESET_NAME + 1), "n" * 100_000])
def test_what_is_no_name_is_refused(presets, name):
    with pytest.raises(RequestError, match="the preset's name is") as caught:
        presets.save(name, {})
    assert len(str(caught.value)) < 300 and presets.all() == {}


def test_hostile_names_are_names(presets):
    names = ["'; DROP TABLE presets; --", '<script>"', "日本語", "n" * MAX_PRESET_NAME]
    for name in names:
        presets.save(name, {"of": name})
    assert presets.all() == {name: {"of": name} for name in names}


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
def test_values_that_json_has_not_are_refused(presets, value):
    with pytest.raises(RequestError, match="cannot be kept"):
        presets.save("mine", {"steps": value})


def test_values_without_end_are_refused(presets):
    with pytest.raises(RequestError, match="shorten its texts"):
        presets.save("mine", {"style": "a" * 100_000})
    presets.save("mine", {"style": "a" * 99_000})


@pytest.mark.parametrize("settings", ["[1]", "5", "null", '"text"', "[" * 900 + "]" * 900])
def test_what_another_program_put_there_is_passed_over(presets, database, settings):
    presets.save("mine", {"steps": 5})
    put(database, "other", settings)
    assert presets.all() == {"mine": {"steps": 5}}
