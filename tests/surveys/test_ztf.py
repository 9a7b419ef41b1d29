from typing import get_args

from acai_jax.surveys.base import BRAAI
from acai_jax.surveys.ztf import ZTF, DrbSource


def test_sources_of_drb_are_the_type():
    stand_ins = {name for each in ZTF.recipes.values() for name in each.stand_ins.values()}
    assert {"packet", *stand_ins} == set(get_args(DrbSource))
    assert BRAAI in stand_ins


def test_counts_that_published_things_hang_on():
    assert len(ZTF.inputs.features) == 25
    assert (len(ZTF.required_fields), len(ZTF.dataset_fields), len(ZTF.table_fields)) == (5, 47, 61)
