// Draws the charts in the colours of the page, again whenever the scheme changes.
{
const charts = JSON.parse(document.getElementById("charts").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

function paint() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const gone = new Set([...hidden].map(plain));
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line") };
  for (const box of document.querySelectorAll("[data-chart]")) {
    const name = box.dataset.chart;
    const { data, layout } = charts[name];
    const colours = name === "widths" ? [colour("--before"), colour("--after")] : colour("--arms").split(", ");
    const shown = data.map((trace) => ({ ...trace, visible: !gone.has(trace.name) }));
    Plotly.react(box, name === "widths" ? data : shown, {
      ...layout,
      colorway: colours,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
      hoverlabel: { bgcolor: colour("--wash"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
    }, { responsive: true, displayModeBar: false });
  }
}

filtered(paint);
paint();
dark.addEventListener("change", paint);
}
