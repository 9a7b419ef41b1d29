"""Places of alerts in the space of the heads' last layer, where what is alike lies near."""

import jax
import numpy as np
import polars as pl
from jaxtyping import Float

from acai_jax.alerts.lookup import alerts_of_table
from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.sources import Paths
from acai_jax.errors import PickError
from acai_jax.labelling.pick import Embed
from acai_jax.network.bank import HeadBank, last_layers
from acai_jax.network.drb import pad_rows
from acai_jax.surveys import survey_of_table

_BATCH = 64


def last_layer_of(bank: HeadBank, paths: Paths | None = None) -> Embed:
    """What `pick` takes to spread alerts out.

    An alert that cannot be read again lies in the middle of the others.

    Args:
        bank: the heads, those of the table's scores.
        paths: where the alerts lie; by default where they were scored.

    Example:
        >>> pick(table, 100, embed=last_layer_of(load_heads("heads")))  # doctest: +SKIP
    """
    program = jax.jit(last_layers)

    def embed(rows: pl.DataFrame) -> Float[np.ndarray, "n u"]:
        survey = survey_of_table(rows.columns)
        if survey is not bank.survey:
            raise PickError(
                f"the model reads alerts of {bank.survey.title}, and the table is of {survey.title}"
            )
        packets = list(alerts_of_table(rows, paths))
        found = {}
        for start in range(0, len(packets), _BATCH):
            prepared = prepare_alerts(packets[start : start + _BATCH], bank.preset, survey=survey)
            padded = (pad_rows(each, _BATCH) for each in (prepared.features, prepared.triplets))
            places = np.asarray(program(bank.heads, *padded))
            for row, place in zip(prepared.accepted, places, strict=False):
                found[prepared.columns[survey.alert_id][row]] = place
        if not found:
            raise PickError("the alerts are not where they were scored: name them by --alerts")
        middle = np.mean(list(found.values()), axis=0)
        return np.stack([found.get(alert_id, middle) for alert_id in rows[survey.alert_id]])

    return embed
