// The error relative to the exact paths, along t.

function drawErrors() {
  if (!document.getElementById("error-plot")) return;
  const names = data.rows.map((_, row) => lineName(row, byName.steps));
  const styles = lineStyles(names);
  const pointsOf = (row) => {
    const along = (data.rows[row].along ?? []).filter(([, error]) => error > 0); // the axis is logarithmic
    const texts = along.map((_, i) => (i === along.length - 1 ? stepsOf(row) : ""));
    return along.map(([x, y], i) => ({ row, ...styles.get(names[row]), name: nameOf(row), x, y, text: texts[i] }));
  };
  const all = visible.map(pointsOf).filter((points) => points.length);
  const points = all.slice(0, MAX_LINES).flat(); // the best come first
  const which = all.length > MAX_LINES ? `, best ${MAX_LINES} of ${all.length} cells` : "";
  const axes = { x: { title: "t, from noise (0) to data (1)" }, y: { title: "RMS error (↓ better)", log: true } };
  const tip = ({ row, x, y }) => [nameOf(row), ["t", x.toPrecision(3)], ["error", y.toPrecision(3)]];
  showFigure("error-plot", {
    caption: `RMS error relative to the exact paths, along t; labels: steps${which}`,
    legend: legendOf(points.map((point) => ({ ...point, name: names[point.row] }))),
    drawn: points.length ? drawLines(widthOf("error-plot"), { points, ...axes, size: 2.2, tip }) : null,
  });
}
