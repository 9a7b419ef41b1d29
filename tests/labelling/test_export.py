"""Labels, history, agreement and conflicts as files."""

import math

import polars as pl
import pytest
from command_line import acai_jax
from sklearn.metrics import cohen_kappa_score

from acai_jax.datasets.labels import read_labels
from acai_jax.errors import LabelsError
from acai_jax.labelling.export import FILES, RULE, cohens_kappa, export_labels
from acai_jax.labelling.store import Asked, LabelStore
from tests.labelling.test_store import event


@pytest.fixture
def store(tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    yield store
    store.close()


def csv(folder, name) -> pl.DataFrame:
    return pl.read_csv(folder / name, schema_overrides={"candid": pl.Int64})


def test_labels_are_what_the_dataset_builder_reads(store, tmp_path):
    exact = 2**63 - 1
    asked = Asked(why="random", probability=0.125)
    store.append(
        [
            event("a", alert_id=exact, label="h", asked=asked),
            event("b", alert_id=8, label="n", comment='=HYPERLINK("http://example.org")'),
            event("c", alert_id=9, action="unsure"),
            event("d", alert_id=10, label="b"),
            event("e", alert_id=10, action="undo", undoes="d"),
        ]
    )
    found = export_labels(store, tmp_path / "out")
    assert (found.labels, found.events, found.unsure) == (2, 5, 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    table = read_labels(tmp_path / "out" / "labels.csv").table
    assert dict(table.select("alert_id", "label").iter_rows()) == {exact: "h", 8: "n"}
    assert csv(tmp_path / "out", "labels.csv")["probability"].to_list() == [0.125, None]
    history = csv(tmp_path / "out", "history.csv")
    assert history["action"].to_list() == ["label", "label", "unsure", "label", "undo"]
    assert history["time"].str.contains(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").all()
    assert history["comment"][1].startswith("'=")


def test_the_label_that_most_gave_stands_and_ties_give_none(store, tmp_path):
    said = {7: "hhn", 8: "hn", 9: "vvv"}
    store.append(
        [
            event(f"{alert_id} {place}", f"labeller {place}", alert_id, label=label)
            for alert_id, labels in said.items()
            for place, label in enumerate(labels)
        ]
    )
    found = export_labels(store, tmp_path)
    assert (found.conflicts, found.undecided) == (2, 1)
    table = read_labels(tmp_path / "labels.csv").table
    assert dict(table.select("alert_id", "label").iter_rows()) == {7: "h", 9: "v"}
    conflicts = csv(tmp_path, "conflicts.csv")
    assert conflicts.select("candid", "decision").rows() == [(7, "h"), (8, None)]
    assert conflicts["labels"][1] == "labeller 0: h; labeller 1: n"
    assert set(conflicts["rule"]) == {RULE}
    of_pair = {(each.first, each.second): each for each in found.agreements}
    pair = of_pair["labeller 0", "labeller 1"]
    kappa = cohen_kappa_score(["h", "h", "v"], ["h", "n", "v"])
    assert (pair.alerts, pair.agreed, pair.kappa) == (3, 2 / 3, pytest.approx(kappa))


def test_kappa_of_one_label_only_is_none():
    assert math.isnan(cohens_kappa([("h", "h"), ("h", "h")]))


def test_labels_that_there_are_stay_but_those_given_anew(store, tmp_path):
    base = tmp_path / "base.csv"
    base.write_text(
        "candid, label ,oid,true_label,why\n"
        "1,h,ZTF26test001,h,random\n 2 ,n,ZTF26test002,v,boundary\n1,h,ZTF26test001,h,random\n"
    )
    relabelled = event("a", alert_id=2, label="v", asked=Asked(why="relabel"))
    store.append([relabelled, event("b", alert_id=3, label="o", asked=Asked(why="random"))])
    export_labels(store, tmp_path / "out", base)
    table = csv(tmp_path / "out", "labels.csv")
    assert table.select("oid", "candid", "label", "true_label", "why").rows() == [
        ("ZTF26test001", 1, "h", "h", "random"),
        ("ZTF26test002", 2, "v", "v", "boundary"),
        ("ZTF26test003", 3, "o", None, "random"),
    ]
    read_labels(tmp_path / "out" / "labels.csv")
    base.write_text("oid,candid\n")
    with pytest.raises(LabelsError, match="column label is missing"):
        export_labels(store, tmp_path / "out", base)


def test_an_empty_store_gives_no_labels(store, tmp_path):
    with pytest.raises(LabelsError, match="holds no labels yet"):
        export_labels(store, tmp_path)


def test_the_command_says_what_it_wrote(store, tmp_path):
    store.append([event("a", label="h"), event("b", "bob", label="h"), event("c", "bob", 8, "n")])
    result = acai_jax("labels", "--store", store.path, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "ann, bob" in result.stdout
    assert "labels.csv: 2 of the store" in result.stderr
    missing = acai_jax("labels", "--store", tmp_path / "none.db")
    assert (missing.returncode, "none.db is not there" in missing.stderr) == (1, True)
