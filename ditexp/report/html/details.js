// What a row opens to: plain facts, then pictures, then the configuration and the protocol, folded.

function toggleDetails(row) {
  const line = tableRows[row];
  const button = line.querySelector(".expand");
  const opened = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!opened));
  if (opened) {
    line.nextElementSibling.remove();
    return;
  }
  const cell = element("td", { colSpan: line.children.length }, describe(row));
  line.after(element("tr", { className: "details" }, cell));
}

function describe(row) {
  const { details, pictures } = data.rows[row];
  const block = (heading, content) => element("section", {}, element("h3", { textContent: heading }), content);
  const parts = [["Settings", details.settings], ["Scores", details.scores], ["Cost", details.cost]]
    .concat([["How it was made", details.made]])
    .filter(([, pairs]) => pairs.length)
    .map(([heading, pairs]) => block(heading, listOf(pairs)));
  if (details.error) parts.unshift(element("p", { className: "wide error", textContent: details.error }));
  if (details.command) {
    const copy = element("button", { type: "button", className: "copy", textContent: "Copy" });
    const command = element("div", { className: "command" }, codeOf(details.command), copy);
    parts.push(element("div", { className: "wide" }, command));
  }
  for (const [kind, picture] of Object.entries(pictures)) {
    parts.push(block(PICTURE_NAMES[kind], image(picture, `${PICTURE_NAMES[kind]}: ${nameOf(row)}`)));
  }
  if (details.config) parts.push(folded("Configuration", codeOf(details.config)));
  if (details.protocol) parts.push(folded("Protocol", listOf(details.comparable), codeOf(details.protocol)));
  return element("div", { className: "cell" }, ...parts);
}

function listOf(pairs) {
  const lines = pairs.map(([name, text]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: text }),
  ]);
  return element("dl", {}, ...lines.flat());
}

function codeOf(text) {
  return element("pre", { tabIndex: 0 }, element("code", { textContent: text }));
}

function folded(heading, ...content) {
  return element("details", { className: "wide" }, element("summary", { textContent: heading }), ...content);
}
