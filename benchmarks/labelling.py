"""The labelling page: how soon the next picture is there, and how soon a label is on the disk.

    python -m benchmarks.labelling

Serves a queue of simulated alerts by `acai-jax label`, and presses keys in a real browser (Debian's
Chromium), as fast as a quick labeller. In the page it takes the time from a key to the frame that
shows the next alert; and from the request that brings a label to the answer that says it is on the
disk (SQLite, synchronous=FULL). Results go to benchmarks/results/labelling-<device>.json.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from acai_jax.simulate import write_alerts
from benchmarks import timing

sys.path.insert(0, str(timing.ROOT / "tests"))

from devtools import Tab, running_browser
from pages import labelling, queue_of

# two frames after a key, what it changed has been drawn
WATCH = """
window.frames_ = []; window.saves_ = [];
addEventListener("keydown", (event) => {
  const before = document.getElementById("object").textContent;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const image = document.querySelector("#picture img");
    const shown = document.getElementById("object").textContent !== before && image?.complete;
    frames_.push(shown ? performance.now() - event.timeStamp : null);
  }));
}, true);
new PerformanceObserver((list) => {
  const saves = list.getEntries().filter((each) => each.name.endsWith("/api/events"));
  saves_.push(...saves.map((each) => each.duration));
}).observe({ type: "resource" });
"""
SHOWN = (
    "!document.getElementById('single').hidden && document.querySelector('#picture img')?.complete"
)


def press_keys(tab: Tab, labels: int, pause: float) -> None:
    """Labels alerts, one each `pause` seconds."""
    for place in range(labels):
        tab.until(SHOWN)
        tab.press("honvb"[place % 5])
        time.sleep(pause)
    tab.until("document.getElementById('unsaved').textContent === ''")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--pause", type=float, default=0.15, help="between keys [s]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_alerts(folder, 3 * options.labels, seed=3)
        queue = queue_of(folder, folder / "alerts", options.labels)
        arguments = (queue, "--store", folder / "labels.db", "--port", 0, "--overlap", 0)
        with labelling(*arguments) as running, running_browser() as browser:
            tab = browser.tab(running.url)
            tab.until(SHOWN)
            tab.run(WATCH)
            others = timing.OtherProcesses()
            press_keys(tab, options.labels - 50, options.pause)
            busy = round(others.cores(), 2)  # the server's and the browser's work among it
            times = {
                "key to the next picture": tab.run("frames_"),
                "label to durable": tab.run("saves_"),
            }
    table = Table(title="Labelling page [ms]", title_justify="left")
    for column in ("what", "count", "median", "p95", "p99", "largest"):
        table.add_column(column, justify="left" if column == "what" else "right")
    results = []
    for what, found in times.items():
        values = np.array([each for each in found if each is not None])
        row = {
            "median": float(np.median(values)),
            "p95": float(np.percentile(values, 95)),
            "p99": float(np.percentile(values, 99)),
            "largest": float(values.max()),
        }
        counts = {"count": len(values), "late": len(found) - len(values)}
        results.append({"what": what, **counts, **row, "cores_busy_elsewhere": busy})
        table.add_row(what, f"{len(values):,}", *(f"{value:.1f}" for value in row.values()))
    Console(width=100).print(table)
    timing.write_results("labelling", results)


if __name__ == "__main__":
    main()
