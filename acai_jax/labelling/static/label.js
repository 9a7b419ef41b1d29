"use strict";
// The labelling page: shows the next alert at once, and saves answers behind it, each one once.
const AHEAD = 12, TILES = 12, SLOWEST_RETRY = 5000;
const byId = (id) => document.getElementById(id);
const make = (name, text, attributes = {}) =>
  Object.assign(document.createElement(name), { textContent: text, ...attributes });

// --- state ---------------------------------------------------------------------------------------

const asked = new URLSearchParams(location.search).get("as");
const inTab = (value) => value && sessionStorage.setItem("labeller", value);
inTab(asked);
const labeller = () => sessionStorage.getItem("labeller") ?? document.body.dataset.labeller;
const STORED = `unsaved ${document.body.dataset.store}`;

const upcoming = []; // cards, the first of which is shown; in the grid, the first twelve
const done = []; // [request, card] of answers that can be undone
let unsaved = JSON.parse(localStorage.getItem(STORED) ?? "[]"); // [labeller, event]
let exhausted = false, loading = false, saving = false, trouble = "", since = performance.now();
let inGrid = false;

let meanwhile = new Set(); // alerts that were answered while the server was asked for more

// --- server --------------------------------------------------------------------------------------

const post = async (path, content) => {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
  });
  const found = answer.headers.get("Content-Type")?.includes("json") ? await answer.json() : {};
  if (!answer.ok) throw Object.assign(new Error(found.error ?? ""), { status: answer.status });
  return found;
};

const excuse = (error) => error.status === 403
  ? "The server was started anew: open the address that it printed. What is unsaved here is kept."
  : error.status ? `The server says: ${error.message}` : "The server does not answer; trying again.";

const fetchMore = async () => {
  const wanted = inGrid ? 2 * TILES : AHEAD;
  if (loading || exhausted || upcoming.length >= wanted - 4) return;
  loading = true;
  const who = labeller();
  try {
    meanwhile = new Set();
    const have = [...upcoming.map((card) => card.id), ...unsaved.map(([, event]) => event.alert)];
    const found = await post("/api/next", { labeller: who, count: Math.min(100, wanted + unsaved.length), have });
    if (who !== labeller()) return;
    trouble = "";
    const fresh = found.alerts.filter((card) =>
      !meanwhile.has(card.id) && !upcoming.some((other) => other.id === card.id));
    exhausted = !fresh.length && !unsaved.length && !meanwhile.size;
    for (const card of fresh) prepare(card);
    const wasEmpty = !upcoming.length;
    upcoming.push(...fresh);
    if (!done.length && found.last) {
      prepare(found.last.alert);
      done.push([found.last.request, found.last.alert]);
    }
    showProgress(found.progress);
    if (wasEmpty || inGrid) show();
  } catch (error) {
    trouble = excuse(error);
    if (error.status !== 403) setTimeout(fetchMore, 1000);
    show();
  } finally {
    loading = false;
  }
};

const prepare = (card) => { // decoded ahead, so that it appears at once
  if (!card.has_picture) return;
  card.image = Object.assign(new Image(), { src: `/picture/${card.id}.png`, alt: card.alt });
  card.image.decode().catch(() => {});
};

