"""Shapes are checked in every test, dtypes and ranks are strict, real alerts are optional."""

import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# before anything imports acai_jax: every annotated function then checks its arguments
install_import_hook("acai_jax", "beartype.beartype")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real alerts, published weights and golden scores."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("ACAI_JAX_REAL_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no real alerts at {path}: set ACAI_JAX_REAL_DATA")
    return path
