// Line charts as SVG, each with the same figures as a table below it.

const CHART = { width: 480, height: 260, left: 48, right: 14, top: 12, bottom: 40 };

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// At most six round numbers that span low to high.
function ticks(low, high) {
  const rough = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => +((first + i) * step).toPrecision(10));
}

// chart: {title, x, y, points: [[x, y], ...], mark?: x of a vertical line with its words}
function lineChart(chart, series = 1) {
  const xs = chart.points.map(([x]) => x);
  const ys = chart.points.map(([, y]) => y);
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const round = ticks(first, last).filter((t) => t > first && t <= last && !(chart.whole && t % 1));
  const across = [first, ...round];
  const up = ticks(Math.min(0, ...ys), Math.max(...ys));
  const span = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  const x = span(first, last, CHART.left, CHART.width - CHART.right);
  const y = span(up[0], up[up.length - 1], CHART.height - CHART.bottom, CHART.top);

  const parts = [];
  for (const tick of up) {
    parts.push(svg("line", { class: "grid", x1: CHART.left, x2: CHART.width - CHART.right, y1: y(tick), y2: y(tick) }));
    parts.push(svg("text", { x: CHART.left - 8, y: y(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  for (const tick of across) {
    parts.push(svg("text", { x: x(tick), y: CHART.height - CHART.bottom + 17, "text-anchor": "middle" }, String(tick)));
  }
  parts.push(svg("text", { x: (CHART.left + CHART.width - CHART.right) / 2, y: CHART.height - 6, "text-anchor": "middle" }, chart.x));
  const stroke = `stroke: var(--series-${series})`;
  const path = chart.points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`);
  parts.push(svg("path", { class: "curve", style: stroke, d: path.join("") }));
  for (const [a, b] of chart.points.length < 40 ? chart.points : []) {
    parts.push(svg("circle", { cx: x(a), cy: y(b), r: 3, style: `fill: var(--series-${series})` }));
  }
  if (chart.mark !== undefined) {
    const at = x(chart.mark);
    parts.push(svg("line", { x1: at, x2: at, y1: CHART.top, y2: CHART.height - CHART.bottom, stroke: "currentColor", "stroke-dasharray": "4 4" }));
    parts.push(svg("text", { x: at + 6, y: CHART.height - CHART.bottom - 8 }, `best at ${chart.mark}`));
  }

  const box = `0 0 ${CHART.width} ${CHART.height}`;
  const figures = table(chart.title, [chart.x, chart.y], chart.points.map(([a, b]) => [String(a), String(+b.toPrecision(4))]), [1]);
  return element(
    "figure",
    { className: "chart" },
    element("figcaption", {}, chart.title),
    svg("svg", { viewBox: box, role: "img", "aria-label": `${chart.title}: ${chart.y} over ${chart.x}` }, ...parts),
    element("details", {}, element("summary", {}, "Figures"), element("div", { tabIndex: 0 }, figures))
  );
}

// A number and a bar of its share of 1.
function barCell(share) {
  const cell = element("td", { className: "bar" });
  if (share === null || share === undefined) {
    cell.append("–");
    return cell;
  }
  const bar = element("i", { "aria-hidden": "true" });
  bar.style.setProperty("--share", 100 * share);
  cell.append(element("span", {}, element("b", {}, percent(share)), bar));
  return cell;
}
