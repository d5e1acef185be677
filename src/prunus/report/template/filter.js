"use strict";
// Shows the rows of the arms that are chosen, in whichever of the page's boxes.
const boxes = [...document.querySelectorAll(".filter input")];
const hidden = new Set();
// Plotly reads tags in every label.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// Listens to the boxes; `changed` is called after each change of `hidden`.
function filtered(changed) {
  for (const box of boxes) box.addEventListener("change", () => {
    hidden[box.checked ? "delete" : "add"](box.value);
    for (const each of boxes) each.checked = !hidden.has(each.value);
    for (const row of document.querySelectorAll("tr[data-arm]")) row.hidden = hidden.has(row.dataset.arm);
    changed();
  });
}
