// review.csv as text: image,verdict,classes. getam/data/review_table.py reads the same.

const HEADER = ["image", "verdict", "classes"];
const VERDICTS = ["", "accepted", "rejected"];
const NO_CLASS = "-";
const SEPARATORS = /[,;|\t\r\n]/;

function clean(name) {
  return name.normalize("NFC").trim().split(/\s+/).join(" ");
}

// The rows of a CSV table; cells in quotes may have any characters.
function csvRows(text, delimiter) {
  const rows = [[""]];
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const row = rows[rows.length - 1];
    const sign = text[at];
    if (sign === '"' && quoted && text[at + 1] === '"') {
      row[row.length - 1] += '"';
      at += 1;
    } else if (sign === '"' && (quoted || !row[row.length - 1].trim())) {
      quoted = !quoted;
      if (quoted) row[row.length - 1] = "";
    } else if (sign === delimiter && !quoted) row.push("");
    else if (sign === "\n" && !quoted) rows.push([""]);
    else if (sign !== "\r" || quoted) row[row.length - 1] += sign;
  }
  return rows.filter((row) => row.some((cell) => cell.trim()));
}

function csvCell(text) {
  return /[",;\t\r\n|]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Class names as a cell. Spaces alone would separate the words of a name that are classes too.
function classesCell(names, known) {
  if (!names.length) return NO_CLASS;
  const [first] = names;
  const words = first.split(" ");
  const severalReadings = names.length === 1 && words.length > 1 && words.every((word) => known.includes(word));
  return names.join(";") + (severalReadings ? ";" : "");
}

// The class names in a cell, longest first, so that a name may have a separator in it.
function cellClasses(cell, known) {
  if (known.includes(clean(cell))) return [clean(cell)];
  const own = known.filter((name) => SEPARATORS.test(name)).sort((a, b) => b.length - a.length);
  const escaped = own.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`\\s*(${[...escaped, "[^,;|\\t\\r\\n]*"].join("|")})\\s*(?:[,;|\\t\\r\\n]|$)`, "g");
  const parts = SEPARATORS.test(cell) ? [...cell.matchAll(pattern)].map((match) => match[1]) : cell.split(/\s+/);
  return [...new Set(parts.map(clean).filter(Boolean))];
}

// lines: id -> {verdict, classes: names or null}. Sorted by id, so that two files can be compared.
function writeReview(lines, known) {
  const rows = [...lines.keys()].sort().map((id) => {
    const { verdict, classes } = lines.get(id);
    return [id, verdict, classes === null ? "" : classesCell(classes, known)];
  });
  return [HEADER, ...rows].map((row) => `${row.map(csvCell).join(",")}\n`).join("");
}

// The lines of a review.csv. Throws an Error whose message says what is wrong, and where.
function readReview(text, known) {
  const plain = text.replace(/^\uFEFF/, "");
  const first = plain.split(/\r?\n/, 1)[0];
  const split = (delimiter) => (csvRows(first, delimiter)[0] ?? []).map((cell) => cell.trim());
  const delimiter = [",", ";", "\t", "|"].find((sign) => split(sign).join() === HEADER.join());
  if (!delimiter) throw new Error(`line 1 is “${first.slice(0, 60)}”, expected ${HEADER.join()}`);
  const lines = new Map();
  csvRows(plain, delimiter).slice(1).forEach((row, number) => {
    const where = `row ${number + 2}`;
    if (row.length !== HEADER.length) throw new Error(`${where} has ${row.length} columns, expected ${HEADER.join()}`);
    const [id, verdict, cell] = row.map((part) => part.trim());
    if (!VERDICTS.includes(verdict)) throw new Error(`${where}: “${verdict}” is no verdict, expected accepted, rejected or nothing`);
    if (lines.has(id.normalize("NFC"))) throw new Error(`${where}: ${id} has a line above already`);
    const classes = cell === "" ? null : cell === NO_CLASS ? [] : cellClasses(cell, known);
    const unknown = (classes ?? []).find((name) => !known.includes(name));
    if (unknown !== undefined) throw new Error(`${where}: there is no class “${unknown}”`);
    lines.set(id.normalize("NFC"), { verdict, classes });
  });
  return lines;
}
