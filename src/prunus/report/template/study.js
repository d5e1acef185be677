// Draws the curves from the data of the page: one figure, whatever is chosen.
const { series, costs, metric } = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 699px)");
const box = document.getElementById("chart");
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const methods = [...new Set(series.map((one) => one.method).filter(Boolean))];
const arms = [...new Set(series.map((one) => one.arm))];
const marks = ["star", "x-thin-open", "circle", "diamond", "square", "triangle-up", "cross", "pentagon", "hexagon", "triangle-down"];
const dashes = ["solid", "dot", "solid", "dashdot", "dash", "longdash", "dot", "longdashdot", "dash", "dot"];

function paint() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = colour("--arms").split(", ");
  const cost = chosen("cost"), only = chosen("method");
  const several = methods.length > 1 && !only;
  const looks = (arm, paint) => ({
    line: { dash: dashes[arms.indexOf(arm) % dashes.length], width: 1.5, color: paint },
    marker: { symbol: marks[arms.indexOf(arm) % marks.length], size: 8, color: paint, line: { width: 1.5, color: paint } },
  });
  const shown = series.filter((one) => !hidden.has(one.arm) && (!only || !one.method || one.method === only));
  const traces = shown.map((one) => {
    const points = one.points.filter((point) => point.cost[cost] !== null).sort((a, b) => a.cost[cost] - b.cost[cost]);
    // Colours tell methods apart, or the arms of one.
    const place = several ? methods.indexOf(one.method) : arms.indexOf(one.arm);
    const paint = one.method ? colours[place % colours.length] : colour("--ink");
    const margins = points.map((point) => point.margin ?? 0);
    // Methods of one size stand side by side, a hundredth apart; what is said of a point is its own.
    const aside = several && one.method ? 1 + 0.01 * (place - (methods.length - 1) / 2) : 1;
    return {
      x: points.map((point) => aside * point.cost[cost]),
      y: points.map((point) => point.y),
      text: points.map((point) => plain(`${one.method} ${point.target}`)),
      error_y: { array: margins, visible: margins.some(Boolean), thickness: 1, width: 3 },
      name: plain(one.arm),
      legendgroup: one.arm,
      showlegend: !several,
      mode: points.length > 1 ? "lines+markers" : "markers",
      ...looks(one.arm, paint),
      hovertemplate: "%{text}<br>%{y:.2f}" + (margins.some(Boolean) ? " ± %{error_y.array:.2f}" : "") + "<extra>%{fullData.name}</extra>",
    };
  });
  // The legend of many methods has one line per arm, in no method's colour.
  if (several) for (const arm of arms.filter((one) => !hidden.has(one))) traces.push({ x: [null], y: [null], name: plain(arm), legendgroup: arm, mode: "lines+markers", ...looks(arm, colour("--ink")) });
  const ends = shown.flatMap((one) => one.points.flatMap((point) => [point.y - (point.margin ?? 0), point.y + (point.margin ?? 0)]));
  const [low, high] = ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
  const room = 0.05 * (high - low) || 1;
  const sizes = shown.flatMap((one) => one.points.map((point) => point.cost[cost])).filter((size) => size > 0);
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  // Sizes that are one but for rounding get an axis whose ticks can be told apart.
  const span = most < 1.05 * least ? [0.8 * least, 1.2 * most] : null;
  const across = span && chosen("scale") === "log" ? span.map(Math.log10) : span;
  const bounds = metric.endsWith("%") ? [0, 100] : [0, Infinity];
  methods.forEach((method, place) => {
    document.querySelector(`input[name=method][value="${CSS.escape(method)}"] + i`).style.background = colours[place % colours.length];
  });
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line"), automargin: true, zeroline: false };
  Plotly.react(box, traces, {
    template: "none",
    margin: { l: 8, r: 8, t: 8, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
    hoverlabel: { bgcolor: colour("--wash"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    legend: narrow.matches ? { orientation: "h", y: -0.2 } : { x: 1.01, y: 1 },
    xaxis: { ...axis, type: chosen("scale"), title: { text: costs[cost] }, ...(across && { range: across }), tickformat: cost === "ms" ? "" : "~s" },
    yaxis: { ...axis, title: { text: metric }, range: [Math.max(bounds[0], low - room), Math.min(bounds[1], high + room)] },
  }, { responsive: true, displayModeBar: false });
}

for (const input of document.querySelectorAll(".switches input")) input.addEventListener("change", paint);
dark.addEventListener("change", paint);
narrow.addEventListener("change", paint);
filtered(paint);
paint();

for (const button of document.querySelectorAll("#tables button")) button.addEventListener("click", async () => {
  const text = button.closest("details").querySelector("pre");
  getSelection().selectAllChildren(text); // to be copied by hand where the browser forbids it
  await navigator.clipboard.writeText(text.textContent);
  button.textContent = "copied";
});
