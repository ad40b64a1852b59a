// Lines through points, drawn by Observable Plot. Colours are those of the style sheet, so that changing the theme or
// printing needs no redrawing.

const MARKERS = ["circle", "square", "triangle", "diamond", "triangle", "cross"];
const ROTATIONS = [0, 0, 0, 0, 180, 0]; // of the markers
const DASHES = [[], [4, 1.5], [1, 1.2], [6, 1.5, 1, 1.5]]; // lengths of lines and gaps, in line widths
const HUES = 7;
const MAX_LINES = 12; // in a legend
const MAX_LABELS = 24; // with more points, only those of the Pareto front are labelled
const INSET = 12; // pixels between the frame and the first and last tick
const AT = { x: "x", y: "y" };

/**
 * A style for each name of a line: a colour per solver, or per line if all are of one solver. Markers and dashes tell
 * the lines of a colour apart. names: of all rows, in the table's order, so that no filter changes a colour.
 */
function lineStyles(names) {
  const solverOf = new Map(d3.zip(names, byName.solver.texts).reverse());
  const isOne = new Set(solverOf.values()).size === 1;
  const groups = [...new Set(isOne ? names : byName.solver.texts)];
  const seen = new Map();
  const styles = new Map();
  for (const name of new Set(names)) {
    const group = isOne ? name : solverOf.get(name);
    const index = groups.indexOf(group);
    const variant = (seen.get(group) ?? 0) + Math.floor(index / HUES);
    seen.set(group, (seen.get(group) ?? 0) + 1);
    styles.set(name, {
      group,
      color: `var(--hue-${index % HUES})`,
      symbol: MARKERS[variant % MARKERS.length],
      rotate: ROTATIONS[variant % MARKERS.length],
      dash: DASHES[variant % DASHES.length].map((length) => 1.8 * length).join(" "),
    });
  }
  return styles;
}

/** Lines that connect points of the same name, in their order, and the spreads of the points. */
function lineMarks(points, { strokeOpacity = 1 } = {}) {
  const spread = { stroke: "color", strokeOpacity: 0.7, marker: "tick" };
  const ends = {
    x1: ({ x, dx }) => x - dx,
    x2: ({ x, dx }) => x + dx,
    y1: ({ y, dy }) => y - dy,
    y2: ({ y, dy }) => y + dy,
  };
  const withSpread = (name) => points.filter((point) => point[name]);
  return [
    Plot.link(withSpread("dy"), { x: "x", y1: ends.y1, y2: ends.y2, ...spread }),
    Plot.link(withSpread("dx"), { y: "y", x1: ends.x1, x2: ends.x2, ...spread }),
    ...d3
      .groups(points, ({ dash }) => dash)
      .map(([strokeDasharray, members]) =>
        Plot.line(members, { ...AT, z: "name", stroke: "color", strokeWidth: 1.8, strokeOpacity, strokeDasharray }),
      ),
  ];
}

/** Points; those that are filled are drawn over the others. */
function pointMark(points, size = 4.5) {
  const fill = ({ filled, color }) => (filled ? color : "var(--surface)");
  const order = d3.sort(points, ({ filled }) => Boolean(filled));
  return Plot.dot(order, {
    ...AT,
    r: size,
    symbol: "symbol",
    rotate: "rotate",
    stroke: "color",
    fill,
    className: "points",
  });
}

/**
 * Draw points and lines that connect them, as an SVG element of this width.
 *
 * points: [{name, color, symbol, rotate, dash, x, y, dx, dy, row, text, filled}]; name: of the line; dx and dy: spreads;
 * text: a label beside the point, if there is room. front: points of a staircase. x and y: {title, log, exact, goal}.
 * tip: makes the tooltip of a point.
 */
