// A number for each pair of values of two settings.

const MAX_PLACES = 60; // in a line or a column of the heat map

/** The settings that vary; also forwards, which suit the columns if solvers share these rather than steps. */
function mapAxes() {
  const distinct = (column) => new Set(column.texts).size;
  return [...columns.filter(({ kind }) => kind === "setting"), byName.steps, byName.forwards].filter(
    (column) => column && distinct(column) > 1 && distinct(column) <= MAX_PLACES,
  );
}

function setUpHeatMap(numbers) {
  const axes = mapAxes();
  const settings = axes.filter(({ name }) => name !== "forwards");
  if (settings.length < 2 || !numbers.length) return;
  const size = (column) => new Set(column.texts).size;
  const options = (all) => ({ "": all.map((column) => [column.name, titleOf(column)]) });
  const mode = { "": ["best", "mean"].map((name) => [name, name]) };
  addFigure(
    "heat-map",
    menu("map-number", "colour", options(numbers), drawPlots),
    menu("map-down", "rows", options(axes), drawPlots),
    menu("map-across", "columns", options(axes), drawPlots),
    menu("map-mode", "several rows", mode, drawPlots),
  );
  const { steps, forwards, solver } = byName;
  const first = settings.includes(steps) ? steps : (settings.find(({ number }) => number) ?? settings.at(-1));
  const across = first === steps && axes.includes(forwards) && size(forwards) < size(steps) ? forwards : first;
  const down = settings.includes(solver) && solver !== first ? solver : settings.find((column) => column !== first);
  document.getElementById("map-across").value = across.name;
  document.getElementById("map-down").value = down.name;
}

/** The text of a row at an axis of the map. */
function placeText(column, row) {
  return column === byName.steps ? stepsOf(row) : column.texts[row];
}

function drawHeatMap() {
  if (!document.getElementById("heat-map")) return;
  const [column, down, across] = ["number", "down", "across"].map(
    (id) => byName[document.getElementById(`map-${id}`).value],
  );
  const chosenMode = document.getElementById("map-mode");
  const rows = visible.filter((row) => Number.isFinite(column.values[row]));
  const several = d3
    .groups(
      rows,
      (row) => placeText(down, row),
      (row) => placeText(across, row),
    )
    .flatMap(([y, line]) => line.map(([x, members]) => ({ x, y, members })));
  const isMerged = several.some(({ members }) => members.length > 1);
  chosenMode.parentElement.hidden = !isMerged || !goalOf(column);
  const mode = goalOf(column) ? chosenMode.value : "mean";
  const places = several.map((place) => summarised(place, column, mode));
  const merged = mapAxes().filter((axis) =>
    several.some(({ members }) => new Set(members.map((row) => placeText(axis, row))).size > 1),
  );
  const over = merged
    .filter((axis) => axis !== byName.forwards || merged.length === 1)
    .map(titleOf)
    .join(", ");
  showFigure("heat-map", {
    caption: `${titleOf(column)} by ${titleOf(down)} and ${titleOf(across)}${isMerged ? `: ${mode} over ${over}` : ""}`,
    drawn: places.length ? drawMap(widthOf("heat-map"), { column, down, across, places, rows }) : null,
  });
}

/** A place with its value: of its only row, or the best or mean of several. row: the best. */
function summarised({ x, y, members }, column, mode) {
  const row = members.reduce((a, b) => (beats(column, column.values[b], column.values[a]) ? b : a));
  const isMean = mode === "mean" && members.length > 1;
  const value = isMean ? d3.mean(members, (member) => column.values[member]) : column.values[row];
  const plain = column.texts[row].match(/^-?[\d.]+/)[0];
  const decimals = plain.split(".")[1]?.length ?? 0;
  return { x, y, members, row, value, text: isMean ? value.toFixed(decimals) : plain };
}

