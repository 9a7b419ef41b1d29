"""A description that agrees with itself: whoever adds a survey is told what is missing."""

import datetime
from typing import get_args

import pytest

from acai_jax.surveys import SURVEYS, Preset
from acai_jax.surveys.base import BRAAI


@pytest.fixture(params=SURVEYS.values(), ids=str)
def survey(request):
    return request.param


def test_every_name_is_a_fields(survey):
    names = survey.table_fields
    assert len(set(names)) == len(names)
    for used in (
        survey.inputs.features,
        survey.late_features,
        survey.public,
        survey.key_fields,
        survey.message_fields,
        [each.column for each in survey.derived],
        [survey.magnitude],
    ):
        assert set(used) <= set(names)


def test_an_evaluation_has_what_it_groups_by(survey):
    kept = {survey.band, *(set(survey.key_fields) & set(survey.inputs.features))}
    made = {"latitude", "year"}
    assert {each.column for each in survey.groupings.values()} <= kept | made


def test_kinds_divide_the_fields(survey):
    kinds = (survey.text_fields, survey.integer_fields, survey.double_fields)
    floats = {field.name for field in survey.fields if field.kind == "float"}
    assert sum(map(len, kinds)) + len(floats) == len(survey.fields)
    assert set(survey.number_fields) == set(survey.table_fields) - survey.text_fields
    # only those are never null
    needed = {survey.time, survey.band, "ra", "dec", *survey.plausible, *survey.public}
    assert needed <= set(survey.required_fields)


def test_recipes_replace_features_by_fields(survey):
    for recipe in survey.recipes.values():
        assert set(recipe.stand_ins) <= set(survey.inputs.features)
        assert set(recipe.stand_ins) <= {survey.replaced}
        assert set(recipe.stand_ins.values()) <= {*survey.table_fields, BRAAI}


def test_presets_are_the_type():
    assert [name for each in SURVEYS.values() for name in each.recipes] == [*get_args(Preset)]


def test_there_is_a_cutout_for_each_channel(survey):
    assert len(survey.cutouts) == len(survey.inputs.channels)
    assert survey.largest_stamp >= survey.inputs.stamp


def test_names_of_nights_sort(survey):
    nights = [datetime.date(2025, 12, 31), datetime.date(2026, 1, 1)]
    topics = [survey.topic.format(night=night, programme=1) for night in nights]
    assert topics == (sorted(set(topics)) if "{" in survey.topic else [survey.topic] * 2)
    files = {survey.archive_file.format(night=night) for night in nights}
    assert len(files) == 2 if survey.archive_url else files == {""}
