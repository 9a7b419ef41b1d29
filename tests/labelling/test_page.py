"""The labelling page in a real browser, driven by its keys, against a real server."""

import os
import signal

import pytest
from chromium import CHROMIUM
from devtools import running_browser
from pages import LabelProcess, make_queue, serving

from acai_jax.labelling.export import export_labels
from acai_jax.labelling.store import LabelStore

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

ALERTS = 80
SAVED = "document.getElementById('unsaved').textContent === ''"
SHOWN = (
    "!document.getElementById('single').hidden && document.querySelector('#picture img')?.complete"
)
OBJECT = "document.getElementById('object').textContent"
SAID = "document.getElementById('said').textContent"
COUNTS = "document.getElementById('counts').textContent"
TILES = "[...document.querySelectorAll('.tile')].map((tile) => tile.textContent)"


@pytest.fixture(scope="module")
def queue_file(tmp_path_factory):
    return make_queue(tmp_path_factory.mktemp("queue"), ALERTS)


@pytest.fixture(scope="module")
def browser():
    with running_browser() as running:
        yield running


@pytest.fixture
def served(queue_file, tmp_path):
    with serving(queue_file, tmp_path, labeller="ann") as found:
        yield found


def opened(browser, server, width=1280, *, who="", **options):
    tab = browser.tab(server.url + who, width, **options)
    tab.until(SHOWN)
    return tab


def press(tab, keys):
    """Presses keys, each once there is an alert to see; gives the objects that there were."""
    seen = []
    for key in keys:
        tab.until(SHOWN)
        seen.append(tab.run(OBJECT))
        tab.press(key)
    return seen


def said_in(session):
    return [(each.object_id, each.action, each.label) for each in session.store.history()]


def test_fifty_alerts_are_labelled_by_keys(browser, served, tmp_path):
    server, session = served
    tab = opened(browser, server)
    given = [*"honvb" * 10]
    seen = press(tab, given)
    tab.until(SAVED)
    assert said_in(session) == [(s, "label", g) for s, g in zip(seen, given, strict=True)]
    assert len({*seen}) == 50
    assert all(event.seconds > 0 and event.asked.why for event in session.store.history())
    assert "50 by ann" in tab.run(COUNTS)
    assert export_labels(session.store, tmp_path / "out").labels == 50
    # nothing is asked of anyone else, and nothing went wrong
    own = (server.url.partition("/?")[0], "data:")
    assert [url for url in tab.requests() if not url.startswith(own)] == []
    assert tab.complaints() == []
    assert "token" not in tab.run("location.href")


def test_undo_skip_unsure_and_comments(browser, served):
    server, session = served
    tab = opened(browser, server)
    (first,) = press(tab, "h")
    tab.press("Backspace")
    assert tab.run(OBJECT) == first
    assert tab.run(SAID) == f"Undone: {first}."
    tab.press("c", *"nov", "Enter", "n")  # letters of the comment are no labels
    skipped, unsure = press(tab, " u")
    tab.until(SAVED)
    assert said_in(session) == [
        (first, "label", "h"),
        (first, "undo", None),
        (first, "label", "n"),
        (skipped, "skip", None),
        (unsure, "unsure", None),
    ]
    assert [event.comment for event in session.store.history()][2] == "nov"
    # what a key does when it is held down, or pressed with another, it does not do here
    tab.command("Input.dispatchKeyEvent", type="keyDown", key="h", text="h", autoRepeat=True)
    tab.command("Input.dispatchKeyEvent", type="rawKeyDown", key="h", code="KeyH", modifiers=2)
    left = session.progress("ann")["total"] - 2
    assert press(tab, "b" * left)[-1] == skipped
    tab.until("document.getElementById('message').textContent.includes('nothing is left for ann')")
    assert len(said_in(session)) == 5 + left
    assert tab.complaints() == []


