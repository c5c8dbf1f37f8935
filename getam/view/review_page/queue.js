// The list of photos: which are shown, in the order of doubt, and where one is.

const MARKS = { accepted: "✓", rejected: "✕", corrected: "✎", "": "" };

// A reason with class names and numbers left out: what the reasons of photos can have in common.
function reasonKind(reason, names) {
  const escaped = [...names].sort((a, b) => b.length - a.length).map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const named = new RegExp(`(?<![\\p{L}\\p{N}])(?:${escaped.join("|")})(?![\\p{L}\\p{N}])`, "gu");
  return reason.replace(named, "…").replace(/\d+(\.\d+)?/g, "…").trim();
}

class Queue {
  constructor(data, decisions) {
    const names = data.classes.map((one) => one.name);
    this.entries = data.entries;
    this.decisions = decisions;
    this.kinds = new Map(this.entries.map((entry) => [entry.id, reasonKind(entry.reason, names)]));
    this.rows = new Map();
    this.moved = new EventTarget();
    this.view = new IntersectionObserver((changes) => this.seen(changes), { root: byId("list"), rootMargin: "300px" });
    this.options("class", names);
    this.options("reason", [...new Set(this.kinds.values())].sort());
    this.options("split", [...new Set(this.entries.map((entry) => entry.split))]);
    byId("filters").addEventListener("change", () => this.filter());
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    decisions.changed.addEventListener("change", () => this.mark());
    if (this.entries.every((entry) => decisions.isDecided(entry.id))) byId("show").value = "all";
    this.filter();
  }

  options(id, values) {
    byId(id).append(element("option", { value: "" }, "all"), ...values.map((value) => element("option", { value }, value)));
    byId(id).closest("label").hidden = values.length < 2;
  }

  // Photos that are decided while they are shown stay in the list until the filter is set again.
  filter(kept) {
    const wanted = Object.fromEntries(["show", "class", "reason", "split"].map((id) => [id, byId(id).value]));
    this.shown = this.entries.filter((entry) => this.isWanted(entry, wanted));
    this.view.disconnect();
    this.rows.clear();
    byId("list").replaceChildren(...this.shown.map((entry) => this.row(entry)));
    for (const row of this.rows.values()) this.view.observe(row);
    this.mark();
    this.go(this.shown.some((entry) => entry.id === kept) ? kept : this.shown[0]?.id);
  }

  isWanted(entry, { show, class: name, reason, split }) {
    const verdict = this.decisions.verdict(entry.id);
    const shows = {
      open: !this.decisions.isDecided(entry.id),
      all: true,
      accepted: verdict === "accepted",
      rejected: verdict === "rejected",
      corrected: this.decisions.isCorrected(entry.id),
    };
    const classes = [...(entry.labels ?? []), ...(this.decisions.classes(entry.id) ?? [])];
    return (
      shows[show] &&
      (!name || classes.includes(name)) &&
      (!reason || this.kinds.get(entry.id) === reason) &&
      (!split || entry.split === split)
    );
  }

  row(entry) {
    const picture = element("img", { alt: "", decoding: "async", width: 56, height: 56 });
    const doubt = element("i", { className: "doubt", "aria-hidden": "true" });
    doubt.style.setProperty("--share", entry.doubt ?? 0);
    const words = element("span", { className: "words" }, element("b", {}, entry.id), element("small", {}, entry.reason), doubt);
    const button = element("button", { type: "button" }, picture, words, element("span", { className: "mark" }));
    button.addEventListener("click", () => this.go(entry.id));
    const row = element("li", {}, button);
    row.dataset.id = entry.id;
    this.rows.set(entry.id, row);
    return row;
  }

  // Pictures are decoded only near what is in view.
  seen(changes) {
    for (const { target, isIntersecting } of changes) {
      const entry = this.shown.find((one) => one.id === target.dataset.id);
      const picture = target.querySelector("img");
      if (isIntersecting && entry) picture.src = entry.photo;
      else picture.removeAttribute("src");
    }
  }

  mark() {
    for (const [id, row] of this.rows) {
      const state = this.decisions.verdict(id) || (this.decisions.isCorrected(id) ? "corrected" : "");
      row.dataset.state = state;
      row.querySelector(".mark").textContent = MARKS[state];
      row.querySelector(".mark").title = state;
      row.querySelector("button").setAttribute("aria-label", `${id}${state ? `, ${state}` : ""}`);
    }
  }

  get current() {
    return this.shown.find((entry) => entry.id === this.id);
  }

  get place() {
    return this.shown.findIndex((entry) => entry.id === this.id);
  }

  go(id) {
    this.rows.get(this.id)?.firstChild.removeAttribute("aria-current");
    this.id = id;
    const row = this.rows.get(id);
    row?.firstChild.setAttribute("aria-current", "true");
    row?.scrollIntoView({ block: "nearest", inline: "center" });
    this.moved.dispatchEvent(new Event("move"));
  }

  step(by) {
    const next = this.shown[this.place + by];
    if (next) this.go(next.id);
  }

  // Go to the next photo that is not decided, from the first one again at the end. False: none.
  advance() {
    const order = [...this.shown.slice(this.place + 1), ...this.shown.slice(0, this.place + 1)];
    const next = order.find((entry) => !this.decisions.isDecided(entry.id));
    if (next) this.go(next.id);
    return Boolean(next);
  }
}
