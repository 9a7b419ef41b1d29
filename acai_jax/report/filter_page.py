"""A filter tried on a past night, as one page: what passes, of how many, and what it looks like."""

import datetime
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from acai_jax.alerts.stamps import Images
from acai_jax.datasets.card import class_name
from acai_jax.files import write_file
from acai_jax.filters.trial import UNKNOWN, UNSCORED, Trial
from acai_jax.report import html
from acai_jax.report.exhibits import alert_exhibit
from acai_jax.report.themes import WIDTH, Theme, draw_picture
from acai_jax.surveys.base import Survey
from acai_jax.times import utc

MOST_SHOWN: Final = 150
"""Objects in the gallery, so that the page stays below 10 MB."""

_MANY_NIGHTS: Final = 5  # worth a picture
_MAX_STAGE: Final = 34  # letters of a stage in the picture
_MAX_TITLE: Final = 60


def shown_alerts(trial: Trial) -> pl.DataFrame:
    """The alerts that a report's gallery shows: the newest.

    Args:
        trial: what is reported.
    """
    return trial.newest.head(MOST_SHOWN)


def write_filter_report(
    trial: Trial,
    folder: str | os.PathLike[str],
    images: Mapping[int, Images],
    *,
    name: str | None = None,
    why: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes report.html, which needs nothing else.

    Args:
        trial: what to report.
        folder: where to put the page; an earlier one is replaced.
        images: stamps by the alerts' identifiers, of those alerts of which they can be had.
        name: of the filter.
        why: what the filter is for.
        facts: what else there is to say, such as where the table lies.

    Returns:
        The page's path.

    Example:
        >>> trial = try_filter(pl.scan_parquet("scores.parquet"), "acai_h > 0.8")  # doctest: +SKIP
        >>> write_filter_report(trial, "report", {})  # doctest: +SKIP
        PosixPath('report/report.html')
    """
    nights, rows = trial.groups["night"], shown_alerts(trial).to_dicts()
    page = html.render(
        "filter_page.html.j2",
        title=f"Filter {name or _shortened(trial.where, _MAX_TITLE)}",
        introduction=f"{_summary(trial)} {why or ''}".strip(),
        trial=trial,
        stages=_stages(trial),
        drawn_stages=_draw_stages(trial.stages),
        groups={key: _group_rows(trial, key) for key in trial.groups},
        drawn_nights=_draw_nights(nights) if len(nights) >= _MANY_NIGHTS and rows else None,
        left_out=len(trial.newest) - len(rows),
        without_stamps=sum(row[trial.survey.alert_id] not in images for row in rows),
        exhibits=[_exhibit(trial, row, images.get(row[trial.survey.alert_id])) for row in rows],
        filters=_filters(trial.survey, rows),
        orders=_orders(trial),
        facts=_facts(trial, facts or {}),
    )
    path = Path(folder, "report.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, page.encode())
    return path


def _summary(trial: Trial) -> str:
    all_alerts, all_objects = trial.stages.row(0)[1:]
    alerts, objects = trial.stages.row(-1)[1:]
    nights = [night for night in trial.groups["night"]["group"] if night != UNKNOWN]
    when = "" if not nights else f", {' to '.join(dict.fromkeys((nights[0], nights[-1])))} UTC"
    total = (
        f"{all_objects:,} objects ({alerts:,} of {all_alerts:,} alerts, "
        f"{_share(alerts, all_alerts)}){when}"
    )
    if not alerts:
        stage = next(text for text, left, _ in trial.stages.iter_rows() if not left)
        where = f"the last ones fail at: {stage}" if all_alerts else "the table is empty"
        return f"Nothing passes, of {total}: {where}."
    return f"{objects:,} objects pass ({_share(objects, all_objects)}), of {total}."


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none"
    share = 100 * part / whole
    digits = f"{share:.2g}" if 0 < share < 0.01 else f"{share:.2f}"
    return f"{digits}\N{NO-BREAK SPACE}%"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _stages(trial: Trial) -> list[list[str | int]]:
    all_alerts, all_objects = trial.stages.row(0)[1:]
    return [
        [
            str(number) if number else "",
            stage,
            *(objects, _share(objects, all_objects)),
            *(alerts, _share(alerts, all_alerts)),
        ]
        for number, (stage, alerts, objects) in enumerate(trial.stages.iter_rows())
    ]


def _draw_stages(stages: pl.DataFrame) -> html.Picture:
    left = stages["objects"].to_list()

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(WIDTH, 0.5 * len(left) + 0.9), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(left)), left, color="#0072B2", height=0.38)
        for place, (stage, objects) in enumerate(zip(stages["stage"], left, strict=True)):
            words = _shortened(stage, _MAX_STAGE)
            text = f"{place}  {words}" if place else words
            axes.annotate(text, (0, place - 0.36), (2, 0), textcoords="offset points", va="center")
            axes.annotate(
                f"{objects:,}", (objects, place), (4, 0), textcoords="offset points", va="center"
            )
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, max(left[0], 1) * 4)
        axes.set_ylim(len(left) - 0.5, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_color(theme.line)
        axes.set_xlabel("objects left")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        return figure

    alt = "Bars of the objects left after each stage: " + "; ".join(
        f"{stage} {objects:,}" for stage, objects in zip(stages["stage"], left, strict=True)
    )
    return draw_picture(draw, alt, "Objects left after each stage, on a logarithmic scale.")


def _draw_nights(groups: pl.DataFrame) -> html.Picture:
    nights = groups.filter(pl.col("group") != UNKNOWN)
    dates = [datetime.date.fromisoformat(night) for night in nights["group"]]
    passed = nights["objects_passed"].to_list()

    def draw(theme: Theme) -> Figure:
        del theme
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        # a night stays visible among those of years
        width = max(0.8, (dates[-1] - dates[0]).days / 300)
        axes.bar(dates, passed, width=width, color="#0072B2")  # type: ignore[arg-type]
        axes.set_ylabel("objects that pass")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        locator = AutoDateLocator(minticks=3, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        return figure

    busiest = max(range(len(dates)), key=passed.__getitem__)
    alt = (
        f"Bars of the objects that pass in each of {len(dates)} nights; most in the night of "
        f"{dates[busiest]}: {passed[busiest]:,}"
    )
    undated = groups.filter(pl.col("group") == UNKNOWN)["alerts"].sum()
    left_out = f" Left out, without a date: {undated:,} alerts." if undated else ""
    return draw_picture(draw, alt, f"Objects that pass, by night.{left_out}")


def _group_rows(trial: Trial, key: str) -> list[list[str | int]]:
    groups = trial.groups[key]
    if key == "class":  # in the order of the heads, what is not scored last
        places = {head: place for place, head in enumerate(trial.heads)}
        groups = groups.sort(pl.col("group").replace_strict(places, default=len(places)))
    return [
        [
            class_name(group) if key != "night" else group,
            *(objects, passed, _share(passed, objects)),
            *(alerts, alerts_passed, _share(alerts_passed, alerts)),
        ]
        for group, objects, passed, alerts, alerts_passed in groups.iter_rows()
    ]


def _filters(
    survey: Survey, rows: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[str, dict[str, str]]]:
    bands = [survey.band_name(row[survey.band]) for row in rows]
    choices = {
        "class": ("largest score", {row["class"]: class_name(row["class"]) for row in rows}),
        "night": ("night", {row["night"]: row["night"] for row in rows}),
        "band": ("filter", {name: name for name in bands}),
    }
    if rows and "label" in rows[0]:
        choices["label"] = ("label", {row["label"]: class_name(row["label"]) for row in rows})
    return {
        key: (name, dict(sorted(values.items())))
        for key, (name, values) in choices.items()
        if len(values) > 1
    }


def _orders(trial: Trial) -> list[tuple[str, str, bool]]:
    return [
        ("time", "date, latest first", True),
        ("time", "date, earliest first", False),
        ("magnitude", f"{trial.survey.magnitude}, brightest first", False),
        *(
            (f"score{place}", f"score {head}, highest first", True)
            for place, head in enumerate(trial.heads)
        ),
    ]


def _exhibit(trial: Trial, row: Mapping[str, Any], images: Images | None) -> html.Exhibit:
    best = row["class"]
    text = class_name(best)
    if best != UNSCORED:
        text += f": {row[f'acai_{best}']:.4f}"
    if date := utc(row[trial.survey.time]):
        text += f"; {date:%Y-%m-%d %H:%M} UTC"
    if row["passing"] > 1:
        text += f"; {row['passing']:,} alerts pass"
    return alert_exhibit(
        row,
        images,
        trial.heads,
        text=text,
        groups={
            "class": best,
            "night": row["night"],
            "band": trial.survey.band_name(row[trial.survey.band]),
            **({"label": row["label"]} if "label" in row else {}),
        },
        numbers={
            f"score{place}": row[f"acai_{head}"] or 0.0 for place, head in enumerate(trial.heads)
        },
    )


def _facts(trial: Trial, facts: Mapping[str, str]) -> list[list[str]]:
    found = {
        **facts,
        "filter": trial.where,
        "alerts without scores": "may pass" if trial.include_unscored else "never pass",
        "presets": ", ".join(trial.presets),
        "made with": f"acai_jax {metadata.version('acai_jax')}",
    }
    return [[name, value] for name, value in found.items() if value]
