for (const gallery of document.querySelectorAll(".gallery")) {
  const controls = gallery.querySelector(".controls"), list = gallery.querySelector(".cards");
  const cards = [...list.children], order = controls.querySelector("[data-order]");
  const filters = [...controls.querySelectorAll("[data-filter]")];
  const search = controls.querySelector("input"), status = controls.querySelector("output");
  const update = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const card of cards) {
      card.hidden = !card.textContent.toLowerCase().includes(wanted) ||
        filters.some((each) => each.value && card.dataset[each.dataset.filter] !== each.value);
    }
    const [key, sign] = order.value.split(" ");
    list.append(...cards.toSorted((a, b) => sign * (a.dataset[key] - b.dataset[key])));
    status.textContent = `${cards.filter((card) => !card.hidden).length} of ${cards.length} shown`;
  };
  controls.addEventListener("input", update);
  controls.hidden = false;
  update();
}
