// Line plots in SVG and heat maps in HTML, from plain data. Colours come from the style sheet, so that changing the
// theme or printing needs no redrawing. A plotting library would add megabytes and seconds of start-up time.

const MARKERS = {
  o: "M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0Z",
  s: "M-4,-4H4V4H-4Z",
  "^": "M0,-5L5,4H-5Z",
  D: "M0,-5.5L5.5,0L0,5.5L-5.5,0Z",
  v: "M0,5L5,-4H-5Z",
  P: "M-1.7,-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
};
const NEAR = 28; // pixels: a point this close to the pointer is selected

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A function from values to pixels between `start` and `end`, with some margin. */
function makeScale(values, { log, start, end }) {
  const to = log ? Math.log10 : (value) => value;
  let [low, high] = [Math.min(...values.map(to)), Math.max(...values.map(to))];
  const room = 0.07 * (high - low) || 0.1 * Math.abs(high) || 0.1;
  [low, high] = [low - room, high + room];
  const scale = (value) => start + ((to(value) - low) / (high - low)) * (end - start);
  const ticks = log ? logTicks(10 ** low, 10 ** high) : linearTicks(low, high);
  return Object.assign(scale, { ticks });
}

function linearTicks(low, high) {
  const rough = (high - low) / 7;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

/** Powers of ten and, if the range is small enough, 2 and 5 times these. */
function logTicks(low, high) {
  const factors = high / low > 1000 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    ticks.push(...factors.map((factor) => factor * 10 ** power).filter((tick) => low <= tick && tick <= high));
  }
  return ticks.length > 1 ? ticks : linearTicks(low, high);
}

function short(number) {
  const text = String(Number(number.toPrecision(6)));
  return (text.length > 6 ? number.toExponential(0) : text).replace("-", "−");
}

/**
 * Draw lines through points into `plot`.
 *
 * lines: [{style: {hue, marker, dash}, points: [{x, y, spread, row, text, filled, small}]}]; text: a label beside the
 * point, if there is room; filled points come first. front: the points of a staircase, may be empty. axes: {x, y}, each
 * {title, log}. selected: the row to mark. tip: makes a point's tooltip. choose: called with a row that is clicked.
 */
function drawLines(plot, { lines, front = [], axes, selected, tip, choose }) {
  const [width, height] = [plot.clientWidth, plot.clientWidth < 480 ? 300 : 360];
  const points = lines.flatMap((line) => line.points.map((point) => ({ ...point, style: line.style })));
  const [left, right, top, bottom] = [52, width - 14, 10, height - 44];
  const ends = points.flatMap(({ y, spread }) => [y, ...(spread ? [y - spread, y + spread] : [])]);
  const x = makeScale(
    points.map((point) => point.x),
    { log: axes.x.log, start: left, end: right },
  );
  const y = makeScale(ends, { log: axes.y.log, start: bottom, end: top });
  for (const point of points) Object.assign(point, { left: x(point.x), top: y(point.y) });
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  chart.classList.toggle("crowded", lines.length > 12);
  chart.append(drawAxes(x, y, axes, { left, right, top, bottom }));
  if (front.length) chart.append(svg("path", { class: "front", d: staircase(front, x, y, right) }));
  for (const line of lines) chart.append(drawLine(line, x, y));
  chart.append(...points.map(drawPoint), ...stepLabels(points, right));
  const ring = svg("circle", { class: "ring", r: 10 });
  const chosen = points.findLast((point) => point.row === selected);
  if (chosen) chart.append(svg("circle", { class: "ring chosen", r: 10, cx: chosen.left, cy: chosen.top }));
  chart.append(ring);
  const pointed = (event) => {
    const box = chart.getBoundingClientRect();
    const distance = (point) => Math.hypot(point.left - event.clientX + box.left, point.top - event.clientY + box.top);
    const nearest = points.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    return distance(nearest) < NEAR ? nearest : null;
  };
  chart.addEventListener("pointermove", (event) => {
    const point = pointed(event);
    ring.classList.toggle("shown", Boolean(point));
    if (!point) return hideTip();
    ring.setAttribute("cx", point.left);
    ring.setAttribute("cy", point.top);
    showTip(tip(point), event);
  });
  chart.addEventListener("pointerleave", () => (ring.classList.remove("shown"), hideTip()));
  chart.addEventListener("click", (event) => {
    const point = pointed(event);
    if (point) choose(point.row);
  });
  plot.replaceChildren(chart);
}