function drawMap(width, { column, down, across, places, rows }) {
  const order = (axis) => {
    const sorted = axis.number ? d3.sort(rows, (row) => axis.values[row] ?? Infinity) : rows; // else the best first
    return [...new Set(sorted.map((row) => placeText(axis, row)))];
  };
  const [names, heads] = [order(down), order(across)];
  const longest = (texts) => d3.max(texts, (text) => text.length);
  const nameWidth = Math.min(24 + 7 * longest(names), 0.4 * width);
  const cellWidth = 7 + 6.6 * Math.max(Math.min(longest(heads), 12), longest(places.map(({ text }) => text)));
  const [marginTop, line] = [44, Math.max(30, Math.min(60, 320 / names.length))];
  const shade = shading(places, column);
  const axis = { textOverflow: "ellipsis", tickSize: 0, labelArrow: "none" };
  const cells = (found, options) => Plot.cell(found, { x: "x", y: "y", ...options });
  const chart = plotted({
    width: Math.max(width, nameWidth + heads.length * cellWidth),
    height: marginTop + names.length * line,
    marginTop,
    marginLeft: nameWidth,
    marginRight: 2,
    marginBottom: 2,
    x: { type: "band", domain: heads, padding: 0.04, label: titleOf(across) },
    y: { type: "band", domain: names, padding: 0.06, label: null },
    marks: [
      Plot.axisX({ ...axis, anchor: "top", labelAnchor: "center", labelOffset: 38, lineWidth: 8 }),
      Plot.axisY({ ...axis, lineWidth: nameWidth < 0.4 * width ? Infinity : (nameWidth - 14) / 13 }),
      cells(places, { fill: ({ value }) => shade(value), className: "places" }),
      cells(bestOf(places, column), { inset: 1, className: "best" }),
      cells(
        places.filter(({ members }) => members.includes(selected)),
        { inset: 1, className: "chosen" },
      ),
      Plot.text(places, { x: "x", y: "y", text: "text", className: "values" }),
    ],
  });
  const rects = chart.querySelectorAll(".places rect");
  rects.forEach((rect, index) => makeButton(rect, places[index], { column, down, across }));
  return element("div", { className: "scroll" }, colourLegend(column, places, shade), chart);
}

/** The places with the best value; none if no value is better than another. */
function bestOf(places, column) {
  if (!column.goal || places.length < 2) return [];
  const best = (column.goal === "max" ? d3.max : d3.min)(places, ({ value }) => value);
  return places.filter(({ value }) => value === best);
}

/** Let a place be found by mouse and keyboard. */
function makeButton(rect, { x, y, row, members, text }, { column, down, across }) {
  const name = `${titleOf(down)} ${y}, ${titleOf(across)} ${x}`;
  const tip = () => {
    if (members.length === 1) return showTip(tipOf(row), corner());
    const lines = members.slice(0, 8).map((member) => [nameOf(member), column.texts[member]]);
    showTip([`${name}: ${members.length} rows`, ...lines], corner());
  };
  const corner = () => {
    const { right, bottom } = rect.getBoundingClientRect();
    return { x: right - 16, y: bottom - 8 };
  };
  for (const [key, value] of Object.entries({ tabindex: 0, role: "button", "aria-label": `${name}: ${text}` })) {
    rect.setAttribute(key, value);
  }
  rect.addEventListener("pointerenter", tip);
  rect.addEventListener("pointerleave", hideTip);
  rect.addEventListener("focus", () => rect.matches(":focus-visible") && tip());
  rect.addEventListener("blur", hideTip);
  rect.addEventListener("click", () => find(row));
  rect.addEventListener("keydown", ({ key }) => key === "Enter" && find(row));
}

/** The colour of a value: the strongest for the best, or for the highest without a goal. */
function shading(places, column) {
  const values = places.map(({ value }) => value);
  const domain = d3.extent(values);
  if (goalOf(column) === "min") domain.reverse();
  const isLog = suitsLog({ ...column, values });
  const scale = (isLog ? d3.scaleLog : d3.scaleLinear)(domain, [0, 100]);
  const strength = (value) => (domain[0] === domain[1] ? 100 : Math.round(scale(value)));
  return Object.assign((value) => `color-mix(in oklab, var(--best) ${strength(value)}%, var(--faint))`, { isLog });
}

/** A strip of colours with numbers. */
function colourLegend(column, places, shade) {
  const [low, high] = d3.extent(places, ({ value }) => value);
  if (low === high) return "";
  const scale = { type: shade.isLog ? "log" : "linear", domain: [low, high] };
  const { invert } = Plot.scale({ x: { ...scale, range: [0, 40] } });
  const strip = d3.range(40).map((i) => ({ x1: invert(i), x2: invert(i + 1), fill: shade(invert(i + 0.5)) }));
  const decimals = places[0].text.split(".")[1]?.length ?? 0;
  const legend = plotted({
    width: 250,
    height: 46,
    marginTop: 18,
    marginBottom: 18,
    marginLeft: 22,
    marginRight: 22,
    x: scale,
    marks: [
      Plot.rectX(strip, { x1: "x1", x2: "x2", fill: "fill", shapeRendering: "crispEdges" }),
      Plot.axisX([low, invert(20), high], {
        text: (value) => value.toFixed(decimals),
        tickSize: 0,
        label: axisTitle(column, ["←", "→"]),
        labelAnchor: "left",
        labelArrow: "none",
        labelOffset: -14,
      }),
    ],
  });
  legend.setAttribute("aria-hidden", "true");
  return legend;
}