function drawLines(width, { points, front = [], x, y, size, tip }) {
  const ends = (axis) =>
    points.flatMap((point) => [-1, 0, 1].map((sign) => point[axis] + sign * (point[`d${axis}`] ?? 0)));
  const [xTicks, yTicks] = [ticksFor(ends("x"), x), ticksFor(ends("y"), y)];
  const frame = {
    width,
    height: width < 480 ? 300 : 380,
    marginLeft: 16 + widthOfNumbers(yTicks),
    marginRight: 22,
    marginTop: 28,
    marginBottom: 46,
    x: { type: x.log ? "log" : "linear", domain: d3.extent(xTicks), inset: INSET },
    y: { type: y.log ? "log" : "linear", domain: d3.extent(yTicks), inset: INSET },
  };
  const { xScale, yScale } = scalesOf(frame);
  const at = (point) => [xScale(point.x), yScale(point.y)];
  const isCrowded = new Set(points.map(({ name }) => name)).size > MAX_LINES;
  const axis = { text: short, tickSize: 0, labelArrow: "none" };
  const chart = plotted({
    ...frame,
    marks: [
      Plot.gridX(xTicks, { strokeOpacity: 1 }),
      Plot.gridY(yTicks, { strokeOpacity: 1 }),
      Plot.axisX(labelled(xTicks, xScale, 12 + widthOfNumbers(xTicks)), {
        ...axis,
        label: x.title,
        labelAnchor: "center",
        labelOffset: 42,
      }),
      Plot.axisY(labelled(yTicks, yScale, 18), { ...axis, label: y.title }),
      Plot.line(staircase(front, frame.x.domain, x), { ...AT, curve: "step-after", className: "front" }),
      ...lineMarks(points, { strokeOpacity: isCrowded ? 0.4 : 1 }),
      pointMark(points, isCrowded ? 3.2 : size),
      Plot.dot(points.filter(({ row }) => row === selected).slice(-1), { ...AT, r: 10, className: "ring chosen" }),
      Plot.dot(points, Plot.pointer({ ...AT, r: 10, maxRadius: 28, className: "ring" })),
      Plot.text(withRoom(points, at, width), {
        ...AT,
        text: "text",
        dx: 6,
        dy: -9,
        textAnchor: "start",
        className: "label",
      }),
    ],
  });
  return interactive(chart, { tip, at });
}

/** Functions from values to pixels, as the plot will have them. */
function scalesOf({ width, height, marginLeft, marginRight, marginTop, marginBottom, x, y }) {
  const xRange = [marginLeft + INSET, width - marginRight - INSET];
  const yRange = [height - marginBottom - INSET, marginTop + INSET];
  return {
    xScale: Plot.scale({ x: { ...x, range: xRange } }).apply,
    yScale: Plot.scale({ y: { ...y, range: yRange } }).apply,
  };
}

/** The best so far for each budget: a staircase to the worse end of the axis, since nothing was measured between. */
function staircase(front, [low, high], { goal }) {
  return front.length ? [...front, { x: goal === "max" ? low : high, y: front.at(-1).y }] : [];
}

/** The points for whose labels there is room; those of the front come first. */
function withRoom(points, at, width) {
  const placed = [];
  const centres = points.map(at);
  return d3
    .sort(points, ({ filled }) => !filled)
    .filter((point) => {
      if (!point.text) return false;
      const half = 3.3 * point.text.length;
      const [left, top] = at(point);
      const [x, y] = [left + 6 + half, top - 9];
      const isFree =
        x + half < width &&
        placed.every((other) => Math.abs(other.x - x) > other.half + half + 3 || Math.abs(other.y - y) > 13) &&
        centres.every(([u, v]) => Math.abs(u - x) > half + 4 || Math.abs(v - y) > 9);
      if (isFree) placed.push({ x, y, half });
      return isFree;
    });
}

/** Tooltips of the points of a chart; a click selects the row. A first tap on a touch screen only shows the tooltip. */
function interactive(chart, { tip, at }) {
  chart.setAttribute("aria-hidden", "true"); // the table has all of it
  let tapped = null;
  chart.addEventListener("input", () => {
    if (!chart.value) return hideTip();
    const [x, y] = at(chart.value);
    const { left, top } = chart.getBoundingClientRect();
    showTip(tip(chart.value), { x: left + x, y: top + y });
  });
  chart.addEventListener("click", ({ pointerType }) => {
    const point = chart.value;
    if (point && (pointerType !== "touch" || tapped === point)) find(point.row);
    tapped = point;
  });
  return chart;
}

/** A legend of the lines or, if there are too many, of what shares a colour. */
function legendOf(points) {
  const isShort = new Set(points.map(({ name }) => name)).size <= MAX_LINES;
  const styles = d3.rollups(
    points,
    ([first]) => first,
    ({ name, group }) => (isShort ? name : group),
  );
  const entries = styles.map(([name, { color, symbol, rotate, dash }]) => {
    const [start, middle, end] = [1, 15, 29].map((x) => ({ x, y: 7, name, color, symbol, rotate, dash }));
    return legendEntry(name, [...lineMarks([start, end]), pointMark([middle])]);
  });
  const step = d3.zip([1, 15, 15, 29], [12, 12, 3, 3]).map(([x, y]) => ({ x, y }));
  const front = Plot.line(step, { ...AT, className: "front" });
  return points.some(({ filled }) => filled) ? [...entries, legendEntry("Pareto front (filled)", [front])] : entries;
}

function legendEntry(text, marks) {
  const [width, height] = [30, 14];
  const key = plotted({
    width,
    height,
    margin: 0,
    axis: null,
    x: { domain: [0, width] },
    y: { domain: [0, height] },
    marks,
  });
  key.setAttribute("aria-hidden", "true");
  return element("li", {}, key, text);
}
