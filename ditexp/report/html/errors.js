// The error relative to the exact paths, along t.

function drawErrors() {
  if (!document.getElementById("error-plot")) return;
  const pointsOf = (row) => (data.rows[row].along ?? []).flatMap(([x, y]) => (y > 0 ? [{ row, x, y }] : []));
  const all = visible.filter((row) => pointsOf(row).length);
  const rows = all.slice(0, MAX_LINES); // the best come first
  const names = data.rows.map((_, row) => lineName(row, byName.steps));
  const styles = lineStyles(names);
  const lines = rows.map((row) => ({ name: names[row], style: styles.get(names[row]), points: pointsOf(row) }));
  for (const { points } of lines) points.at(-1).text = stepsOf(points[0].row);
  const which = all.length > rows.length ? `, best ${rows.length} of ${all.length} cells` : "";
  const axes = { x: { title: "t, from noise (0) to data (1)" }, y: { title: "RMS error (↓ better)", log: true } };
  const tip = ({ row, x, y }) => [nameOf(row), ["t", x.toPrecision(3)], ["error", y.toPrecision(3)]];
  showFigure("error-plot", {
    caption: `RMS error relative to the exact paths, along t; labels: steps${which}`,
    legend: legendOf(lines),
    drawn: rows.length ? drawLines(widthOf("error-plot"), { lines, ...axes, size: 2.2, tip }) : null,
  });
}