def test_many_at_once(browser, served):
    server, session = served
    tab = opened(browser, server)
    tab.press("g")
    tab.until(f"{TILES}.length === 12")
    before = tab.run(TILES)
    tab.press(" ", "ArrowRight", "ArrowRight", " ", "v")
    tab.until(SAVED)
    assert said_in(session) == [(before[0], "label", "v"), (before[2], "label", "v")]
    tab.until(f"{TILES}.length === 12")
    assert tab.run(TILES)[0] == before[1]
    tab.press("Backspace")
    assert tab.run(TILES)[0] == before[2]
    tab.press("a", "b")
    tab.until(SAVED)
    assert [label for *_, label in said_in(session)[-12:]] == ["b"] * 12
    tab.until(f"{TILES}.length === 12")
    tab.press("h")  # only the one in focus
    tab.until(SAVED)
    assert [label for *_, label in said_in(session)[-2:]] == ["b", "h"]


def test_a_second_labeller_sees_what_the_first_does_not(browser, queue_file, tmp_path):
    with serving(queue_file, tmp_path, labeller="ann", overlap=0.3) as (server, session):
        ann, bob = opened(browser, server), opened(browser, server, who="&as=bob")
        for key in "hhn" * 5:
            press(ann, "h")
            press(bob, key)
        for tab, name in ((ann, "ann"), (bob, "bob")):
            tab.until(SAVED)
            assert f"15 by {name}" in tab.run(COUNTS)
        events = list(session.store.history())
        of = {name: {e.alert_id for e in events if e.labeller == name} for name in ("ann", "bob")}
        assert [len(alerts) for alerts in of.values()] == [15, 15]
        assert 0 < len(of["ann"] & of["bob"]) < 15
        (agreement,) = export_labels(session.store, tmp_path / "out").agreements
        assert (agreement.first, agreement.second) == ("ann", "bob")
        # another name on the page is another labeller
        bob.press("?")
        bob.run("document.getElementById('labeller').value = 'cyd'")
        bob.press("Escape")
        bob.until(f"{COUNTS}.includes(' 0 by cyd')")


def test_a_reload_and_a_killed_server_lose_nothing_and_double_nothing(
    browser, queue_file, tmp_path
):
    arguments = (queue_file, "--store", tmp_path / "labels.db", "--labeller", "ann", "--overlap", 0)
    running = LabelProcess([*arguments, "--port", 0])
    try:
        tab = opened(browser, running)
        press(tab, "honvb")
        tab.command("Page.reload")  # while some may be on their way
        tab.until(f"{SHOWN} && {SAVED}")
        store = LabelStore(tmp_path / "labels.db")
        assert [event.label for event in store.history()] == [*"honvb"]
        tab.press("Backspace")  # what was done before the reload
        press(tab, "honvb")
        tab.until(SAVED)
        press(tab, "ho")
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        press(tab, "nvb")
        tab.until("document.getElementById('unsaved').textContent.includes('unsaved')")
        acknowledged = len(list(store.history()))
        assert acknowledged >= 5 + 1 + 5
    finally:
        running.close()
    again = LabelProcess([*arguments, "--port", running.port])
    try:
        tab.until("document.getElementById('unsaved').textContent.includes('started anew')")
        tab.open(again.url)
        tab.until(f"{SHOWN} && {SAVED}")
        labels = [event.label for event in store.history() if event.label]
        assert labels == [*"honvb" * 3]  # in their order, each once
        assert [event.action for event in store.history()].count("undo") == 1
        assert len(store.standing().alert_ids()) == 14
    finally:
        again.close()
        store.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_phones_and_desktops_and_reads_well(browser, served, width, dark):
    tab = opened(browser, served[0], width, dark=dark)
    assert tab.run("document.documentElement.scrollWidth") <= width
    image = "document.querySelector('#picture img').getBoundingClientRect()"
    assert tab.run(f"{image}.width") > 0.55 * width
    bottom = "document.querySelector('.choices').getBoundingClientRect().bottom"
    assert tab.run(bottom) <= tab.run("innerHeight")  # labels are in reach
    colours = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, colours.strip("rgb()").split(","))) < 60) == dark
    # everything that can be pressed or read has a name
    tree = tab.command("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "image", "textbox", "progressbar", "group", "region"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in tree
        if not node.get("ignored") and node.get("role", {}).get("value") in roles
    ]
    assert all(name for _, name in named), named
    assert {"button", "link", "image", "textbox", "progressbar"} <= {role for role, _ in named}
    assert tab.complaints() == []
