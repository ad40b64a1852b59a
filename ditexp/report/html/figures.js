// Plots of the cells that pass the filter.

const COSTS = {
  forwards: "network evaluations per image",
  seconds_per_image: "seconds per image",
  nfe: "velocity evaluations per image (NFE)",
  steps: "steps",
};
const MAX_LABELS = 24; // with more points, only those of the Pareto front are labelled
const MAX_LINES = 12; // in a legend and in the plot of errors along t

function setUpPlots() {
  const metrics = columns.filter((column) => column.kind === "metric" && column.values.some(Number.isFinite));
  const costs = Object.keys(COSTS).filter((name) => byName[name]?.values.some(Number.isFinite));
  if (!metrics.length || !costs.length) return;
  const quality = document.getElementById("quality");
  const cost = document.getElementById("cost");
  quality.append(...metrics.map((column) => new Option(column.header, column.name)));
  cost.append(...costs.map((name) => new Option(COSTS[name], name)));
  document.getElementById("plots").hidden = false;
  quality.addEventListener("change", () => (suggestScales(), drawPlots()));
  cost.addEventListener("change", () => (suggestScales(), drawPlots()));
  for (const id of ["log-cost", "log-quality"]) document.getElementById(id).addEventListener("change", drawPlots);
  addEventListener("resize", drawPlots);
  suggestScales();
}

/** Choose a logarithmic axis for values that span a large range. */
function suggestScales() {
  const spans = (name, beyond) => {
    const values = byName[name].values.filter(Number.isFinite);
    const low = Math.min(...values);
    return low > 0 && Math.max(...values) > beyond * low;
  };
  document.getElementById("log-cost").checked = spans(document.getElementById("cost").value, 3);
  document.getElementById("log-quality").checked = spans(document.getElementById("quality").value, 5);
}

function drawPlots() {
  if (document.getElementById("plots").hidden) return;
  const quality = byName[document.getElementById("quality").value];
  const cost = byName[document.getElementById("cost").value];
  drawQuality(quality, cost);
  drawMap(quality);
  drawErrors();
}

/** Set a figure's caption, hide it if there are no rows to draw, and return its plot. */
function figure(id, caption, rows) {
  const plot = document.getElementById(id);
  plot.parentElement.hidden = !rows.length;
  plot.parentElement.querySelector("figcaption").textContent = caption;
  return plot;
}

/** The tooltip of a row: its name, then pairs of texts. */
function tip({ row }) {
  const shown = columns.filter((column) => column.values[row] !== null && !["setting", "error"].includes(column.kind));
  return [data.rows[row].label, ...shown.map((column) => [column.header, column.texts[row]])];
}

/** The rows by label, in the table's order. */
function linesOf(rows) {
  const lines = new Map();
  for (const row of rows) lines.set(data.rows[row].label, [...(lines.get(data.rows[row].label) ?? []), row]);
  return lines;
}

/** Whether value a is better than b in this column; lower is better unless its goal is "max". */
function beats(column, a, b) {
  return column.goal === "max" ? a > b : a < b;
}

/** Rows that no other row beats in both cost and quality, cheapest first; empty if no value is better than another. */
function paretoFront(rows, cost, quality) {
  if (quality.goal === null) return [];
  const front = [];
  const value = (row) => quality.values[row];
  const order = [...rows].sort(
    (a, b) => cost.values[a] - cost.values[b] || (beats(quality, value(a), value(b)) ? -1 : 1),
  );
  for (const row of order) if (!front.length || beats(quality, value(row), value(front.at(-1)))) front.push(row);
  return front;
}

