"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();

  const keyOf = (cell) => {
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const number = Number(text);
    return text !== "" && Number.isFinite(number) ? number : text;
  };
  const compare = (one, other) => {
    if (one === "" || other === "") return one === other ? 0 : one === "" ? 1 : -1;
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") === "ascending" ? false
          : head.getAttribute("aria-sort") === "descending" ? true : !head.classList.contains("n");
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
        rows.sort(([one], [other]) => one === "" || other === "" || ascending ? compare(one, other) : compare(other, one));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  for (const controls of document.querySelectorAll(".controls[data-for]")) {
    const rows = [...document.getElementById(controls.dataset.for).tBodies[0].rows];
    const words = controls.querySelector("input"), label = controls.querySelector(".by-label");
    const outcome = controls.querySelector(".by-outcome"), shown = controls.querySelector("output");
    const apply = () => {
      const sought = words ? words.value.trim().toLowerCase() : "";
      let count = 0;
      for (const row of rows) {
        const fits = (!sought || row.textContent.toLowerCase().includes(sought))
          && (!label || !label.value || row.dataset.labels.split(" ").includes(label.value))
          && (!outcome || !outcome.value || row.dataset.outcome === outcome.value);
        row.hidden = !fits;
        count += fits;
      }
      shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    controls.hidden = false;
    controls.addEventListener("input", apply);
    apply();
  }
})();
