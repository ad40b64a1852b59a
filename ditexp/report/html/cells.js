// Filter and table. Texts from results are shown as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const byName = Object.fromEntries(columns.map((column) => [column.name, column]));
const body = document.querySelector("#cells tbody");
const tableRows = data.rows.map((_, row) => document.getElementById(`cell-${row}`));
const filter = document.getElementById("filter");
const PICTURE_NAMES = { grid: "Samples", trajectory_picture: "From noise to data" };

let visible = data.rows.map((_, row) => row); // the rows that pass the filter, in the table's order
let selected = null;
const picked = new Set(data.chosen); // whose pictures are shown

function stepsOf(row) {
  const steps = byName.steps.values[row];
  return steps === null ? "adaptive" : String(steps);
}

function nameOf(row) {
  return `${data.rows[row].label}, ${stepsOf(row)} steps`;
}

function setUpTheme() {
  const root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const button = document.getElementById("theme");
  const label = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  preferred.addEventListener("change", label);
  button.hidden = false;
  label();
}

function setUpCopying() {
  document.addEventListener("click", async (event) => {
    if (!event.target.matches(".copy")) return;
    const code = event.target.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      event.target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // copying is not allowed: select it for Ctrl+C
      event.target.textContent = "Selected";
    }
    setTimeout(() => (event.target.textContent = "Copy"), 2000);
  });
}

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
  filter.addEventListener("reset", () => setTimeout(applyFilter)); // after the form is cleared
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
  const text = columns
    .map((column) => column.texts[row])
    .join(" ")
    .toLowerCase();
  return (
    words.every((word) => text.includes(word)) &&
    Object.entries(wanted).every(([name, texts]) => texts.includes(byName[name].texts[row]))
  );
}

function setUpTable() {
  const box = document.querySelector(".box.table"); // the details are as wide as the box, even if the table is wider
  new ResizeObserver(() => box.style.setProperty("--box", `${box.clientWidth}px`)).observe(box);
  document.querySelectorAll("#cells thead th").forEach((header, index) => {
    header.querySelector("button").addEventListener("click", () => sortBy(header, columns[index]));
  });
  tableRows.forEach((line, row) => {
    inHue(line.querySelector(".swatch"), data.rows[row].style);
    line.addEventListener("click", (event) => {
      if (event.target.closest("input")) return;
      if (!event.target.closest("button") && getSelection().toString()) return; // the user selects text
      toggleDetails(row);
      select(row);
    });
  });
}

/** Best or smallest first, then reversed, then the original order; rows without a value stay last. */
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

/** Select a row from a plot, and scroll to it. */
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

/** All details of a cell: facts, numbers, what must be equal to compare them, pictures, command, configuration. */
function describe(row) {
  const { details, pictures } = data.rows[row];
  const block = (heading, content, wide = false) =>
    element("section", { className: wide ? "wide" : "" }, element("h3", { textContent: heading }), content);
  const list = (pairs) =>
    element(
      "dl",
      {},
      ...pairs.flatMap(([name, text]) => [element("dt", { textContent: name }), element("dd", { textContent: text })]),
    );
  const code = (text) => element("pre", { tabIndex: 0 }, element("code", { textContent: text }));
  const copy = element("button", { type: "button", className: "copy", textContent: "Copy" });
  const parts = [block("Cell", list(details.facts))];
  if (details.numbers.length) parts.push(block("Numbers", list(details.numbers)));
  if (details.comparable.length) parts.push(block("Comparable with results that have the same", list(details.comparable)));
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
