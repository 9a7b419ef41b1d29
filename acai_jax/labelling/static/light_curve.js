"use strict";
// The light curve of an alert as an SVG: [days, band, magnitude, error, kind] of each point.
const drawLightCurve = (() => {
  const HEIGHT = 210, LEFT = 44, RIGHT = 10, TOP = 22, BOTTOM = 34;
  const make = (name, attributes, text) => {
    const found = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    if (text !== undefined) found.textContent = text;
    return found;
  };
  const step = (span) => {
    const rough = span / 6, power = 10 ** Math.floor(Math.log10(rough));
    return power * [1, 2, 5, 10].find((each) => each * power >= rough);
  };
  const ticks = (low, high) => {
    const by = step(high - low), found = [];
    for (let each = Math.ceil(low / by) * by; each <= high + 1e-9; each += by) found.push(each);
    return found.map((each) => [each, (Math.round(each / by) * by || 0).toFixed(by < 1 ? Math.ceil(-Math.log10(by)) : 0)]);
  };
  return (points, summary, room) => { // room: the width there is, so that text keeps its size
    const WIDTH = Math.max(280, Math.min(640, room || 560));
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": summary });
    if (!points.length) {
      svg.append(make("text", { x: WIDTH / 2, y: HEIGHT / 2, class: "middle" }, "no history"));
      return svg;
    }
    const days = points.map(([day]) => day), magnitudes = points.map(([, , magnitude]) => magnitude);
    const first = Math.min(...days), last = Math.max(...days), wide = Math.max(last - first, 1);
    const bright = Math.min(...magnitudes) - 0.3, faint = Math.max(...magnitudes) + 0.3;
    const from = last - wide;
    const x = (day) => LEFT + 8 + (day - from) / wide * (WIDTH - LEFT - RIGHT - 16);
    const y = (value) => TOP + (value - bright) / (faint - bright) * (HEIGHT - TOP - BOTTOM);
    for (const [value, text] of ticks(bright, faint)) {
      svg.append(make("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value), class: "rule" }));
      svg.append(make("text", { x: LEFT - 6, y: y(value) + 4, class: "end" }, text));
    }
    for (const [value, text] of ticks(from, last)) {
      svg.append(make("text", { x: x(value), y: HEIGHT - BOTTOM + 16, class: "middle" }, text));
    }
    svg.append(make("text", { x: WIDTH - RIGHT, y: HEIGHT - 4, class: "end" }, "days from the alert"));
    svg.append(make("text", { x: 2, y: 12 }, "mag"));
    const bands = [...new Set(points.map(([, band]) => band))]
      .sort((one, other) => "ugrizy".indexOf(one) - "ugrizy".indexOf(other));
    bands.forEach((band, place) => {
      svg.append(make("text", { x: WIDTH - RIGHT - 34 * (bands.length - 1 - place), y: 12, class: `end band-${band}` }, `● ${band}`));
    });
    for (const [day, band, magnitude, error, kind] of points) {
      const at = { cx: x(day), cy: y(magnitude) }, mark = make("g", { class: `band-${band} ${kind}` });
      if (kind === "limit") {
        mark.append(make("path", { d: `M${at.cx - 4} ${at.cy - 3}h8l-4 7z` }));
      } else {
        if (error) {
          mark.append(make("line", { x1: at.cx, x2: at.cx, y1: y(magnitude - error), y2: y(magnitude + error) }));
        }
        mark.append(make("circle", { ...at, r: day === 0 ? 5.5 : 3.5 }));
      }
      svg.append(mark);
    }
    return svg;
  };
})();
