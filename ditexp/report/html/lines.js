// Lines through points, drawn by Observable Plot. Colours are those of the style sheet, so that changing the theme or
// printing needs no redrawing.

const turned = (symbol) => ({ draw: (context, size) => symbol.draw(mirrored(context), size) });
const mirrored = (context) => ({
  moveTo: (x, y) => context.moveTo(x, -y),
  lineTo: (x, y) => context.lineTo(x, -y),
  closePath: () => context.closePath(),
});
const MARKERS = [
  d3.symbolCircle,
  d3.symbolSquare,
  d3.symbolTriangle,
  d3.symbolDiamond,
  turned(d3.symbolTriangle),
  d3.symbolCross,
];
const DASHES = [[], [4, 1.5], [1, 1.2], [6, 1.5, 1, 1.5]]; // lengths of lines and gaps, in line widths
const HUES = 7;
const MAX_LINES = 12; // in a legend
const MAX_LABELS = 24; // with more points, only those of the Pareto front are labelled

/**
 * A style for each name of a line: a colour per solver, or per line if all are of one solver. Markers and dashes tell
 * the lines of a colour apart. names: of all rows, in the table's order, so that no filter changes a colour.
 */
function lineStyles(names) {
  const solverOf = new Map(names.map((name, row) => [name, byName.solver.texts[row]]).reverse());
  const isOne = new Set(solverOf.values()).size === 1;
  const groups = [...new Set(isOne ? names : byName.solver.texts)];
  const seen = new Map();
  const styles = new Map();
  for (const name of new Set(names)) {
    const group = isOne ? name : solverOf.get(name);
    const index = groups.indexOf(group);
    const variant = (seen.get(group) ?? 0) + Math.floor(index / HUES);
    seen.set(group, (seen.get(group) ?? 0) + 1);
    const dash = DASHES[variant % DASHES.length].map((length) => 1.8 * length).join(" ");
    styles.set(name, { group, hue: index % HUES, marker: MARKERS[variant % MARKERS.length], dash });
  }
  return styles;
}

/** The marks of one line: the spreads of its points, and itself. */
function lineMarks(points, { hue, dash }, { isFaint } = {}) {
  const stroke = `var(--hue-${hue})`;
  const spread = { stroke, strokeOpacity: 0.7, marker: "tick" };
  return [
    Plot.link(
      points.filter(({ dy }) => dy),
      { x: "x", y1: ({ y, dy }) => y - dy, y2: ({ y, dy }) => y + dy, ...spread },
    ),
    Plot.link(
      points.filter(({ dx }) => dx),
      { y: "y", x1: ({ x, dx }) => x - dx, x2: ({ x, dx }) => x + dx, ...spread },
    ),
    Plot.line(points, {
      x: "x",
      y: "y",
      stroke,
      strokeWidth: 1.8,
      strokeOpacity: isFaint ? 0.4 : 1,
      strokeDasharray: dash,
    }),
  ];
}

/** The marks of points of one line. */
function pointMarks(points, { hue, marker }, { isFilled, size = 4.5 } = {}) {
  const stroke = `var(--hue-${hue})`;
  const fill = isFilled ? stroke : "var(--surface)";
  return Plot.dot(points, { x: "x", y: "y", r: size, symbol: marker, stroke, fill, className: "points" });
}

/**
 * Draw lines through points, as an SVG element of this width.
 *
 * lines: [{name, style, points: [{x, y, dx, dy, row, text, filled}]}]; dx and dy: spreads; text: a label beside the
 * point, if there is room. front: points of a staircase, may be empty. x and y: {title, log, exact}. tip: makes the
 * tooltip of a point.
 */
function drawLines(width, { lines, front = [], x, y, size, tip }) {
  const points = lines.flatMap((line) => line.points.map((point) => ({ ...point, hue: line.style.hue })));
  const isPhone = width < 480;
  const yTicks = ticksFor(
    points.flatMap((point) => ends(point.y, point.dy)),
    y,
  );
  const xTicks = ticksFor(
    points.flatMap((point) => ends(point.x, point.dx)),
    x,
  );
  const frame = {
    width,
    height: isPhone ? 300 : 380,
    marginLeft: 16 + 7 * d3.max(yTicks, (tick) => short(tick).length),
    marginRight: 22,
    marginTop: 28,
    marginBottom: 46,
    x: { type: x.log ? "log" : "linear", domain: d3.extent(xTicks), inset: 12 },
    y: { type: y.log ? "log" : "linear", domain: d3.extent(yTicks), inset: 12 },
  };
  const { marks, at } = frameMarks(frame, { xTicks, yTicks, x, y });
  const selectedPoints = points.filter((point) => point.row === selected).slice(-1);
  const pointsWhere = (isFilled) =>
    lines.map((line) =>
      pointMarks(
        line.points.filter((point) => Boolean(point.filled) === isFilled),
        line.style,
        { isFilled, size: lines.length > MAX_LINES ? 3.2 : size },
      ),
    );
  const chart = plotted({
    ...frame,
    marks: [
      ...marks,
      front.length
        ? Plot.line(staircase(front, frame.x.domain, x), { x: "x", y: "y", curve: "step-after", className: "front" })
        : null,
      ...lines.flatMap((line) => lineMarks(line.points, line.style, { isFaint: lines.length > MAX_LINES })),
      ...pointsWhere(false),
      ...pointsWhere(true),
      Plot.dot(selectedPoints, { x: "x", y: "y", r: 10, className: "ring chosen" }),
      Plot.dot(points, Plot.pointer({ x: "x", y: "y", r: 10, maxRadius: 28, className: "ring" })),
      Plot.text(withRoom(points, at, width), {
        x: "x",
        y: "y",
        text: "text",
        dx: 6,
        dy: -9,
        textAnchor: "start",
        className: "label",
      }),
    ],
  });
  return interactive(chart, { tip, placeOf: at });
}

