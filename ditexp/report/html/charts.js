// One number against another, for the cells that pass the filter.

function setUpCharts() {
  const { Metrics, Costs, Settings } = numbers();
  if (Metrics.length + Costs.length + Settings.length < 2) return;
  document.getElementById("charts").hidden = false;
  setUpNumbers({ Metrics, Costs, Settings });
  setUpHeatMap([...Metrics, ...Costs]);
  if (data.rows.some(({ along }) => along?.some(([, error]) => error > 0))) addFigure("error-plot");
  addEventListener("resize", drawPlots);
}

function drawPlots() {
  if (document.getElementById("charts").hidden) return;
  hideTip(); // of what is drawn anew
  drawNumbers();
  drawHeatMap();
  drawErrors();
}

function setUpNumbers(found) {
  const names = (groups) =>
    Object.fromEntries(
      Object.entries(groups).flatMap(([heading, all]) =>
        all.length ? [[heading, all.map((column) => [column.name, titleOf(column)])]] : [],
      ),
    );
  const controls = ["y", "x"].map((axis) => {
    const log = element("input", { type: "checkbox", id: `log-${axis}` });
    log.addEventListener("change", drawPlots);
    const changed = () => (suggestScale(axis), drawPlots());
    const choice = menu(`${axis}-axis`, axis, names(found), changed);
    return element("span", {}, choice, element("label", {}, log, ` log ${axis}`));
  });
  addFigure("quality-plot", ...controls);
  const [first, second] = Object.values(found).flat();
  const swept = isVaried(byName.steps) ? null : found.Settings[0];
  const start = swept ?? found.Costs.find(({ name }) => name === "forwards") ?? found.Costs[0] ?? second;
  document.getElementById("y-axis").value = first.name;
  document.getElementById("x-axis").value = (start === first ? second : start).name;
  for (const axis of ["x", "y"]) suggestScale(axis);
}

function suggestScale(axis) {
  document.getElementById(`log-${axis}`).checked = suitsLog(byName[document.getElementById(`${axis}-axis`).value]);
}

/** The setting along which lines connect rows: that of the axis, else steps, else the first number that varies. */
function connecting(x) {
  if (x.kind === "setting" || x.name === "steps" || isVaried(byName.steps))
    return x.kind === "setting" ? x : byName.steps;
  return numbers().Settings[0] ?? byName.steps;
}

/** What names a row's line: all settings that tell rows apart, except one. */
function lineName(row, except) {
  const parts = columns.filter(({ kind }) => kind === "setting").filter((column) => column !== except);
  const texts = parts.flatMap(({ header, values, texts }) =>
    values[row] === null ? [] : [typeof values[row] === "string" ? texts[row] : `${header} ${texts[row]}`],
  );
  if (except !== byName.steps && isVaried(byName.steps)) texts.push(`${stepsOf(row)} steps`);
  return texts.join(", ");
}

/** The column and scale that are chosen for an axis. */
function chosenAxis(axis, arrows) {
  const column = byName[document.getElementById(`${axis}-axis`).value];
  const log = document.getElementById(`log-${axis}`).checked;
  const title = axisTitle(column, arrows);
  return { column, log, title, exact: isSetting(column), goal: goalOf(column) };
}

function drawNumbers() {
  const [x, y] = [chosenAxis("x", ["←", "→"]), chosenAxis("y", ["↓", "↑"])];
  const along = connecting(x.column);
  const isDrawn = ({ column, log }, row) => Number.isFinite(column.values[row]) && (column.values[row] > 0 || !log);
  const drawn = visible.filter((row) => isDrawn(x, row) && isDrawn(y, row));
  const rows = d3.sort(drawn, (row) => along.values[row]);
  const front = paretoFront(rows, x.column, y.column);
  const names = data.rows.map((_, row) => lineName(row, along));
  const styles = lineStyles(names);
  colourSwatches(names.map((name) => styles.get(name).color));
  const spread = ({ column, log }, row) => {
    const found = column.spread[row] ?? 0;
    return log && found >= column.values[row] ? 0 : found; // it would extend below 0
  };
  const isLabelled = (row) => along !== x.column && (rows.length <= MAX_LABELS || front.includes(row));
  const point = (row) => ({
    row,
    name: names[row],
    ...styles.get(names[row]),
    x: x.column.values[row],
    y: y.column.values[row],
    dx: spread(x, row),
    dy: spread(y, row),
    text: isLabelled(row) ? placeText(along, row) : "",
    filled: front.includes(row),
  });
  const points = rows.map(point);
  const labels = along === x.column ? "" : `; labels: ${along.header}`;
  const content = { points, front: front.map(point), x, y, tip: ({ row }) => tipOf(row) };
  showFigure("quality-plot", {
    caption: `${titleOf(y.column)} against ${titleOf(x.column)}${labels}`,
    legend: legendOf(d3.sort(points, ({ row }) => row)),
    drawn: points.length ? drawLines(widthOf("quality-plot"), content) : null,
  });
}

/** Give the table's rows the colours of their lines; as properties, since the page's policy forbids style attributes. */
function colourSwatches(colors) {
  tableRows.forEach((line, row) => line.querySelector(".swatch").style.setProperty("--hue", colors[row]));
}

/** Rows that no other row beats in both numbers, best x first; empty if a number has no goal. */
function paretoFront(rows, x, y) {
  if (!goalOf(x) || !goalOf(y) || x === y) return [];
  const compared = (column, a, b) =>
    beats(column, column.values[b], column.values[a]) - beats(column, column.values[a], column.values[b]);
  const front = [];
  for (const row of d3.sort(rows, (a, b) => compared(x, a, b) || compared(y, a, b))) {
    if (!front.length || beats(y, y.values[row], y.values[front.at(-1)])) front.push(row);
  }
  return front;
}
