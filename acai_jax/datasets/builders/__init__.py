"""Builders by TFDS's conventions, one for each survey: a folder, or what `base` has for all."""

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which imports TFDS
    from acai_jax.datasets.builders.base import AcaiBuilder
    from acai_jax.surveys.base import Survey


@functools.cache
def builder_class(survey: "Survey") -> type["AcaiBuilder"]:
    """The builder of a survey's datasets.

    Example:
        >>> from acai_jax.surveys.winter import WINTER
        >>> builder_class(WINTER).name, [*builder_class(WINTER).builder_configs]
        ('winter_acai', ['alerts', 'alerts_stamps'])
    """
    name = f"{survey.name}_acai"
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}").Builder
    from acai_jax.datasets.builders.base import AcaiBuilder, standard_configs

    facts = {
        "name": name,
        "survey": survey,
        "BUILDER_CONFIGS": standard_configs(survey),
        "__doc__": f"Builds the dataset `{name}`.",
        "__module__": __name__,
    }
    return type("Builder", (AcaiBuilder,), facts, skip_registration=True)
