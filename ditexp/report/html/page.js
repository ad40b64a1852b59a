"use strict";

// What all parts of the page share. Texts from results are shown as text, never as HTML.

document.documentElement.classList.add("script"); // shows what works with scripts alone

const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const byName = Object.fromEntries(columns.map((column) => [column.name, column]));
const PICTURE_NAMES = { grid: "Samples", trajectory_picture: "From noise to data", film: "Film", prompt_picture: "Prompts" };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function stepsOf(row) {
  const steps = byName.steps.values[row];
  return steps === null ? "adaptive" : String(steps);
}

function nameOf(row) {
  return data.rows[row].name;
}

function isSetting(column) {
  return column.kind === "setting" || column.name === "steps";
}

/** Compare two rows by a column; rows without a value are last in either direction, 1 or -1. */
function compare(column, a, b, direction) {
  const [x, y] = [column.values[a], column.values[b]];
  if (x === null || y === null) return (x === null) - (y === null);
  if (column.number) return direction * (x - y);
  return direction * column.texts[a].localeCompare(column.texts[b], undefined, { numeric: true });
}

/** A choice of the reader, kept between visits where the browser allows it. */
function remembered(name) {
  try {
    return localStorage.getItem(`ditexp-${name}`);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`ditexp-${name}`, value);
  } catch {
    // the choice lasts as long as the page
  }
}

function setUpTheme() {
  const root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const button = document.getElementById("theme");
  const label = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  preferred.addEventListener("change", label);
  button.hidden = false;
  label();
}

function setUpCopying() {
  document.addEventListener("click", async (event) => {
    if (!event.target.matches(".copy")) return;
    const code = event.target.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      event.target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // copying is not allowed: select it for Ctrl+C
      event.target.textContent = "Selected";
    }
    setTimeout(() => (event.target.textContent = "Copy"), 2000);
  });
}
