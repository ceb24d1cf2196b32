"use strict";
// Rows without a value in the column that is sorted by stay last, whichever way it is sorted.
const key = (cell) => {
  if (cell.dataset.value === undefined) return cell.textContent.trim() || null;
  const value = Number(cell.dataset.value);
  return Number.isNaN(value) ? null : value;
};
const compare = (x, y) => {
  if (typeof x === "number" && typeof y === "number") return Math.sign(x - y) || 0;
  if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
  return x.localeCompare(y, undefined, {numeric: true});
};
const sortBy = (table, column, direction) => {
  const rows = [...table.tBodies[0].rows].map((row) => ({row, key: key(row.cells[column])}));
  const known = rows.filter((one) => one.key !== null).sort((a, b) => direction * compare(a.key, b.key));
  table.tBodies[0].append(...known.map((one) => one.row), ...rows.filter((one) => one.key === null).map((one) => one.row));
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.firstElementChild.childNodes);
    head.firstElementChild.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortBy(table, column, down ? -1 : 1);
    });
  });
}

// What a spreadsheet would take for a formula is marked as text; numbers stay numbers.
const field = (cell) => {
  const text = cell.textContent.trim().replace(/\s+/g, " ");
  return /^[=+@-]/.test(text) && !/^[+-]?[\d.,\s%]*$/.test(text) ? `'${text}` : text;
};
const lines = (table) => [...table.rows].map((row) => [...row.cells].map(field).join("\t")).join("\n");
for (const button of document.querySelectorAll("button.copy")) {
  const table = button.closest(".table");
  const label = button.textContent;
  const say = (word) => {
    button.textContent = word;
    setTimeout(() => { button.textContent = label; }, 2000);
  };
  button.hidden = !navigator.clipboard;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", () => {
    const copied = table ? lines(table.querySelector("table")) : button.closest(".command").querySelector("code").textContent;
    navigator.clipboard.writeText(copied).then(() => say("Copied"), () => say("Not copied"));
  });
}

// Only what scrolls is a stop of the Tab key.
const stops = new ResizeObserver((changes) => {
  for (const {target} of changes) target.tabIndex = target.scrollWidth > target.clientWidth ? 0 : -1;
});
for (const box of document.querySelectorAll(".scroll")) stops.observe(box);

addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.long")) part.open = true;
});
