// The cells of the page: filter, table, plots and pictures. What comes from results is shown as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const byName = Object.fromEntries(columns.map((column) => [column.name, column]));
const body = document.querySelector("#cells tbody");
const tableRows = data.rows.map((_, row) => document.getElementById(`cell-${row}`));
const filter = document.getElementById("filter");
const COSTS = {
  forwards: "network evaluations per image",
  seconds_per_image: "seconds per image",
  nfe: "velocity evaluations per image (NFE)",
  steps: "steps",
};
const MAX_LABELS = 24; // beyond, only points of the Pareto front carry their steps
const MAX_LINES = 12; // in a legend, and of errors along t
const PICTURE_NAMES = { grid: "Samples", trajectory_picture: "From noise to data" };

let visible = data.rows.map((_, row) => row); // what the filter leaves, in the table's order
let selected = null;
const picked = new Set(data.chosen); // whose pictures are shown

// ---- small tools

function stepsOf(row) {
  const steps = byName.steps.values[row];
  return steps === null ? "adaptive" : String(steps);
}

function nameOf(row) {
  return `${data.rows[row].label}, ${stepsOf(row)} steps`;
}

/** Whether value a beats b in this column, of which lower is better unless it says otherwise. */
function beats(column, a, b) {
  return column.goal === "max" ? a > b : a < b;
}

// ---- theme

function setUpTheme() {
  const root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const button = document.getElementById("theme");
  const tell = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  preferred.addEventListener("change", tell);
  button.hidden = false;
  tell();
}

function setUpCopying() {
  document.addEventListener("click", async (event) => {
    if (!event.target.matches(".copy")) return;
    const code = event.target.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      event.target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // where copying is refused, Ctrl+C is left
      event.target.textContent = "Selected";
    }
    setTimeout(() => (event.target.textContent = "Copy"), 2000);
  });
}

// ---- filter

function setUpFilter() {
  const chips = filter.querySelector(".chips");
  for (const column of columns.filter((column) => column.kind === "setting" || column.name === "steps")) {
    const rows = data.rows.map((_, row) => row).sort((a, b) => compare(column, a, b, 1));
    const texts = [...new Set(rows.map((row) => column.texts[row]))];
    if (texts.length < 2 || texts.length > 14) continue;
    const labels = texts.map((text) => {
      const box = element("input", { type: "checkbox", value: text, name: column.name });
      return element("label", {}, box, text);
    });
    chips.append(element("fieldset", {}, element("legend", { textContent: column.header }), ...labels));
  }
  filter.hidden = false;
  filter.addEventListener("input", applyFilter);
  filter.addEventListener("reset", () => setTimeout(applyFilter)); // once the form is empty
  filter.addEventListener("submit", (event) => event.preventDefault());
}

function applyFilter() {
  const words = filter.querySelector("input[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = {};
  for (const box of filter.querySelectorAll(":checked")) (wanted[box.name] ??= []).push(box.value);
  visible = data.rows.flatMap((_, row) => (passes(row, words, wanted) ? [row] : []));
  tableRows.forEach((line, row) => {
    line.hidden = !visible.includes(row);
    if (line.nextElementSibling?.matches(".details")) line.nextElementSibling.hidden = line.hidden;
  });
  filter.querySelector("output").textContent = `${visible.length} of ${data.rows.length} cells`;
  drawPlots();
}

function passes(row, words, wanted) {
  const text = columns.map((column) => column.texts[row]).join(" ").toLowerCase();
  return (
    words.every((word) => text.includes(word)) &&
    Object.entries(wanted).every(([name, texts]) => texts.includes(byName[name].texts[row]))
  );
}

// ---- table

function setUpTable() {
  const box = document.querySelector(".box.table"); // of its width are the details, however wide the table
  new ResizeObserver(() => box.style.setProperty("--box", `${box.clientWidth}px`)).observe(box);
  document.querySelectorAll("#cells thead th").forEach((header, index) => {
    header.querySelector("button").addEventListener("click", () => sortBy(header, columns[index]));
  });
  tableRows.forEach((line, row) => {
    line.querySelector(".swatch").style.setProperty("--hue", `var(--hue-${data.rows[row].style.hue})`);
    line.addEventListener("click", (event) => {
      if (event.target.closest("input")) return;
      if (!event.target.closest("button") && getSelection().toString()) return; // text was selected
      toggleDetails(row);
      select(row);
    });
  });
}

/** Best or smallest first, then the other way round, then as it was; what has no value stays last. */
function sortBy(header, column) {
  const first = column.goal === "max" ? "descending" : "ascending";
  const second = first === "ascending" ? "descending" : "ascending";
  const next = { none: first, [first]: second, [second]: "none" }[header.getAttribute("aria-sort")];
  document.querySelectorAll("#cells [aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", next);
  const order = data.rows.map((_, row) => row);
  if (next !== "none") order.sort((a, b) => compare(column, a, b, next === "ascending" ? 1 : -1));
  for (const row of order) {
    const details = tableRows[row].nextElementSibling;
    body.append(tableRows[row], ...(details?.matches(".details") ? [details] : []));
  }
}

function compare(column, a, b, direction) {
  const [x, y] = [column.values[a], column.values[b]];
  if (x === null || y === null) return (x === null) - (y === null);
  if (column.number) return direction * (x - y);
  return direction * column.texts[a].localeCompare(column.texts[b], undefined, { numeric: true });
}

function select(row) {
  if (selected !== null) tableRows[selected].classList.remove("selected");
  selected = row;
  tableRows[row].classList.add("selected");
  drawPlots();
}

/** From a plot to the row of the table. */
function find(row) {
  select(row);
  tableRows[row].scrollIntoView({ block: "center", inline: "nearest" });
}

function toggleDetails(row) {
  const line = tableRows[row];
  const button = line.querySelector(".expand");
  const opened = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!opened));
  if (opened) {
    line.nextElementSibling.remove();
    return;
  }
  const cell = element("td", { colSpan: line.children.length }, describe(row));
  line.after(element("tr", { className: "details" }, cell));
}