function drawQuality(quality, cost) {
  const log = { x: document.getElementById("log-cost").checked, y: document.getElementById("log-quality").checked };
  const isDrawn = (value, isLog) => Number.isFinite(value) && (value > 0 || !isLog);
  const rows = visible.filter((row) => isDrawn(cost.values[row], log.x) && isDrawn(quality.values[row], log.y));
  const front = paretoFront(rows, cost, quality);
  const point = (row) => ({
    row,
    x: cost.values[row],
    y: quality.values[row],
    spread: log.y && quality.spread[row] >= quality.values[row] ? null : quality.spread[row], // it would extend below 0
    text: rows.length <= MAX_LABELS || front.includes(row) ? stepsOf(row) : "",
    filled: front.includes(row),
  });
  const lines = [...linesOf(rows).values()].map((line) => ({
    style: data.rows[line[0]].style,
    points: line.map(point).sort((a, b) => a.x - b.x),
  }));
  const better = quality.goal ? `, ${quality.goal === "max" ? "higher" : "lower"} is better` : "";
  const plot = figure("quality-plot", quality.header + better, rows);
  if (!rows.length) return;
  plot.previousElementSibling.replaceWith(
    legend([...legendOf(rows), ...(front.length ? [["Pareto front (filled)"]] : [])]),
  );
  const axes = { x: { title: `${COSTS[cost.name]} (labels: steps)`, log: log.x }, y: { log: log.y } };
  drawLines(plot, { lines, front: front.map(point), axes, selected, tip, choose: find });
}

/** [text, style] of each line or, if there are too many, of each solver. */
function legendOf(rows) {
  const lines = linesOf(rows);
  const entries = [...lines].map(([label, [row]]) => [
    lines.size > MAX_LINES ? byName.solver.texts[row] : label,
    data.rows[row].style,
  ]);
  return [...new Map(entries.reverse())].reverse(); // the first style of each
}

function drawMap(quality) {
  const rows = visible.filter((row) => Number.isFinite(quality.values[row]));
  const value = (row) => quality.values[row];
  const lines = linesOf(rows);
  const distinct = (textOf) =>
    [...new Set(rows.map(textOf))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const forwardsOf = (row) => byName.forwards?.texts[row] ?? "";
  // Use forwards if more solvers share these than share steps.
  const isByForwards = byName.forwards && distinct(forwardsOf).length < distinct(stepsOf).length;
  const headOf = isByForwards ? forwardsOf : stepsOf;
  const heads = distinct(headOf);
  const at = [...lines.values()].map((line) => heads.map((head) => line.find((row) => headOf(row) === head)));
  const best = (row) =>
    quality.goal && rows.length > 1 && !rows.some((other) => beats(quality, value(other), value(row)));
  document.querySelector(".panels").classList.toggle("tall", lines.size > 14 || heads.length > 7);
  const corner = isByForwards ? "forwards" : "steps";
  drawHeatMap(figure("heat-map", `${quality.header} by ${corner}`, rows), {
    names: [...lines.keys()],
    corner,
    heads,
    at,
    shade: shading(rows.map(value), quality),
    text: (row) => quality.texts[row].replace(/ ± [\d.]+/, ""),
    isBest: best,
    selected,
    tip,
    choose: find,
  });
}

/** 1 for the best value, 0 for the worst tenth (outliers would hide other differences); always 0 without a goal. */
function shading(values, column) {
  if (column.goal === null) return () => 0;
  const to = Math.min(...values) > 0 ? Math.log : Number;
  const order = values.map(to).sort((a, b) => (beats(column, a, b) ? -1 : 1));
  const [best, worst] = [order[0], order[Math.floor(0.9 * (order.length - 1))]];
  return (row) => Math.min(1, Math.max(0, best === worst ? 1 : (to(column.values[row]) - worst) / (best - worst)));
}

function drawErrors() {
  const pointsOf = (row) =>
    (data.rows[row].along ?? []).map(([x, y]) => ({ row, x, y, small: true })).filter(({ y }) => y > 0);
  const all = visible.filter((row) => pointsOf(row).length);
  const rows = all.slice(0, MAX_LINES); // the best come first
  const lines = rows.map((row) => ({ style: data.rows[row].style, points: pointsOf(row) }));
  for (const { points } of lines) points.at(-1).text = stepsOf(points[0].row);
  const which = all.length > rows.length ? `, best ${rows.length} of ${all.length} cells` : "";
  const plot = figure("error-plot", `RMS error relative to the exact paths, along t${which}`, rows);
  if (!rows.length) return;
  plot.previousElementSibling.replaceWith(legend(legendOf(rows)));
  const tooltip = ({ row, x, y }) => [nameOf(row), ["t", x.toPrecision(3)], ["error", y.toPrecision(3)]];
  const axes = { x: { title: "t, from noise (0) to data (1); labels: steps" }, y: { log: true } };
  drawLines(plot, { lines, axes, selected, tip: tooltip, choose: find });
}