function drawAxes(x, y, axes, { left, right, top, bottom }) {
  const group = svg("g", { class: "axes" });
  for (const tick of x.ticks) {
    const text = svg("text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, short(tick));
    group.append(svg("line", { x1: x(tick), x2: x(tick), y1: top, y2: bottom }), text);
  }
  for (const tick of y.ticks) {
    const text = svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, short(tick));
    group.append(svg("line", { x1: left, x2: right, y1: y(tick), y2: y(tick) }), text);
  }
  const title = svg("text", { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle" }, axes.x.title);
  group.append(title);
  return group;
}

function drawLine({ style, points }, x, y) {
  const path = points.map((point, i) => `${i ? "L" : "M"}${x(point.x)},${y(point.y)}`).join("");
  const dash = style.dash.map((length) => 1.8 * length).join(" ");
  const group = inHue(svg("g", { class: "line" }), style);
  for (const point of points.filter(({ spread }) => spread)) {
    const [low, high] = [y(point.y - point.spread), y(point.y + point.spread)];
    group.append(
      svg("path", { class: "spread", d: `M${x(point.x)},${low}V${high}m-3,0h6M${x(point.x) - 3},${low}h6` }),
    );
  }
  group.append(svg("path", { d: path, "stroke-dasharray": dash }));
  return group;
}

function drawPoint({ left, top, style, filled, small, row }) {
  const path = svg("path", {
    class: filled ? "point filled" : "point",
    d: MARKERS[style.marker],
    transform: `translate(${left},${top}) scale(${small ? 0.5 : 1})`,
    "data-row": row,
  });
  return inHue(path, style);
}

/** The best quality for each budget: a staircase, since nothing was measured between the points. */
function staircase(front, x, y, right) {
  const [first, ...others] = front;
  return `M${x(first.x)},${y(first.y)}${others.map((point) => `H${x(point.x)}V${y(point.y)}`).join("")}H${right}`;
}

/** Labels of the points for which there is room; filled points come first. */
function stepLabels(points, right) {
  const placed = [];
  const order = [...points.filter((point) => point.filled), ...points.filter((point) => !point.filled)];
  for (const { left, top, text, filled, style } of order.filter((point) => point.text)) {
    const [x, y] = filled ? [left - 6, top + 15] : [Math.min(left + 6, right - 8), top - 8];
    const isFree = ([u, v]) => Math.abs(x - u) > 20 || Math.abs(y - v) > 12;
    if (!placed.every(isFree) || points.some((other) => Math.hypot(other.left - x, other.top - y + 4) < 7)) continue;
    placed.push([x, y]);
    const anchor = filled ? "end" : "start";
    const label = svg("text", { x, y, "text-anchor": anchor, class: "steps", "paint-order": "stroke" }, text);
    placed.at(-1).label = inHue(label, style);
  }
  return placed.map((place) => place.label);
}

/** A legend of [text, style] entries; one without a style is the Pareto front. */
function legend(entries) {
  return element(
    "ul",
    { className: "legend" },
    ...entries.map(([text, style]) => {
      const key = svg("svg", { viewBox: "-14 -7 28 14", width: 28, height: 14, "aria-hidden": "true" });
      if (style)
        key.append(
          drawLine(
            {
              style,
              points: [
                { x: -14, y: 0 },
                { x: 14, y: 0 },
              ],
            },
            Number,
            Number,
          ),
        );
      if (style) key.append(drawPoint({ left: 0, top: 0, style }));
      else key.append(svg("path", { class: "front", d: "M-14,-5H0V5H14" }));
      return element("li", {}, key, text);
    }),
  );
}

/**
 * Draw a table into `plot`, whose cells are coloured by `shade`, from 0 to 1 for the best.
 *
 * names: of the lines. heads: of the columns. corner: what the columns are. at: for each line and column, the row of the
 * data, or undefined.
 */
function drawHeatMap(plot, { names, corner, heads, at, shade, text, isBest, selected, tip, choose }) {
  const cellOf = (row) => {
    if (row === undefined) return element("td");
    const button = element("button", { type: "button", textContent: text(row) });
    button.style.background = `color-mix(in srgb, var(--best) ${Math.round(100 * shade(row))}%, var(--faint))`;
    button.classList.toggle("best", isBest(row));
    button.classList.toggle("chosen", row === selected);
    button.addEventListener("pointermove", (event) => showTip(tip({ row }), event));
    button.addEventListener("pointerleave", hideTip);
    button.addEventListener("click", () => choose(row));
    return element("td", {}, button);
  };
  const header = (text, scope) => element("th", { scope, textContent: text });
  const head = element("tr", {}, element("td", { textContent: corner }), ...heads.map((text) => header(text, "col")));
  const lines = names.map((name, i) => element("tr", {}, header(name, "row"), ...at[i].map(cellOf)));
  plot.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines)));
}

/** Show a tooltip beside the pointer, within the window: a heading and pairs of texts. */
function showTip([heading, ...lines], event) {
  const box = document.getElementById("tip");
  box.replaceChildren(
    element("strong", { textContent: heading }),
    ...lines.map(([name, text]) =>
      element("span", {}, element("span", { textContent: name }), element("span", { textContent: text })),
    ),
  );
  box.hidden = false;
  const left =
    event.clientX + 16 + box.offsetWidth > innerWidth ? event.clientX - 16 - box.offsetWidth : event.clientX + 16;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - box.offsetHeight - 4))}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}