/** All that is known of a cell: facts, numbers, what they are comparable with, pictures, command, configuration. */
function describe(row) {
  const { details, pictures } = data.rows[row];
  const block = (heading, content, wide = false) =>
    element("section", { className: wide ? "wide" : "" }, element("h3", { textContent: heading }), content);
  const list = (pairs) =>
    element("dl", {}, ...pairs.flatMap(([name, text]) => [
      element("dt", { textContent: name }),
      element("dd", { textContent: text }),
    ]));
  const code = (text) => element("pre", { tabIndex: 0 }, element("code", { textContent: text }));
  const copy = element("button", { type: "button", className: "copy", textContent: "Copy" });
  const parts = [block("Cell", list(details.facts))];
  if (details.numbers.length) parts.push(block("Numbers", list(details.numbers)));
  if (details.comparable.length) parts.push(block("Comparable with numbers of the same", list(details.comparable)));
  for (const [kind, picture] of Object.entries(pictures)) {
    parts.push(block(PICTURE_NAMES[kind], image(picture, `${PICTURE_NAMES[kind]}: ${nameOf(row)}`)));
  }
  if (details.command) {
    parts.push(block("Command", element("div", { className: "command" }, code(details.command), copy), true));
  }
  if (details.protocol) parts.push(block("Protocol of the metrics", code(details.protocol)));
  if (details.config) parts.push(block("Configuration", code(details.config)));
  return element("div", { className: "cell" }, ...parts);
}

// ---- plots

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

/** A logarithmic axis where the values span so much that a linear one would press them together. */
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

/** The figure's plot, made ready: a caption, and no figure where there is nothing to draw. */
function figure(id, caption, rows) {
  const plot = document.getElementById(id);
  plot.parentElement.hidden = !rows.length;
  plot.parentElement.querySelector("figcaption").textContent = caption;
  return plot;
}

/** What is told of a cell where the pointer is: its name, then pairs of texts. */
function tip({ row }) {
  const told = columns.filter((column) => column.values[row] !== null && !["setting", "error"].includes(column.kind));
  return [data.rows[row].label, ...told.map((column) => [column.header, column.texts[row]])];
}

/** {label: its rows}, in the order of the table. */
function linesOf(rows) {
  const lines = new Map();
  for (const row of rows) lines.set(data.rows[row].label, [...(lines.get(data.rows[row].label) ?? []), row]);
  return lines;
}

/** Rows that no other row beats in both cost and quality, cheapest first; none where values are not compared. */
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
    spread: quality.spread[row],
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
  plot.previousElementSibling.replaceWith(legend([
    ...legendOf(rows),
    ...(front.length ? [["Pareto front (filled)"]] : []),
  ]));
  const axes = { x: { title: `${COSTS[cost.name]} (at the points: steps)`, log: log.x }, y: { log: log.y } };
  drawLines(plot, { lines, front: front.map(point), axes, selected, tip, choose: find });
}

