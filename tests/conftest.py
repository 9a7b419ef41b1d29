"""Shapes are checked in every test, dtypes are strict, real alerts are optional."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from broker import Broker

os.environ["KERAS_BACKEND"] = "jax"  # before anything imports Keras

# before anything imports them: every annotated function then checks its arguments
install_import_hook("acai_jax", "beartype.beartype")

jax.config.update("jax_numpy_dtype_promotion", "strict")
# many tests compile the same programs: once is enough
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".cache" / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="session")
def simulated_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged dataset of 300 simulated alerts; every class is in training and validation."""
    # after the import hook; most tests need none of it
    from acai_jax.datasets.builders.ztf_acai import Builder
    from acai_jax.simulate import write_alerts

    folder = tmp_path_factory.mktemp("simulated")
    write_alerts(folder, 300, seed=2, num_workers=0)
    Builder(
        data_dir=folder / "datasets",
        config="alerts",
        file_format="array_record",
        sources=folder / "alerts",
        labels=folder / "labels.csv",
        num_workers=0,
    ).download_and_prepare()
    return folder / "datasets"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real alerts, published weights and golden scores."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("ACAI_JAX_REAL_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no real alerts at {path}: set ACAI_JAX_REAL_DATA")
    return path


@pytest.fixture(scope="session")
def cases(real_data: Path) -> Path:
    """The folder of small inputs on which the program once fell short."""
    path = real_data.parent / "cases"
    if not path.is_dir():
        pytest.skip(f"no cases at {path}")
    return path


@pytest.fixture(scope="session")
def broker() -> Iterator["Broker"]:
    """A Kafka-compatible broker, which the tests share: each makes topics of its own."""
    from broker import running_broker  # most tests need none

    with running_broker() as running:
        yield running
