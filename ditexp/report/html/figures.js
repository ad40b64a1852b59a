// Figures of charts: their menus, captions, legends and tooltips.

/** A menu with its label; groups: {heading: [[value, text], ...]}. A choice that is the only one is not shown. */
function menu(id, label, groups, change) {
  const options = Object.entries(groups).map(([heading, choices]) => {
    const made = choices.map(([value, text]) => new Option(text, value));
    return element("optgroup", { label: heading }, ...made);
  });
  const select = element("select", { id }, ...(options.length > 1 ? options : (options[0]?.children ?? [])));
  select.addEventListener("change", change);
  return element("label", { hidden: select.options.length < 2 }, `${label} `, select);
}

/** A chart's figure: caption, menus, legend and a place to draw. */
function addFigure(id, ...controls) {
  const parts = [
    element("figcaption"),
    element("p", { className: "controls", hidden: !controls.length }, ...controls),
    element("ul", { className: "legend" }),
    element("div", { id, className: "chart" }),
  ];
  document.querySelector("#charts .panels").append(element("figure", {}, ...parts));
}

/** Show what is drawn in a figure; drawn: null if no row has what is to be drawn. */
function showFigure(id, { caption, legend = [], drawn }) {
  const place = document.getElementById(id);
  place.parentElement.querySelector("figcaption").textContent = caption;
  place.parentElement.querySelector(".legend").replaceChildren(...legend);
  place.replaceChildren(drawn ?? element("p", { className: "hint", textContent: "No cell of the filter has these." }));
}

/** The width in which a figure's chart is drawn. */
function widthOf(id) {
  return Math.max(document.getElementById(id).clientWidth, 260);
}

/** A plot without the style that Plot puts into it: charts.css has it, since the page's policy allows no other. */
function plotted(options) {
  const chart = Plot.plot(options);
  chart.querySelector("style").remove();
  return chart;
}

/** Show a tooltip beside a point of the window, within the window: a heading and pairs of texts. */
function showTip([heading, ...lines], { x, y }) {
  const box = document.getElementById("tip");
  const pair = ([name, text]) =>
    element("span", {}, element("span", { textContent: name }), element("span", { textContent: text }));
  box.replaceChildren(element("strong", { textContent: heading }), ...lines.map(pair));
  box.hidden = false;
  const left = x + 16 + box.offsetWidth > innerWidth ? x - 16 - box.offsetWidth : x + 16;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - box.offsetHeight - 4))}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}

/** The tooltip of a row: its settings, then its costs and metrics. */
function tipOf(row) {
  const shown = columns.filter((column) => column.values[row] !== null && !["setting", "error"].includes(column.kind));
  return [data.rows[row].label, ...shown.map((column) => [column.header, column.texts[row]])];
}
