"use strict";

// Tables: a click on a heading sorts by its column, the next one reverses. Missing values stay last.

const words = new Intl.Collator("en", { numeric: true });

function inOrder(one, other) {
  return "value" in one.dataset
    ? Number(one.dataset.value) - Number(other.dataset.value) || 0
    : words.compare(one.textContent, other.textContent);
}

function sort(table, heading) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const isMissing = (cell) => cell.classList.contains("missing");
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const [a, b] = [one.cells[heading.cellIndex], other.cells[heading.cellIndex]];
    return isMissing(a) || isMissing(b) ? isMissing(a) - isMissing(b) : sign * inOrder(a, b);
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.data")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sort(table, heading));
  }
}

// Long tables begin short. Without this script they are whole, and so they are on paper.

for (const button of document.querySelectorAll("button.more")) {
  const table = button.parentElement.querySelector("table.data");
  const toggle = () => {
    const short = table.classList.toggle("short");
    button.textContent = short ? button.dataset.all : button.dataset.first;
    button.setAttribute("aria-expanded", String(!short));
  };
  button.addEventListener("click", toggle);
  button.hidden = false;
  toggle();
}

// Figures: a click shows one as large as the window; Escape, or another click, closes it.

const dialog = document.querySelector("dialog");
const enlarged = dialog.querySelector("img");

for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const figure = button.querySelector("img");
    enlarged.src = figure.src;
    enlarged.alt = figure.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
