"use strict";
(() => {
  const fixed = [-9, -2, 3, 8];
  const slider = document.getElementById("moved");
  const batch = document.getElementById("batch");
  const left = 12, top = 46, bottom = 162, height = 208;
  let right;

  const element = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    batch.append(made);
  };
  const place = (value, limit) => left + (right - left) * (value + limit) / (2 * limit);
  const written = (value) => value.toFixed(2).replace("-", "\u2212");

  const axis = (y, limit, ticks, below, title) => {
    element("line", { x1: left, x2: right, y1: y, y2: y, class: "axis" });
    element("text", { x: left, y: below ? y + 38 : y - 28 }, title);
    for (const tick of ticks) {
      const label = String(tick).replace("-", "\u2212");
      element("text", { x: place(tick, limit), y: below ? y + 22 : y - 12, "text-anchor": "middle" }, label);
    }
  };

  const draw = () => {
    const before = [...fixed, Number(slider.value)];
    const mean = before.reduce((sum, x) => sum + x, 0) / before.length;
    const variance = before.reduce((sum, x) => sum + (x - mean) ** 2, 0) / before.length;
    const after = before.map((x) => (x - mean) / Math.sqrt(variance + 1e-5));

    // One unit is one pixel, so that the numbers stay legible at any width.
    const width = Math.max(240, batch.clientWidth);
    right = width - left;
    batch.setAttribute("viewBox", `0 0 ${width} ${height}`);
    batch.replaceChildren();
    axis(top, 30, width > 400 ? [-30, -20, -10, 0, 10, 20, 30] : [-30, -15, 0, 15, 30], false, "before");
    axis(bottom, 2, [-2, -1, 0, 1, 2], true, "after");
    before.forEach((x, i) => {
      const moved = i === fixed.length ? "moved " : "";
      const from = place(x, 30), to = place(after[i], 2), middle = (top + bottom) / 2;
      const path = `M${from},${top} C${from},${middle} ${to},${middle} ${to},${bottom}`;
      element("path", { d: path, class: moved + "link" });
      element("circle", { cx: from, cy: top, r: 6, class: moved + "dot" });
      element("circle", { cx: to, cy: bottom, r: 6, class: moved + "dot" });
    });

    document.getElementById("moved-value").textContent = written(before[fixed.length]);
    const rows = { before: [...before, mean, Math.sqrt(variance)], after: [...after, 0, 1] };
    for (const [id, values] of Object.entries(rows)) {
      document.getElementById(id).querySelectorAll("td").forEach((cell, i) => {
        cell.textContent = written(values[i]);
      });
    }
  };
  slider.addEventListener("input", draw);
  window.addEventListener("resize", draw);
  draw();
})();