const ends = (value, spread) => (spread ? [value - spread, value + spread] : [value]);

/** Grid, numbers and titles of both axes; at: the pixels of a point. */
function frameMarks(frame, { xTicks, yTicks, x, y }) {
  const { width, height, marginLeft, marginRight, marginTop, marginBottom } = frame;
  const xScale = Plot.scale({ x: { ...frame.x, range: [marginLeft + 12, width - marginRight - 12] } });
  const yScale = Plot.scale({ y: { ...frame.y, range: [height - marginBottom - 12, marginTop + 12] } });
  const xNumbers = labelled(xTicks, xScale.apply, 12 + 7 * d3.max(xTicks, (tick) => short(tick).length));
  const yNumbers = labelled(yTicks, yScale.apply, 18);
  const shared = { text: short, tickSize: 0, labelArrow: "none" };
  const marks = [
    Plot.gridX(xTicks, { strokeOpacity: 1 }),
    Plot.gridY(yTicks, { strokeOpacity: 1 }),
    Plot.axisX(xNumbers, { ...shared, label: x.title, labelAnchor: "center", labelOffset: 42 }),
    Plot.axisY(yNumbers, { ...shared, label: y.title }),
  ];
  return { marks, at: (point) => [xScale.apply(point.x), yScale.apply(point.y)] };
}

/** The best so far for each budget: a staircase to the worse end of the axis, since nothing was measured between. */
function staircase(front, [low, high], { goal }) {
  return [...front, { x: goal === "max" ? low : high, y: front.at(-1).y }];
}

/** The points for whose labels there is room; those of the front come first. */
function withRoom(points, at, width) {
  const placed = [];
  const centres = points.map(at);
  const order = d3.sort(points, (point) => !point.filled);
  return order.filter((point) => {
    if (!point.text) return false;
    const [left, top] = at(point);
    const [x, y, half] = [left + 6 + 3.3 * point.text.length, top - 9, 3.3 * point.text.length];
    const isFree =
      x + half < width &&
      placed.every((other) => Math.abs(other.x - x) > other.half + half + 3 || Math.abs(other.y - y) > 13) &&
      centres.every(([u, v]) => Math.abs(u - x) > half + 4 || Math.abs(v - y) > 9);
    if (isFree) placed.push({ x, y, half });
    return isFree;
  });
}

/** Tooltips of the points of a chart; a click selects the row. A first tap on a touch screen only shows the tooltip. */
function interactive(chart, { tip, placeOf }) {
  chart.setAttribute("aria-hidden", "true"); // the table has all of it
  let tapped = null;
  chart.addEventListener("input", () => {
    if (!chart.value) return hideTip();
    const [x, y] = placeOf(chart.value);
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

/** A legend of lines or, if there are too many, of what shares a colour. */
function legendOf(lines, { hasFront = false } = {}) {
  const isShort = lines.length <= MAX_LINES;
  const names = new Map(lines.map(({ name, style }) => [isShort ? name : style.group, style]).reverse());
  const frame = { width: 30, height: 14, margin: 0, axis: null, x: { domain: [0, 30] }, y: { domain: [0, 14] } };
  const entry = (marks, text) => {
    const key = plotted({ ...frame, marks });
    key.setAttribute("aria-hidden", "true");
    return element("li", {}, key, text);
  };
  const keys = [...names].reverse().map(([name, style]) => {
    return entry(
      [
        ...lineMarks(
          [
            { x: 1, y: 7 },
            { x: 29, y: 7 },
          ],
          style,
        ),
        pointMarks([{ x: 15, y: 7 }], style),
      ],
      name,
    );
  });
  const step = [
    { x: 1, y: 12 },
    { x: 15, y: 12 },
    { x: 15, y: 3 },
    { x: 29, y: 3 },
  ];
  return [
    ...keys,
    ...(hasFront ? [entry([Plot.line(step, { x: "x", y: "y", className: "front" })], "Pareto front (filled)")] : []),
  ];
}
