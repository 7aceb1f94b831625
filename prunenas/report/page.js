"use strict";
// Hover, focus or arrow keys choose an architecture of the front chart; its widths are shown beside.
const trials = new Map(
  JSON.parse(document.getElementById("trial-data").textContent).map((each) => [each.number, each]));
const marks = [...document.querySelectorAll("#front-chart .trial")];
const panel = document.getElementById("details");

function made(name, text, attributes = {}) {
  const found = document.createElement(name);
  if (text !== undefined) found.textContent = text;
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
}

function row(...cells) {
  const line = made("tr");
  for (const cell of cells) {
    const place = made("td");
    place.append(cell);
    line.append(place);
  }
  return line;
}

function show(number) {
  const trial = trials.get(number);
  if (!trial || !panel) return;
  for (const mark of marks) mark.classList.toggle("chosen", Number(mark.dataset.trial) === number);
  const facts = made("table");
  for (const [name, value] of trial.facts) facts.append(row(name, value));
  const widths = made("table");
  for (const [group, share, told] of trial.kept) {
    const meter = made("meter", undefined, { min: 0, max: 1, value: share, "aria-label": `${group} ${told}` });
    widths.append(row(group, meter, told));
  }
  panel.replaceChildren(made("h3", `trial ${trial.number} · ${trial.method}`), facts, widths);
}

function choose(mark) {
  for (const each of marks) each.setAttribute("tabindex", each === mark ? "0" : "-1");
  show(Number(mark.dataset.trial));
}

// In the order of the horizontal axis, so that arrows go left and right.
const order = [...marks].sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x);
for (const mark of marks) {
  mark.addEventListener("pointerenter", () => show(Number(mark.dataset.trial)));
  mark.addEventListener("focus", () => choose(mark));
  mark.addEventListener("click", () => mark.focus());
  mark.addEventListener("keydown", (event) => {
    const at = order.indexOf(mark);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (next === undefined || !order[next]) return;
    event.preventDefault();
    order[next].focus();
  });
}
const first = order.filter((mark) => mark.classList.contains("best")).pop() || order[0];
if (first) choose(first);

// Tables are sorted by the column whose heading is pressed.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (line) => line.children[column].dataset.value ?? line.children[column].textContent;
    const lines = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      return (numbers ? x - y : String(x).localeCompare(String(y))) * (up ? 1 : -1);
    });
    table.tBodies[0].append(...lines);
  });
}
