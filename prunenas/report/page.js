"use strict";
// Hover, focus or arrow keys choose a mark of a chart; what is known of it is shown beside.
const told = JSON.parse(document.getElementById("point-data").textContent);

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

function described(point) {
  const parts = [made("h3", point.title)];
  const facts = made("table", undefined, { class: "facts" });
  for (const [name, value] of point.facts) facts.append(row(name, value));
  parts.push(facts);
  if (point.kept.length) {
    const widths = made("table", undefined, { class: "kept-widths" });
    for (const [group, share, words] of point.kept) {
      const name = `${group} ${words}`;
      const meter = share === null ? "" :
        made("meter", undefined, { min: 0, max: 1, value: share, "aria-label": name });
      widths.append(row(group, meter, words));
    }
    parts.push(widths);
  }
  if (point.command) parts.push(made("p", "Its network and weights:"), made("pre", point.command));
  return parts;
}

function connect(chart) {
  const marks = [...chart.querySelectorAll(".point")];
  const panel = chart.querySelector(".details");
  const show = (mark) => {
    const point = told[mark.dataset.point];
    if (!point) return;
    for (const each of marks) each.classList.toggle("chosen", each.dataset.point === mark.dataset.point);
    panel.replaceChildren(...described(point));
  };
  const choose = (mark) => {
    for (const each of marks) each.setAttribute("tabindex", each === mark ? "0" : "-1");
    show(mark);
  };
  // Left and right go along the horizontal axis, up and down along the vertical one.
  const places = new Map(marks.map((mark) => {
    const box = mark.getBoundingClientRect();
    return [mark, [box.x + box.width / 2, box.y + box.height / 2]];
  }));
  const along = (axis) => [...marks].sort((a, b) => {
    const [p, q] = [places.get(a), places.get(b)];
    return p[axis] - q[axis] || p[1 - axis] - q[1 - axis];
  });
  const across = along(0);
  const down = along(1);
  for (const mark of marks) {
    mark.addEventListener("pointerenter", () => show(mark));
    mark.addEventListener("focus", () => choose(mark));
    mark.addEventListener("click", () => mark.focus());
    mark.addEventListener("keydown", (event) => {
      const at = across.indexOf(mark);
      const level = down.indexOf(mark);
      const next = {
        ArrowRight: across[at + 1], ArrowLeft: across[at - 1], Home: across[0], End: across.at(-1),
        ArrowUp: down[level - 1], ArrowDown: down[level + 1],
      }[event.key];
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
  }
  // Single seeds have no stop of their own: their mean's panel lists them.
  for (const dot of chart.querySelectorAll("[data-show]")) {
    const mean = marks.find((mark) => mark.dataset.point === dot.dataset.show);
    if (mean) dot.addEventListener("pointerenter", () => show(mean));
  }
  const first = across.filter((mark) => mark.classList.contains("best")).pop() || across[0];
  if (first) choose(first);
}

for (const chart of document.querySelectorAll(".beside")) connect(chart);

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
