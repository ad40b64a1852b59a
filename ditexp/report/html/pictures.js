// Pictures of the cells that are selected in the table.

/** The rows by label, in the table's order. */
function linesOf(rows) {
  return d3.group(rows, (row) => data.rows[row].label);
}

function setUpPictures() {
  if (!data.rows.some((row) => Object.keys(row.pictures).length)) return;
  document
    .querySelector("#cells thead th")
    .after(
      element("th", { scope: "col", className: "pick", textContent: "Shown", title: "Show this cell's pictures below" }),
    );
  tableRows.forEach((line, row) => line.firstElementChild.after(pickCell(row)));
  document.getElementById("pictures").hidden = false;
  document.getElementById("pick-filtered").addEventListener("click", () => pick(visible));
  document.getElementById("pick-chosen").addEventListener("click", () => pick(data.chosen));
  document.querySelectorAll(".gallery").forEach(zoomAtPointer);
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
    // Each line has the cells of one solver, from the fewest steps to the most.
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
  const caption = element(
    "figcaption",
    { textContent: data.rows[row].label },
    element("small", { textContent: facts }),
  );
  const picture = image(data.rows[row].pictures[kind], `${PICTURE_NAMES[kind]}: ${nameOf(row)}`);
  return element("figure", {}, element("div", { className: "frame" }, picture), caption);
}

function image(number, alt) {
  const { uri, width, height, hard } = data.pictures[number];
  return element("img", { src: uri, width, height, alt, className: hard ? "hard" : "" });
}

/** Zoom all pictures of a gallery at the position of the mouse in one of them. */
function zoomAtPointer(gallery) {
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
