"""Shapes are checked in every test, dtypes are strict, real alerts are optional."""

import fcntl
import os
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import _import_hook, install_import_hook

if TYPE_CHECKING:
    from broker import Broker

ROOT = Path(__file__).parents[1]
os.environ |= {
    "KERAS_BACKEND": "jax",  # before anything imports Keras
    "ACAI_JAX_CACHE": str(ROOT / ".cache"),
    # many tests, and the processes that they start, compile the same programs: once is enough
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "xla"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    # compiles in half the time; exactness is shown as users compile, by `references.USUAL`
    "XLA_FLAGS": " ".join(
        (
            "--xla_backend_optimization_level=1",
            "--xla_cpu_use_fusion_emitters=false",
            "--xla_cpu_parallel_codegen_split_count=2",
        )
    ),
}
_marked = _import_hook._optimized_cache_from_source


def _compiled_file(typechecker: str, path: str, *options: Any, **more: Any) -> str:
    """jaxtyping would compile anew whatever its modules import, too: all of scipy, for one."""
    if Path(path).is_relative_to(ROOT / "acai_jax"):
        return _marked(typechecker, path, *options, **more)
    return cache_from_source(path, *options, **more)


_import_hook._optimized_cache_from_source = _compiled_file
# before anything imports them: every annotated function then checks its arguments
install_import_hook("acai_jax", "beartype.beartype")

settings.register_profile(
    "repeatable",
    # how long an example takes says more of the machine than of the code
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # the same examples in each run; `make fuzz` looks for others
    derandomize=os.environ.get("ACAI_JAX_FUZZ") != "1",
)
settings.load_profile("repeatable")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


LONGEST = (
    *("test_loop", "test_bank", "test_faults", "test_step", "test_sweep", "test_kafka"),
    *("test_builder", "test_separable_gradients", "test_processes", "test_wheel"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, lest a worker be left alone with one at the end.

    Those that wait for brokers and processes come between those that compile, lest all wait.
    """
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def shared_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run, which all its workers have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def simulated_dataset(shared_tmp: Path) -> Path:
    """A packaged dataset of 300 simulated alerts; every class is in training and validation."""
    # after the import hook; most tests need none of it
    from acai_jax.datasets.builders.ztf_acai import Builder
    from acai_jax.simulate import write_alerts

    folder = shared_tmp / "simulated"
    with (shared_tmp / "simulated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker makes it
        if not folder.exists():
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
def broker(shared_tmp: Path) -> Iterator["Broker"]:
    """A broker, which the tests share: each makes topics of its own."""
    from broker import shared_broker  # most tests need none
    from streams import CLIENT

    with shared_broker(shared_tmp / "broker") as running:
        if running.apache:  # forms groups at once, so that members may be slow
            CLIENT["ACAI_JAX_KAFKA_SESSION_TIMEOUT_MS"] = "6000"
        yield running


@pytest.fixture
def cuttable(broker: "Broker") -> Iterator["Broker"]:
    """A broker whose connections a test can cut."""
    with broker.cuttable() as running:
        yield running


@pytest.fixture
def kafka(broker: "Broker") -> "Broker":
    """The shared broker, if it is Apache Kafka: for what no other does as it does."""
    if not broker.apache:
        pytest.skip("needs Apache Kafka: see the summary")
    return broker


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says which broker the tests of the stream had."""
    which = config._tmp_path_factory.getbasetemp() / "broker" / "which"  # type: ignore[attr-defined]
    if which.exists():
        terminalreporter.write_line(f"Kafka broker: {which.read_text()}")
