"""The alerts to look at are the worst ones, of different objects."""

import polars as pl
import pytest
from evaluations import score_table

from acai_jax.evaluate.examples import choose_examples

HEADS = {"h": (["h"], 0.4), "v": (["v", "rr"], 0.6)}


def images_of(rows: pl.DataFrame) -> dict:
    assert rows["candid"].n_unique() == len(rows)
    return dict.fromkeys(rows["candid"][1:], (None, None, None))


def test_the_worst_misses_come_first_one_of_each_object():
    table = score_table(against=True)
    found = choose_examples(table, HEADS, ["h"], images_of)
    for name, (positives, threshold) in HEADS.items():
        of_head = [each for each in found if each.head == name]
        missed = [each.row for each in of_head if each.kind == "missed"]
        false = [each.row for each in of_head if each.kind == "false alarm"]
        assert missed
        assert false
        assert all(row["label"] in positives for row in missed)
        assert not any(row["label"] in positives for row in false)
        low, high = ([row[f"acai_{name}"] for row in rows] for rows in (missed, false))
        assert low == sorted(low)
        assert high == sorted(high, reverse=True)
        assert max(low) < threshold <= min(high)
        positive = pl.col("label").is_in(positives)
        assert low[0] == table.filter(positive)[f"acai_{name}"].min()
        assert high[0] == table.filter(~positive)[f"acai_{name}"].max()
        for rows in (missed, false):
            assert len({row["objectId"] for row in rows}) == len(rows) <= 12


def test_disagreements_are_the_largest():
    table = score_table(against=True)
    found = choose_examples(table, HEADS, ["h"], images_of)
    distances = [
        abs(each.row["acai_h"] - each.row["acai_h_against"])
        for each in found
        if each.kind == "disagreement"
    ]
    assert len(distances) == 12
    assert distances == sorted(distances, reverse=True)
    expected = (table["acai_h"] - table["acai_h_against"]).abs().max()
    assert distances[0] == pytest.approx(expected)


def test_a_report_of_many_heads_stays_small():
    table = score_table()
    many = table.with_columns(
        (pl.col("acai_h") * (1 - n / 1000)).alias(f"acai_{n}") for n in range(40)
    )
    found = choose_examples(many, {str(n): (["h"], 0.4) for n in range(40)}, [], images_of)
    assert 40 <= len(found) <= 150


def test_where_all_is_right_there_are_none():
    table = score_table().with_columns(acai_h=(pl.col("label") == "h").cast(pl.Float32))
    assert choose_examples(table, {"h": (["h"], 0.5)}, [], images_of) == []
