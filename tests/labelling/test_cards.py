"""Cards of alerts: what they show, and what they never say."""

import json

import polars as pl
import pytest
from pages import queue_of
from synthetic import avro_bytes, packet_record

from acai_jax.alerts.lookup import alerts_of_table
from acai_jax.labelling.cards import Cards
from acai_jax.labelling.queue import read_queue


def cards_of(folder, alerts, count=100):
    queue = read_queue(queue_of(folder, alerts, count))
    return queue, Cards(queue, alerts_of_table(queue, histories=True))


def test_a_card_shows_the_alert_and_hides_what_was_made_of_it(tmp_path):
    path = tmp_path / "night.avro"
    path.write_bytes(avro_bytes(packet_record(3)))
    queue, cards = cards_of(tmp_path, path)
    cards.make_ahead().join()
    (alert_id,) = queue["candid"]
    card = cards.card(alert_id)
    assert card.png.startswith(b"\x89PNG")
    facts = card.facts
    assert (facts["id"], facts["object"]) == (str(alert_id), "ZTF26test003")
    names = [name for name, _ in facts["facts"]]
    assert names[:2] == ["position", "filter"]
    assert {"magpsf", "ndethist"} < {*names}
    assert len(facts["light_curve"]) == 2  # its own, and the limits of one time
    assert "1 limit" in facts["light_curve_summary"]
    said = json.dumps(facts, allow_nan=False)
    assert not [word for word in ("acai", "boundary", "random", "split") if word in said]
    assert all(url.startswith("https://") for _, url in facts["links"])


def test_an_alert_that_is_gone_has_a_card_without_stamps(tmp_path):
    path = tmp_path / "night.avro"
    path.write_bytes(avro_bytes(packet_record(3), packet_record(4)))
    queue = read_queue(queue_of(tmp_path, path, 2))
    cards = Cards(queue, [])
    assert cards.missing == 2
    card = cards.card(queue["candid"][0])
    assert card.png is None
    assert "not found" in card.facts["alt"]
    assert card.facts["links"]
    # of labels that are asked for again, nothing but the names may be known
    bare = queue.with_columns(pl.lit(None, pl.Float64).alias(n) for n in ("jd", "ra", "dec"))
    assert Cards(bare, []).card(queue["candid"][0]).facts["links"] == []


@pytest.mark.parametrize("name", ["alerts", "lsst/lsst_v10_0.avro"])
def test_real_alerts_have_cards(real_data, tmp_path, name):
    queue, cards = cards_of(tmp_path, real_data / name, 3)
    assert cards.missing == 0
    for alert_id in queue.to_series():
        card = cards.card(alert_id)
        assert card.png is not None
        json.dumps(card.facts, allow_nan=False)


def test_cards_that_are_made_ahead_can_be_asked_for_meanwhile(tmp_path):
    path = tmp_path / "night.avro"
    path.write_bytes(avro_bytes(*(packet_record(number) for number in range(8))))
    queue, cards = cards_of(tmp_path, path, 8)
    ahead = cards.make_ahead()
    asked = [cards.card(alert_id) for alert_id in queue["candid"].reverse()]
    ahead.join()
    assert all(card.png is not None for card in asked)
    assert [cards.card(alert_id) for alert_id in queue["candid"].reverse()] == asked