/** [text, style] of each line or, where these would fill the plot, of each solver. */
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
  const distinct = (tell) => [...new Set(rows.map(tell))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const forwardsOf = (row) => byName.forwards?.texts[row] ?? "";
  // Solvers that were given equal forwards share these rather than steps.
  const isByForwards = byName.forwards && distinct(forwardsOf).length < distinct(stepsOf).length;
  const tell = isByForwards ? forwardsOf : stepsOf;
  const heads = distinct(tell);
  const at = [...lines.values()].map((line) => heads.map((head) => line.find((row) => tell(row) === head)));
  const best = (row) => quality.goal && rows.length > 1 && !rows.some((other) => beats(quality, value(other), value(row)));
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

/** From 1 for the best value to 0 for the worst tenth, which would press the others together. */
function shading(values, column) {
  const to = Math.min(...values) > 0 ? Math.log : Number;
  const order = values.map(to).sort((a, b) => (beats(column, a, b) ? -1 : 1));
  const [best, worst] = [order[0], order[Math.floor(0.9 * (order.length - 1))]];
  return (row) => Math.min(1, Math.max(0, best === worst ? 1 : (to(column.values[row]) - worst) / (best - worst)));
}

function drawErrors() {
  const all = visible.filter((row) => data.rows[row].along);
  const rows = all.slice(0, MAX_LINES); // the best come first
  const lines = rows.map((row) => {
    // At the start there is none.
    const points = data.rows[row].along.slice(1).map(([t, error]) => ({ row, x: t, y: error, small: true }));
    points.at(-1).text = stepsOf(row);
    return { style: data.rows[row].style, points: points.filter((point) => point.y > 0) };
  });
  const which = all.length > rows.length ? `, the ${rows.length} best of ${all.length} cells` : "";
  const plot = figure("error-plot", `Difference from the exact paths along t (RMS${which})`, rows);
  if (!rows.length) return;
  plot.previousElementSibling.replaceWith(legend(legendOf(rows)));
  const tell = ({ row, x, y }) => [nameOf(row), ["t", x.toPrecision(3)], ["difference", y.toPrecision(3)]];
  const axes = { x: { title: "t, from noise (0) to data (1); at the ends, steps" }, y: { log: true } };
  drawLines(plot, { lines, axes, selected, tip: tell, choose: find });
}

// ---- pictures

function setUpPictures() {
  if (!data.rows.some((row) => Object.keys(row.pictures).length)) return;
  document.querySelector("#cells thead th").after(
    element("th", { scope: "col", className: "pick", textContent: "Shown", title: "whose pictures are shown below" }),
  );
  tableRows.forEach((line, row) => line.firstElementChild.after(pickCell(row)));
  document.getElementById("pictures").hidden = false;
  document.getElementById("pick-filtered").addEventListener("click", () => pick(visible));
  document.getElementById("pick-chosen").addEventListener("click", () => pick(data.chosen));
  document.querySelectorAll(".gallery").forEach(enlargeWherePointed);
  drawPictures();
}

function pickCell(row) {
  if (!Object.keys(data.rows[row].pictures).length) return element("td", { className: "pick" });
  const box = element("input", { type: "checkbox", checked: picked.has(row), ariaLabel: `Pictures of ${nameOf(row)}` });
  box.addEventListener("change", () => {
    if (box.checked) picked.add(row);
    else picked.delete(row);
    drawPictures();
  });
  return element("td", { className: "pick" }, box);
}

function pick(rows) {
  picked.clear();
  rows.forEach((row) => picked.add(row));
  tableRows.forEach((line, row) => {
    const box = line.querySelector(".pick input");
    if (box) box.checked = picked.has(row);
  });
  drawPictures();
}

function drawPictures() {
  for (const gallery of document.querySelectorAll(".gallery")) {
    const kind = gallery.dataset.kind;
    // A line of one solver's cells beside each other, from the fewest steps to the most.
    const rows = [...picked].filter((row) => kind in data.rows[row].pictures);
    const order = [...linesOf(rows.sort((a, b) => a - b)).values()].flatMap((line) =>
      line.sort((a, b) => (byName.steps.values[a] ?? 0) - (byName.steps.values[b] ?? 0)),
    );
    const counts = [...linesOf(order).values()].map((line) => line.length);
    gallery.style.setProperty("--columns", Math.min(Math.max(...counts), 5));
    gallery.replaceChildren(...order.map((row) => tile(row, kind)));
    for (const [row] of linesOf(order).values()) gallery.children[order.indexOf(row)].classList.add("first");
    if (kind !== "grid") gallery.parentElement.hidden = !order.length;
  }
}

function tile(row, kind) {
  const quality = columns.find((column) => column.kind === "metric" && column.values[row] !== null);
  const score = quality ? `${quality.header} ${quality.texts[row]}` : "";
  const facts = [`${stepsOf(row)} steps`, score].filter(Boolean).join(" · ");
  const caption = element("figcaption", { textContent: data.rows[row].label }, element("small", { textContent: facts }));
  const picture = image(data.rows[row].pictures[kind], `${PICTURE_NAMES[kind]}: ${nameOf(row)}`);
  return element("figure", {}, element("div", { className: "frame" }, picture), caption);
}

function image(number, alt) {
  const { uri, width, height, hard } = data.pictures[number];
  return element("img", { src: uri, width, height, alt, className: hard ? "hard" : "" });
}

/** Enlarge all pictures of a gallery at the place that the mouse points at in one of them. */
function enlargeWherePointed(gallery) {
  gallery.addEventListener("pointermove", (event) => {
    const frame = event.target.closest(".frame");
    gallery.classList.toggle("pointed", Boolean(frame) && event.pointerType === "mouse");
    if (!frame) return;
    const { left, top, width, height } = frame.getBoundingClientRect();
    gallery.style.setProperty("--x", `${(100 * (event.clientX - left)) / width}%`);
    gallery.style.setProperty("--y", `${(100 * (event.clientY - top)) / height}%`);
  });
  gallery.addEventListener("pointerleave", () => gallery.classList.remove("pointed"));
}

setUpTheme();
setUpCopying();
setUpFilter();
setUpPlots();
setUpTable();
setUpPictures();
applyFilter();
requestAnimationFrame(() => setTimeout(() => performance.mark("ready"))); // once it is painted