const save = async () => {
  if (saving) return;
  saving = true;
  let wait = 250;
  while (unsaved.length) {
    const who = unsaved[0][0];
    const batch = unsaved.filter(([other]) => other === who).slice(0, 50).map(([, event]) => event);
    try {
      const found = await post("/api/events", { labeller: who, events: batch });
      forget(found.saved);
      wait = 250;
      trouble = "";
      for (const each of found.revealed) reveal(each);
      showProgress(found.progress);
    } catch (error) {
      trouble = excuse(error);
      showUnsaved();
      if (error.status === 403) break;
      if (error.status === 400) { // no retry mends it: one by one, and the bad one is left out
        await saveEach(who, batch);
        continue;
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(2 * wait, SLOWEST_RETRY);
    }
  }
  saving = false;
  showUnsaved();
  fetchMore();
};

const saveEach = async (who, batch) => {
  for (const event of batch) {
    try {
      forget((await post("/api/events", { labeller: who, events: [event] })).saved);
    } catch (error) {
      if (error.status !== 400) return;
      forget([event.request]);
      say(`Not saved: ${error.message}`);
    }
  }
};

const remember = () => localStorage.setItem(STORED, JSON.stringify(unsaved));
const forget = (requests) => {
  unsaved = unsaved.filter(([, event]) => !requests.includes(event.request));
  remember();
  showUnsaved();
};

// --- answers -------------------------------------------------------------------------------------

const send = (events) => {
  unsaved.push(...events.map((event) => [labeller(), event]));
  remember();
  showUnsaved();
  save();
};

const answer = (action, label, name) => {
  const cards = inGrid ? chosen() : upcoming.slice(0, 1);
  if (!cards.length) return;
  const seconds = (performance.now() - since) / 1000 / cards.length;
  const comment = inGrid ? null : byId("comment").value.trim() || null;
  const events = cards.map((card) =>
    ({ request: crypto.randomUUID(), alert: card.id, action, label, comment, seconds }));
  cards.forEach((card, place) => {
    upcoming.splice(upcoming.indexOf(card), 1);
    done.push([events[place].request, card]);
    meanwhile.add(card.id);
  });
  exhausted = false;
  show();
  say(`${name}: ${cards.map((card) => card.object).join(", ")}.`);
  send(events);
  fetchMore();
};

const undo = () => {
  const last = done.pop();
  if (!last) return say("There is nothing to undo.");
  const [request, card] = last;
  // a skipped alert may have come back already
  const place = upcoming.findIndex((each) => each.id === card.id);
  if (place >= 0) upcoming.splice(place, 1);
  upcoming.unshift(card);
  show();
  say(`Undone: ${card.object}.`);
  send([{ request: crypto.randomUUID(), alert: card.id, action: "undo", undoes: request }]);
};

// --- what is shown -------------------------------------------------------------------------------

const say = (text) => { byId("said").textContent = text; };

const show = () => {
  since = performance.now();
  const card = upcoming[0];
  byId("single").hidden = inGrid || !card;
  byId("grid").hidden = !inGrid || !card;
  byId("message").hidden = Boolean(card);
  byId("message").firstElementChild.textContent = trouble ||
    (exhausted ? `Done: nothing is left for ${labeller()}.` : "Loading alerts.");
  if (card) inGrid ? showTiles() : showCard(card);
};

const showCard = (card) => {
  byId("object").textContent = card.object;
  byId("picture").replaceChildren(card.image ?? card.alt);
  const plot = byId("light-curve"), { light_curve: points, light_curve_summary: summary } = card;
  plot.replaceChildren(drawLightCurve(points, summary, plot.clientWidth));
  byId("light-curve-summary").textContent = card.light_curve_summary;
  byId("facts").replaceChildren(
    ...card.facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  byId("links").replaceChildren(...card.links.map(([name, href]) => {
    const item = document.createElement("li");
    item.append(make("a", name, { href, target: "_blank", rel: "noopener noreferrer" }));
    return item;
  }));
  byId("comment").value = "";
};

const tiles = () => [...document.querySelectorAll(".tile")];
const showTiles = () => {
  const place = Math.max(0, tiles().indexOf(document.activeElement));
  const selected = new Set(tiles().filter(isSelected).map((tile) => tile.dataset.id));
  byId("tiles").replaceChildren(...upcoming.slice(0, TILES).map((card) => {
    const item = document.createElement("li"), tile = make("button", "", { type: "button" });
    tile.className = "tile";
    tile.dataset.id = card.id;
    select(tile, selected.has(card.id));
    tile.append(card.image ?? card.alt, card.object);
    tile.addEventListener("click", () => select(tile, !isSelected(tile)));
    item.append(tile);
    return item;
  }));
  tiles()[Math.min(place, tiles().length - 1)]?.focus();
};
const isSelected = (tile) => tile.getAttribute("aria-pressed") === "true";
const select = (tile, yes) => tile.setAttribute("aria-pressed", yes);
const chosen = () => {
  const all = tiles(), selected = all.filter(isSelected);
  const ids = (selected.length ? selected : all.filter((tile) => tile === document.activeElement))
    .map((tile) => tile.dataset.id);
  return upcoming.filter((card) => ids.includes(card.id));
};
const move = (key) => {
  const all = tiles(), place = all.indexOf(document.activeElement);
  const columns = all.filter((tile) => tile.offsetTop === all[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  all[Math.max(0, Math.min(all.length - 1, place + step))]?.focus();
};

const showProgress = ({ total, done: finished, mine, per_minute: rate }) => {
  byId("progress").value = total ? finished / total : 0;
  byId("counts").textContent = `${finished} of ${total} done, ${mine} by ${labeller()}` +
    (rate ? `, ${rate.toFixed(0)} a minute` : "");
};
const showUnsaved = () => {
  byId("unsaved").textContent = unsaved.length ? `${unsaved.length} unsaved. ${trouble}` : trouble;
};
const reveal = ({ id, object, scores }) => {
  if (upcoming.some((card) => card.id === id)) return; // its label was taken back meanwhile
  say(`${object} has the scores ${scores.map(([head, score]) => `${head} ${score}`).join(", ")}.`);
};

// --- keys and buttons ----------------------------------------------------------------------------

const actions = {
  unsure: () => answer("unsure", null, "Unsure"),
  skip: () => answer("skip", null, "Skipped"),
  undo,
  grid: () => {
    inGrid = !inGrid;
    document.querySelector("[data-do=grid]").setAttribute("aria-pressed", inGrid);
    show();
    fetchMore();
  },
  help: () => {
    byId("labeller").value = labeller();
    byId("help").showModal();
  },
};

for (const button of document.querySelectorAll("footer button")) {
  button.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays
  button.addEventListener("click", () => press(button));
}
const press = ({ dataset, lastChild }) =>
  dataset.do ? actions[dataset.do]() : answer("label", dataset.label, lastChild.textContent.trim());

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || byId("help").open) return;
  if (target.matches("input")) {
    if (key === "Enter" || key === "Escape") target.blur();
    return;
  }
  const isButton = target.matches("button, a");
  if ((key === " " || key === "Enter") && isButton) return; // its own
  if (key === "c" && !inGrid) byId("comment").focus();
  else if (key === " ") actions.skip();
  else if (inGrid && key === "a") {
    const all = tiles(), yes = !all.every(isSelected);
    for (const tile of all) select(tile, yes);
  } else if (inGrid && key.startsWith("Arrow")) move(key);
  else {
    const button = document.querySelector(`footer [data-key="${CSS.escape(key)}"]`);
    if (!button) return;
    press(button);
  }
  event.preventDefault();
});

byId("help").addEventListener("close", () => {
  const name = byId("labeller").value.trim();
  if (!name || name === labeller()) return;
  inTab(name); // leases of the other one end by themselves
  upcoming.length = done.length = 0;
  exhausted = false;
  show();
  fetchMore();
});

show();
showUnsaved();
save();
