"""Spark with two executor processes: the same scores, whatever is killed or damaged."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from pyarrow import parquet
from synthetic import avro_bytes, packet_record

from acai_jax.classes import CLASSES
from acai_jax.network.bank import HeadBank, create_heads
from acai_jax.network.checkpoints import save_heads
from acai_jax.network.head_config import HeadConfig
from acai_jax.score.scorer import Scorer

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed: extra `spark`")
if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
    pytest.skip("no Java, which Spark needs", allow_module_level=True)

# PySpark starts Java by a fork, which JAX's threads do not mind: the child runs Java at once
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

ROOT = Path(__file__).parents[2]
COUNT = 40
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # starts sooner


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("acai_jax tests")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "8",
        "spark.sql.files.openCostInBytes": "1",
        "spark.executor.memory": "512m",
        "spark.driver.extraJavaOptions": JAVA,
        "spark.executor.extraJavaOptions": JAVA,
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")  # its executors', too
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = HeadConfig(filters=(4, 4), dense_units=(8, 8), head_units=4)
    heads = create_heads(config, len(CLASSES), jax.random.key(0))
    versions = {name: {"version": "1"} for name in CLASSES}
    folder = tmp_path_factory.mktemp("model") / "heads"
    save_heads(HeadBank(heads, CLASSES, versions, "boom"), folder)
    return folder


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Alerts in Parquet as Fink's, and in Avro; one feature is null, one stamp damaged."""
    folder = tmp_path_factory.mktemp("night")
    records = [packet_record(n % 20, candid=n) for n in range(COUNT)]
    records[7]["candidate"]["magpsf"] = None
    records[9]["cutoutTemplate"]["stampData"] = b"damaged"
    for record in records:
        record["candidate"]["candid"] = record["candid"]
    parquet.write_table(pa.Table.from_pylist(records), folder / "fink.parquet")
    (folder / "avro").mkdir()
    for start in range(0, COUNT, 10):
        content = avro_bytes(*records[start : start + 10])
        (folder / "avro" / f"{start:03d}.avro").write_bytes(content)
    (folder / "avro" / "damaged.avro").write_bytes(avro_bytes(records[0])[:-100])
    (folder / "avro" / "none.avro").write_bytes(b"no Avro")
    (folder / "avro" / "of 0 bytes.avro").touch()
    return folder


@pytest.fixture(scope="module")
def expected(model, night):
    return Scorer.load(model).score(night / "fink.parquet", num_workers=0).drop("origin")


def frame(scores):
    return pl.DataFrame(pl.from_arrow(scores.toArrow()))


def same_rows(found, expected):
    """Bit for bit: nulls, texts and numbers."""
    found = found.select(expected.columns)
    assert_frame_equal(found, expected, check_exact=True)


def test_parquet_gives_the_scores_of_the_scorer_in_order(spark, model, night, expected):
    from acai_jax.spark import read_night, score_dataframe

    found = frame(score_dataframe(read_night(spark, str(night / "fink.parquet")), model))
    assert found["origin"][0].endswith("fink.parquet")
    same_rows(found, expected)
    assert found["acai_h"].null_count() == 2
    assert found["reason"].null_count() == COUNT - 2


def test_avro_files_and_damaged_ones_give_a_row_each(spark, model, night):
    from acai_jax.spark import read_night, score_dataframe

    found = frame(score_dataframe(read_night(spark, str(night / "avro"), "avro"), model))
    expected = Scorer.load(model).score(night / "avro", num_workers=0)
    names = pl.col("origin").str.split("/").list.last()
    order = ["origin", "candid"]
    found, expected = (t.with_columns(names).sort(order) for t in (found, expected))
    same_rows(found, expected)
    assert set(found.filter(pl.col("candid").is_null())["origin"]) == {
        "damaged.avro",
        "none.avro",
        "of 0 bytes.avro",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="finds the executor in /proc")
