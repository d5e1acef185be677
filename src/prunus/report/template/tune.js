"use strict";
// Draws all trials from the data of the page: one figure, whatever is chosen to stand to the right.
const { points, axes, costs, front, dense, metric } = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const box = document.getElementById("chart");
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
const marks = { best: "circle", done: "circle-open", "outside a limit": "x-thin-open", stopped: "triangle-down-open" };

function paint() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = colour("--arms").split(", ");
  const key = chosen("axis");
  const { name, values } = axes[key];
  const at = (point) => values[point.number];
  const trace = (kind, shown, looks) => ({
    x: shown.map(at),
    y: shown.map((point) => point.y),
    text: shown.map((point) => `trial ${point.number}<br>` + plain(point.text).replace(/\n/g, "<br>")),
    name: kind,
    mode: "markers",
    hovertemplate: "%{y:.2f} at %{x:.4~g}<br>%{text}<extra>" + kind + "</extra>",
    ...looks,
  });
  const traces = [];
  for (const [kind, symbol] of Object.entries(marks)) {
    const shown = points.filter((point) => point.kind === kind && at(point) !== null);
    if (!shown.length) continue;
    const paint = kind === "best" ? colours[1] : kind === "done" ? colours[0] : colour("--soft");
    const looks = { marker: { symbol, size: kind === "best" ? 10 : 8, color: paint, line: { width: 1.5, color: paint } } };
    if (kind === "best" && front && front.includes(key)) {
      shown.sort((a, b) => at(a) - at(b));
      looks.mode = "lines+markers";
      looks.line = { shape: "hv", width: 1, color: paint };
    }
    traces.push(trace(kind, shown, looks));
    if (kind !== "best") continue;
    const tested = shown.map((point) => ({ ...point, y: point.test }));
    traces.push(trace("best, test split", tested, { marker: { symbol: "diamond-open", size: 8, color: paint, line: { width: 1.5, color: paint } } }));
  }
  if (dense && costs.includes(key) && dense[key]) {
    const looks = { marker: { symbol: "star", size: 11, color: colour("--ink") } };
    traces.push({ x: [dense[key]], y: [dense.y], name: "unpruned", mode: "markers", ...looks, hovertemplate: "%{y:.2f} at %{x:.4~g}<extra>unpruned</extra>" });
  }
  const numbers = values.every((value) => value === null || typeof value === "number");
  const positive = numbers && values.every((value) => value === null || value > 0);
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line"), automargin: true, zeroline: false };
  Plotly.react(box, traces, {
    template: "none",
    margin: { l: 8, r: 8, t: 8, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
    hoverlabel: { bgcolor: colour("--wash"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    legend: innerWidth < 700 ? { orientation: "h", y: -0.2 } : { x: 1.01, y: 1 },
    showlegend: true,
    xaxis: { ...axis, type: numbers ? (positive ? chosen("scale") : "linear") : "category", title: { text: plain(name) }, tickformat: costs.includes(key) ? "~s" : "" },
    yaxis: { ...axis, title: { text: metric } },
  }, { responsive: true, displayModeBar: false });
}

for (const input of document.querySelectorAll(".switches input")) input.addEventListener("change", paint);
dark.addEventListener("change", paint);
paint();
