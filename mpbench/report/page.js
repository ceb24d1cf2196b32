"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
      };
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (typeof x === "number" && typeof y === "number") return x - y;
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        return x.localeCompare(y, undefined, {numeric: true});
      };
      const rows = [...body.rows].sort(compare);
      if (down) rows.reverse();
      body.append(...rows);
    });
  });
}
const lines = (table) =>
  [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()).join("\t")).join("\n");
for (const button of document.querySelectorAll("button.copy")) {
  const text = () => button.dataset.copy === "table"
    ? lines(button.closest(".table").querySelector("table"))
    : button.closest(".command").querySelector("code").textContent;
  const label = button.textContent;
  const say = (word) => {
    button.textContent = word;
    setTimeout(() => { button.textContent = label; }, 2000);
  };
  const copyFromPage = (copied) => {
    const area = document.createElement("textarea");
    area.value = copied;
    area.setAttribute("aria-hidden", "true");
    button.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    say(done ? "Copied" : "Not copied");
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    const copied = text();
    if (!navigator.clipboard) return copyFromPage(copied);
    navigator.clipboard.writeText(copied).then(() => say("Copied"), () => copyFromPage(copied));
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.long")) part.open = true;
});
