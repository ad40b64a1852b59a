// Filter and table.

const table = document.getElementById("cells");
const tableRows = data.rows.map((_, row) => document.getElementById(`cell-${row}`));
const filter = document.getElementById("filter");

let visible = data.rows.map((_, row) => row); // the rows that pass the filter, in the table's order
let selected = null;

function setUpFilter() {
  const chips = filter.querySelector(".chips");
  for (const column of columns.filter(isSetting)) {
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
  setUpFolding();
  setUpSorting();
  tableRows.forEach((line, row) => {
    line.addEventListener("click", (event) => {
      if (event.target.closest(".pick")) return;
      if (!event.target.closest("button") && getSelection().toString()) return; // the user selects text
      toggleDetails(row);
      select(row);
    });
  });
  new ResizeObserver(fixColumns).observe(table.parentElement);
}

/** A button that shows secondary columns and the ± of all metrics. */
function setUpFolding() {
  const button = document.getElementById("more");
  if (!table.querySelector(".secondary, td:not(.main) .spread")) return;
  const fold = (folded) => {
    table.classList.toggle("folded", folded);
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = folded ? "More columns" : "Fewer columns";
    fixColumns();
  };
  button.addEventListener("click", () => {
    const folded = !table.classList.contains("folded");
    remember("columns", folded ? "few" : "all");
    fold(folded);
  });
  button.hidden = false;
  fold(remembered("columns") !== "all");
}

/** Keep the settings in view when the table is scrolled sideways, and details as wide as what is seen of it. */
function fixColumns() {
  const box = table.parentElement;
  box.style.setProperty("--box", `${box.clientWidth}px`);
  const fixed = [...table.querySelectorAll("thead .fixed")];
  const widths = fixed.map((header) => header.offsetWidth);
  table.classList.toggle("fix-all", widths.reduce((a, b) => a + b, 0) < box.clientWidth / 2);
  let left = 0;
  widths.forEach((width, i) => {
    table.style.setProperty(`--left-${i + 1}`, `${left}px`);
    left += width;
  });
}

/** By its header: best or smallest first, then reversed, then the original order. On a phone, by a list of columns. */
function setUpSorting() {
  const headers = [...table.querySelectorAll("thead th")];
  const list = document.querySelector(".sorting select");
  const firstOf = (column) => (column.goal === "max" ? "descending" : "ascending");
  headers.forEach((header, index) => {
    const first = firstOf(columns[index]);
    const second = first === "ascending" ? "descending" : "ascending";
    const after = { none: first, [first]: second, [second]: "none" };
    header.querySelector("button").addEventListener("click", () => {
      sortBy(header, columns[index], after[header.getAttribute("aria-sort")]);
    });
  });
  list.append(new Option("rank", -1), ...columns.map((column, index) => new Option(column.header, index)));
  list.addEventListener("change", () => {
    const index = Number(list.value);
    sortBy(headers[Math.max(0, index)], columns[index], index < 0 ? "none" : firstOf(columns[index]));
  });
  list.parentElement.hidden = false;
}

/** Rows without a value stay last. */
function sortBy(header, column, next) {
  table.querySelectorAll("[aria-sort]").forEach((other) => other.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", next);
  const order = data.rows.map((_, row) => row);
  if (next !== "none") order.sort((a, b) => compare(column, a, b, next === "ascending" ? 1 : -1));
  for (const row of order) {
    const details = tableRows[row].nextElementSibling;
    table.tBodies[0].append(tableRows[row], ...(details?.matches(".details") ? [details] : []));
  }
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
