"""Shapes are checked in every test, dtypes are strict, real alerts are optional."""

import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# before anything imports acai_jax: every annotated function then checks its arguments
install_import_hook("acai_jax", "beartype.beartype")

jax.config.update("jax_numpy_dtype_promotion", "strict")
# many tests compile the same programs: once is enough
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".cache" / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real alerts, published weights and golden scores."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("ACAI_JAX_REAL_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no real alerts at {path}: set ACAI_JAX_REAL_DATA")
    return path
