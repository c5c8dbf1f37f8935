// Fills the page from its JSON block.

function headline(rows) {
  for (const row of rows) {
    const value = element("dd", {}, percent(row.value), " ", element("small", {}, "%"));
    byId("headline").append(element("div", {}, element("dt", {}, `${row.what}, ${row.measure} on ${row.split}`), value));
  }
}

function chain(stages) {
  const rows = stages.map((s) => [s.stage, s.status, s.time, s.size, s.figures, element("code", {}, s.key)]);
  byId("chain").append(table("Stages of the run", ["stage", "status", "time", "size", "figures", "key"], rows, [2, 3]));
}

function settings(changed) {
  byId("settings").hidden = !changed.length;
  byId("settings").append(element("ul", {}, ...changed.map((line) => element("li", {}, element("code", {}, line)))));
}

function classes(data) {
  const names = [{ name: "background", colour: [0, 0, 0] }, ...data.classes];
  const rows = names.map(({ name, colour: rgb }) => {
    const head = element("th", { scope: "row" }, swatch(rgb), name);
    return [head, ...data.rows.map((row) => barCell(row["per class"][name]))];
  });
  const header = ["class", ...data.rows.map((row) => `${row.what}: ${row.measure === "mAP" ? "AP" : "IoU"} % (${row.split})`)];
  byId("classes").append(table("Figures of each class", header, rows));
}

function curves(charts) {
  charts.forEach((chart) => byId("curves").append(lineChart(chart, 1 + (chart.series ?? 0) % 4)));
}

function hideEmpty(id, empty) {
  byId(id).closest("section").hidden = empty;
}

const DATA = JSON.parse(byId("data").textContent);
byId("about").textContent = DATA.about;
byId("chosen").textContent = DATA.gallery.about;
headline(DATA.rows);
chain(DATA.stages);
settings(DATA.settings);
classes(DATA);
curves(DATA.charts);
hideEmpty("classes", !DATA.rows.length);
hideEmpty("curves", !DATA.charts.length);
hideEmpty("entries", !DATA.gallery.entries.length);
if (DATA.gallery.entries.length) new Gallery(DATA);
for (const region of document.querySelectorAll(".scroll")) {
  if (region.scrollWidth > region.clientWidth) region.tabIndex = 0; // so that keys can scroll it
}
