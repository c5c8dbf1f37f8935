// Small helpers for making elements and wording figures.

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function byId(id) {
  return document.getElementById(id);
}

function percent(share) {
  return share === null || share === undefined ? "–" : (100 * share).toFixed(1);
}

function colour([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

function swatch(rgb) {
  const made = element("span", { className: "swatch" });
  made.style.background = colour(rgb);
  return made;
}

// rows: arrays of cells, each text or an element; the first of a row heads it.
function table(caption, header, rows, numeric = []) {
  const align = (index) => (numeric.includes(index) ? "number" : "");
  const head = header.map((text, i) => element("th", { scope: "col", className: align(i) }, text));
  const body = rows.map((cells) => {
    const made = cells.map((cell, i) => {
      if (cell instanceof HTMLTableCellElement) return cell;
      const properties = i ? { className: align(i) } : { scope: "row" };
      return element(i ? "td" : "th", properties, cell);
    });
    return element("tr", {}, ...made);
  });
  return element(
    "table",
    { "aria-label": caption },
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...body)
  );
}