@pytest.mark.parametrize("executor", [False, True], ids=["worker", "executor"])
def test_what_is_killed_loses_and_doubles_nothing(
    spark, model, night, expected, tmp_path, executor
):
    from acai_jax.spark import read_night, score_dataframe

    marker = str(tmp_path / "killed")

    def kill_once(batches):  # in the second batch of a partition
        for number, batch in enumerate(batches):
            yield batch
            if number == 1 and not os.path.exists(marker):
                open(marker, "w").close()
                with open(f"/proc/{os.getppid()}/stat") as stat:  # of the workers' daemon
                    above = int(stat.read().rpartition(")")[2].split()[1])
                os.kill(above if executor else os.getpid(), signal.SIGKILL)
                time.sleep(5)

    alerts = read_night(spark, str(night / "fink.parquet")).repartition(2)
    killing = alerts.mapInArrow(kill_once, alerts.schema)
    score_dataframe(killing, model).write.parquet(str(tmp_path / "scores"))
    assert Path(marker).exists()
    same_rows(pl.read_parquet(tmp_path / "scores" / "*.parquet").sort("candid"), expected)


def test_a_worker_keeps_one_scorer_and_few_threads(spark, model, night):
    def look(batches):
        from acai_jax.spark.worker import cached_scorer

        for batch in batches:
            scorer = cached_scorer(str(model), None)
            yield pa.RecordBatch.from_pydict(
                {
                    "process": [os.getpid()] * batch.num_rows,
                    "scorer": [id(scorer)] * batch.num_rows,
                    "threads": [scorer._threads] * batch.num_rows,
                }
            )

    model = str(model)
    numbers = spark.range(64).repartition(8)
    found = frame(numbers.mapInArrow(look, "process long, scorer long, threads long"))
    assert found["threads"].unique().to_list() == [1]
    # two executors, and a fresh worker where one ended: always fewer than the 8 tasks
    assert found.select("process", "scorer").n_unique() == found["process"].n_unique() < 8


def test_fink_calls_it_with_columns(spark, model, night, expected):
    from pyspark.sql import functions as F  # noqa: N812

    from acai_jax.spark.fink import acai

    alerts = spark.read.parquet(str(night / "fink.parquet"))
    stamps = [f"cutout{name}.stampData" for name in ("Science", "Template", "Difference")]
    columns = ["candid", "objectId", "candidate", *stamps, F.lit(str(model))]
    found = frame(alerts.select("candid", acai(*columns).alias("acai")))
    table = expected.filter(pl.col("reason").is_null())
    lists = found["acai"].drop_nulls().to_list()
    assert len(lists) == COUNT - 2
    scores = table.select([f"acai_{name}" for name in CLASSES]).to_numpy()
    np.testing.assert_array_equal(np.array(lists, np.float32), scores)


def test_the_script_writes_a_night(spark, model, night, expected, tmp_path, monkeypatch, capsys):
    from acai_jax.spark.__main__ import main

    main((str(night / "fink.parquet"),), str(tmp_path / "scores"), model=str(model))
    assert f"{COUNT} alerts, 2 of them without scores" in capsys.readouterr().out
    same_rows(pl.read_parquet(tmp_path / "scores" / "*.parquet"), expected)


def test_real_alerts_have_the_published_scores(spark, real_data):
    from acai_jax.spark import read_night, score_dataframe

    weights = real_data / "acai_h5"
    scorer = Scorer.load("published", weights_dir=weights)
    source = real_data / "fink_alerts.parquet"
    night = read_night(spark, str(source))
    found = frame(score_dataframe(night, "published", "kowalski", weights_dir=weights))
    same_rows(found, scorer.score(source, "kowalski", num_workers=0).drop("origin"))


def test_without_pyspark_one_line_says_what_to_install(tmp_path):
    program = "import sys; sys.modules['pyspark'] = None\nimport acai_jax.spark"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = 'MissingPackageError: pyspark is not installed: pip install "acai_jax[spark]"'
    assert result.stderr.splitlines()[-1].endswith(said)
