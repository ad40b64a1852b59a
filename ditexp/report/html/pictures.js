// Pictures of the cells that are selected in the table, side by side.

const GAP = 20; // pixels between pictures, as in the style sheet
const MIN_WIDTH = 165; // of a picture of samples
const SMALL = 48; // the width to show a sample at, in pixels, if it is this small
const LARGE = 112;

const picked = new Set(data.chosen); // whose pictures are shown

function setUpPictures() {
  if (!data.rows.some((row) => Object.keys(row.pictures).length)) return;
  table.tHead.rows[0].append(element("th", { scope: "col", className: "pick", textContent: "Pictures" }));
  tableRows.forEach((line, row) => line.append(pickCell(row)));
  document.getElementById("pictures").hidden = false;
  document.getElementById("pick-filtered").addEventListener("click", () => pick(visible));
  document.getElementById("pick-chosen").addEventListener("click", () => pick(data.chosen));
  for (const gallery of document.querySelectorAll(".gallery")) {
    zoomAtPointer(gallery);
    let width = 0;
    new ResizeObserver(() => {
      if (gallery.clientWidth !== width) drawGallery(gallery);
      width = gallery.clientWidth;
    }).observe(gallery);
  }
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
  return element("td", { className: "pick" }, element("label", {}, box));
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
  document.querySelectorAll(".gallery").forEach(drawGallery);
}

/** Sorted by settings, so that the values of the last number that differs stand side by side. */
function drawGallery(gallery) {
  const kind = gallery.dataset.kind;
  const rows = [...picked].filter((row) => kind in data.rows[row].pictures);
  if (kind !== "grid") gallery.closest("section").hidden = !rows.length;
  const width = gallery.clientWidth;
  if (!rows.length || !width) return gallery.replaceChildren();
  const differing = columns.filter((column) => isSetting(column) && textsOf(column, rows).length > 1);
  const across = differing.findLast((column) => column.number) ?? differing.at(-1);
  const order = [...differing.filter((column) => column !== across), ...(across ? [across] : [])];
  rows.sort((a, b) => order.reduce((found, column) => found || compare(column, a, b, 1), 0));
  const pictures = rows.map((row) => data.pictures[data.rows[row].pictures[kind]]);
  const areSamples = pictures.every((picture) => picture.tiles);
  const widest = Math.max(...pictures.map((picture) => picture.width));
  const needed = areSamples ? MIN_WIDTH : 0.8 * widest;
  const count = across ? columnsFor(rows.length, textsOf(across, rows).length, (width + GAP) / (needed + GAP)) : 1;
  const room = (width - (count - 1) * GAP) / count; // for each picture
  const shown = areSamples && samplesFor(rows, pictures, room);
  gallery.style.setProperty("--columns", count);
  gallery.replaceChildren(
    ...rows.map((row, i) => {
      const alt = `${PICTURE_NAMES[kind]}: ${nameOf(row)}`;
      const frame = shown
        ? element("div", { className: "frame" }, samples(pictures[i], shown, alt))
        : whole(data.rows[row].pictures[kind], alt, Math.max(0.6, Math.min(1.5, room / widest)));
      return element("figure", {}, frame, captionOf(row, differing));
    }),
  );
}

function textsOf(column, rows) {
  return [...new Set(rows.map((row) => column.texts[row]))];
}

/** How many pictures stand side by side: whole groups of `size`, or equal parts of one, if there is room for `room`. */
function columnsFor(count, size, room) {
  const most = Math.max(1, Math.floor(room));
  if (size > most) return Math.ceil(size / Math.ceil(size / most));
  return Math.min(count, size * Math.max(1, Math.floor(Math.min(most, 4) / size)));
}

/** [columns, rows] of samples to show in each picture of this width; from 5 on in fives, so that classes align. */
function samplesFor(rows, pictures, width) {
  const pitches = pictures.map(pitchOf);
  const fitting = width / (Math.max(...pitches) <= 64 ? SMALL : LARGE);
  const drawn = pictures.map(({ height, tiles }, i) => tiles.columns * Math.round((height + tiles.gap) / pitches[i]));
  const count = Math.min(...drawn, ...rows.map((row) => data.rows[row].samples ?? 1));
  const wide = Math.min(count, fitting < 4 ? Math.max(1, Math.round(fitting)) : 5 * Math.round(fitting / 5));
  return [wide, Math.max(1, Math.min(Math.floor(count / wide), Math.ceil(0.6 * wide)))];
}

/** From one sample of a picture to the next, in its own pixels. */
function pitchOf({ width, tiles }) {
  return (width + tiles.gap) / tiles.columns;
}

/** The first samples of a picture, in rows of another length. */
function samples(picture, [columns, rows], label) {
  const { hard, tiles } = picture;
  const pitch = pitchOf(picture);
  const [side, step] = [Math.round(pitch - tiles.gap), Math.round(pitch)];
  const canvas = element("canvas", { className: hard ? "hard" : "", role: "img", ariaLabel: label });
  [canvas.width, canvas.height] = [columns * step - (step - side), rows * step - (step - side)];
  const source = element("img", { src: picture.uri });
  source.decode().then(() => {
    const pen = canvas.getContext("2d");
    for (let i = 0; i < columns * rows; i++) {
      const from = [pitch * (i % tiles.columns), pitch * Math.floor(i / tiles.columns)];
      const to = [step * (i % columns), step * Math.floor(i / columns)];
      pen.drawImage(source, ...from, pitch - tiles.gap, pitch - tiles.gap, ...to, side, side);
    }
  });
  return canvas;
}

/** A picture with texts, at nearly its own size; where there is less room, its frame scrolls. */
function whole(number, alt, scale) {
  const picture = image(number, alt);
  picture.style.width = `${scale * data.pictures[number].width}px`;
  return element("div", { className: "frame whole", tabIndex: 0 }, picture);
}

function image(number, alt) {
  const { uri, width, height, hard } = data.pictures[number];
  return element("img", { src: uri, width, height, alt, className: hard ? "hard" : "" });
}

/** What sets a picture apart from those beside it, and its first score. */
function captionOf(row, differing) {
  const parts = differing.flatMap((column) => {
    if (column.values[row] === null) return [];
    if (column.name === "steps") return [`${stepsOf(row)} steps`];
    const text = column.texts[row];
    const isName = !column.number && !["none", "true", "false"].includes(text);
    return [isName ? text : `${column.header.split(".").at(-1)} ${text}`];
  });
  const quality = columns.find((column) => column.kind === "metric" && column.values[row] !== null);
  const score = quality ? `${quality.header} ${quality.texts[row]}` : "";
  const text = parts.join(", ") || nameOf(row);
  return element("figcaption", { textContent: text }, element("small", { textContent: score }));
}

/** Zoom all pictures of a gallery at the same place: where the mouse is in one of them, or a finger taps. */
function zoomAtPointer(gallery) {
  const zoom = (event, on) => {
    const frame = event.target.closest(".frame");
    gallery.classList.toggle("pointed", Boolean(frame) && on);
    if (!frame) return;
    const { left, top, width, height } = frame.getBoundingClientRect();
    gallery.style.setProperty("--x", `${(100 * (event.clientX - left)) / width}%`);
    gallery.style.setProperty("--y", `${(100 * (event.clientY - top)) / height}%`);
  };
  gallery.addEventListener("pointermove", (event) => event.pointerType === "mouse" && zoom(event, true));
  gallery.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && zoom(event, false));
  gallery.addEventListener("click", (event) => {
    if (event.pointerType !== "mouse") zoom(event, !gallery.classList.contains("pointed"));
  });
}
