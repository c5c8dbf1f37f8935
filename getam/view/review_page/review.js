// Brings the parts of the page together: buttons, keys, files.

const DATA = JSON.parse(byId("data").textContent);
// A review.csv may name classes that this run leaves out.
const KNOWN = [...new Set([...DATA.classes.map(({ name }) => name), ...DATA.known])];

const decisions = new Decisions(DATA, KNOWN);
const viewer = new Viewer(DATA.classes);
const labels = new Labels(DATA.classes, decisions);
const queue = new Queue(DATA, decisions);

function say(words, isProblem = false) {
  byId("said").textContent = words;
  byId("said").classList.toggle("problem", isProblem);
}

function showCurrent() {
  const entry = queue.current;
  document.body.classList.toggle("empty", !entry);
  byId("none").hidden = Boolean(entry);
  byId("photo-part").hidden = byId("facts").hidden = byId("bar").hidden = !entry;
  if (!entry) return;
  byId("id").textContent = entry.id;
  byId("where").textContent = `${entry.split} · photo ${queue.place + 1} of ${queue.shown.length}`;
  byId("why").textContent = entry.reason;
  byId("doubt").hidden = entry.doubt === null;
  byId("doubt-value").textContent = (entry.doubt ?? 0).toFixed(2);
  byId("doubt").style.setProperty("--share", entry.doubt ?? 0);
  viewer.show(entry);
  byId("search").value = "";
  labels.show(entry);
  showVerdict();
}

function showVerdict() {
  const verdict = queue.current ? decisions.verdict(queue.id) : "";
  for (const button of document.querySelectorAll("[data-verdict]")) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
}

function showProgress() {
  const done = DATA.entries.filter(({ id }) => decisions.isDecided(id)).length;
  const count = (verdict) => DATA.entries.filter(({ id }) => decisions.verdict(id) === verdict).length;
  const corrected = DATA.entries.filter(({ id }) => decisions.isCorrected(id)).length;
  byId("done").max = Math.max(1, DATA.entries.length);
  byId("done").value = done;
  byId("count").textContent = `${done} of ${DATA.entries.length} decided`;
  byId("split-count").textContent = `${count("accepted")} accepted · ${count("rejected")} rejected · ${corrected} with corrected classes`;
  byId("save").classList.toggle("unsaved", decisions.unsaved > 0);
  byId("unsaved").textContent = decisions.unsaved ? "not saved yet" : "";
  byId("save").title = decisions.unsaved ? "There are decisions that are not saved yet." : "All decisions are saved.";
  byId("lost").hidden = decisions.keeps;
  if (!decisions.keeps) byId("lost").textContent = `This browser does not keep your decisions (${decisions.why}). Save review.csv before you close the page.`;
}

// A verdict that is already there is taken back; a new one leads to the next photo.
function decide(verdict) {
  const { id } = queue.current ?? {};
  if (!id) return;
  const taken = decisions.verdict(id) === verdict ? "" : verdict;
  decisions.decide(id, taken);
  say(`${id}: ${taken || "not decided"}`);
  if (taken && !queue.advance()) say(`All ${queue.shown.length} photos of this list are decided. Save review.csv.`);
}

function undo() {
  const id = decisions.undo();
  if (id === undefined) {
    say("There is nothing to take back.");
    return;
  }
  if (queue.rows.has(id)) queue.go(id);
  say(`${id}: last change taken back`);
}

function save() {
  const place = URL.createObjectURL(new Blob([decisions.text()], { type: "text/csv" }));
  const link = element("a", { href: place, download: "review.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(place), 10000);
  decisions.saved();
  say(`review.csv with ${decisions.lines.size} lines is in your downloads.`);
}

async function open(file) {
  try {
    const lines = readReview(await file.text(), KNOWN);
    const here = [...lines.keys()].filter((id) => decisions.labels.has(id)).length;
    decisions.load(lines);
    queue.filter(queue.id);
    const others = lines.size - here;
    say(`${file.name}: ${here} photos of this page${others ? `, and ${others} other photos, which are kept` : ""}.`);
  } catch (error) {
    say(`${file.name} was not read: ${error.message}.`, true);
  }
}

const KEYS = {
  a: () => decide("accepted"),
  r: () => decide("rejected"),
  u: () => decide(decisions.verdict(queue.id)),
  z: undo,
  Enter: () => queue.advance(),
  ArrowRight: () => queue.step(1),
  ArrowLeft: () => queue.step(-1),
  m: () => viewer.next(),
  c: () => byId("contour").click(),
  s: save,
  t: () => byId("search-field").hidden || byId("search").focus(),
};

function pressed(event) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key === "Escape") target.blur();
  if (target.matches("select, input[type=search], input[type=file]")) return;
  if (target.matches("input") && event.key.startsWith("Arrow")) return;
  if (target.matches("button, summary") && event.key === "Enter") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (/^[0-9]$/.test(key) && queue.current) labels.press(Number(key));
  else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
}

byId("about").textContent = DATA.about;
if (matchMedia("(max-width: 62rem)").matches) byId("filter-part").open = byId("keys").open = false;
queue.moved.addEventListener("move", showCurrent);
decisions.changed.addEventListener("change", () => {
  showVerdict();
  showProgress();
});
viewer.onSwipe = (by) => queue.step(by);
for (const button of document.querySelectorAll("[data-verdict]")) button.addEventListener("click", () => decide(button.dataset.verdict));
byId("back").addEventListener("click", () => queue.step(-1));
byId("forward").addEventListener("click", () => queue.step(1));
byId("undo").addEventListener("click", undo);
byId("save").addEventListener("click", save);
byId("open").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", () => {
  if (byId("file").files.length) open(byId("file").files[0]);
  byId("file").value = "";
});
document.addEventListener("keydown", pressed);
addEventListener("beforeunload", (event) => {
  if (decisions.unsaved && !decisions.keeps) event.preventDefault();
});
showProgress();
showCurrent();
