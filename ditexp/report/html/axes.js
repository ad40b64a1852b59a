// The numbers that a chart can show, and their axes.

const TITLES = {
  forwards: "network evaluations per image",
  seconds_per_image: "seconds per image",
  nfe: "velocity evaluations per image (NFE)",
  images_per_second: "images per second",
  peak_memory_mb: "peak memory in MB",
};
const MAX_EXACT_TICKS = 9;

const titleOf = (column) => TITLES[column.name] ?? column.header;

/** Which values are better, "min" or "max"; null if none is. Less cost is better. */
function goalOf({ name, kind, goal }) {
  return goal ?? (kind === "cost" && name !== "seeds" ? "min" : null);
}

/** Whether value a is better than b in this column; without a goal, less comes first. */
function beats(column, a, b) {
  return goalOf(column) === "max" ? a > b : a < b;
}

function isVaried(column) {
  return new Set(column.values.filter((value) => value !== null)).size > 1;
}

/** The columns of numbers, by kind: metrics, costs, and the settings that differ between rows. */
function numbers() {
  const found = columns.filter((column) => column.number && column.values.some(Number.isFinite));
  const ofKind = (kind) => found.filter((column) => column.kind === kind && column.name !== "seeds");
  return { Metrics: ofKind("metric"), Costs: ofKind("cost"), Settings: ofKind("setting").filter(isVaried) };
}

/** Whether a logarithmic axis suits a column: its values span a large range. */
function suitsLog({ kind, name, values }) {
  const [low, high] = d3.extent(values.filter(Number.isFinite));
  return low > 0 && high > (kind === "metric" ? 5 : name === "steps" || kind === "cost" ? 3 : 20) * low;
}

/** The title of an axis, with the direction that is better. arrows: towards lower and higher values. */
function axisTitle(column, [lower, higher]) {
  const goal = goalOf(column);
  if (!goal) return titleOf(column);
  const better = column.kind === "cost" && goal === "min" ? "cheaper" : "better";
  return `${titleOf(column)} (${goal === "min" ? `${lower} ${better}` : `${better} ${higher}`})`;
}

/** Ticks that enclose all values, so that the ends of the axis have numbers; exact: at the values, if these are few. */
function ticksFor(values, { log, exact }) {
  const distinct = d3.sort(new Set(values));
  if (exact && distinct.length > 1 && distinct.length <= MAX_EXACT_TICKS) return distinct;
  const [low, high] = d3.extent(values);
  if (low === high) return [low - (Math.abs(low) / 10 || 1), low, low + (Math.abs(low) / 10 || 1)];
  return (log && logTicks(low, high)) || d3.scaleLinear([low, high], [0, 1]).nice(5).ticks(5);
}

/** Round numbers that enclose the range tightly, at most 10 if possible; none if the range is too small for these. */
function logTicks(low, high) {
  const powers = d3.range(Math.floor(Math.log10(low)), Math.log10(high) + 1).map((power) => Number(`1e${power}`));
  for (const factors of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const all = powers.flatMap((power) => factors.map((factor) => Number((factor * power).toPrecision(2))));
    const ticks = all.slice(d3.bisectRight(all, low) - 1, d3.bisectLeft(all, high) + 1);
    if (ticks.length < 4) return null;
    if (ticks.length < 11 || factors.length === 1) return ticks;
  }
}

/** A number in few characters. */
function short(number) {
  const isPlain = number === 0 || (Math.abs(number) >= 1e-3 && Math.abs(number) < 1e6);
  return isPlain
    ? number.toLocaleString("en", { maximumSignificantDigits: 5 })
    : Number(number.toPrecision(3)).toExponential();
}

/** The width of the longest of these numbers, in pixels. */
function widthOfNumbers(numbers) {
  return 7 * d3.max(numbers, (number) => short(number).length);
}

/** The ticks for whose numbers there is room; always the first and the last. */
function labelled(ticks, position, room) {
  const kept = [ticks[0]];
  const isFar = (a, b) => Math.abs(position(a) - position(b)) >= room;
  const last = ticks.at(-1);
  for (const tick of ticks.slice(1, -1)) if (isFar(tick, kept.at(-1)) && isFar(tick, last)) kept.push(tick);
  return [...kept, last];
}
