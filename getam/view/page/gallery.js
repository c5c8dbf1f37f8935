// The gallery: entries are built as they are scrolled to, and drawn while they are in view.

const BATCH = 12;
const LAYERS = {
  image: "image",
  map: "map",
  label: "pseudo label",
  prediction: "prediction",
  mask: "final mask",
  truth: "mask",
};

class Gallery {
  constructor(data) {
    this.data = data;
    this.entries = data.gallery.entries;
    this.cards = new Map();
    this.inView = new Set();
    this.view = new IntersectionObserver((changes) => this.seen(changes), { rootMargin: "200px" });
    this.end = new IntersectionObserver(([change]) => change.isIntersecting && this.more());
    this.makeControls();
    this.show();
    this.end.observe(byId("more"));
  }

  makeControls() {
    const splits = [...new Set(this.entries.map((entry) => entry.split))];
    for (const split of splits) {
      const radio = element("input", { type: "radio", name: "split", value: split, checked: split === splits[0] });
      byId("splits").append(element("label", {}, radio, split));
    }
    byId("class").append(element("option", { value: "" }, "all"));
    this.data.classes.forEach(({ name }, i) => byId("class").append(element("option", { value: i + 1 }, name)));
    for (const [layer, words] of Object.entries(LAYERS)) {
      const box = element("input", { type: "checkbox", name: "layer", value: layer, checked: true });
      byId("layers").append(element("label", {}, box, words));
    }
    for (const { name, colour: rgb } of [...this.data.classes, this.data.ignore]) {
      byId("legend").append(element("li", {}, swatch(rgb), name));
    }
    const scored = this.entries.some((entry) => entry.score !== null);
    const has = { worst: scored, best: scored, doubt: this.entries.some((entry) => entry.doubt !== null) };
    for (const option of [...byId("sort").options]) if (has[option.value] === false) option.remove();
    if (!scored && !has.doubt) byId("sort").value = "id";
    byId("threshold").value = this.data.threshold;
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("controls").addEventListener("change", (event) => {
      if (event.target.type !== "range") this.show();
    });
    byId("controls").addEventListener("input", (event) => {
      if (event.target.type === "range") this.redraw();
    });
    byId("more").addEventListener("click", () => this.more());
  }

  // The settings of the controls.
  get wanted() {
    const form = new FormData(byId("controls"));
    return {
      split: form.get("split"),
      classId: Number(byId("class").value),
      sort: byId("sort").value,
      layers: new Set(form.getAll("layer")),
      threshold: Number(byId("threshold").value),
      opacity: Number(byId("opacity").value),
    };
  }

  chosen({ split, classId, sort }) {
    const kept = this.entries.filter((e) => e.split === split && (!classId || e.classes.includes(classId)));
    const last = sort === "worst" ? Infinity : -Infinity; // what was not measured comes last
    const orders = {
      worst: (a, b) => (a.score ?? last) - (b.score ?? last) || 0,
      best: (a, b) => (b.score ?? last) - (a.score ?? last) || 0,
      doubt: (a, b) => (b.doubt ?? last) - (a.doubt ?? last) || 0,
      random: (a, b) => a.random - b.random,
      id: (a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }),
    };
    return kept.sort(orders[sort]);
  }

  show() {
    const wanted = this.wanted;
    const present = new Set(this.entries.filter((e) => e.split === wanted.split).flatMap((e) => this.layersOf(e)));
    for (const box of byId("layers").querySelectorAll("input")) box.disabled = !present.has(box.value);
    this.view.disconnect();
    this.inView.clear();
    this.cards.clear();
    byId("entries").replaceChildren();
    this.waiting = this.chosen(wanted);
    this.total = this.waiting.length;
    this.more();
  }

  more() {
    for (const entry of this.waiting.splice(0, BATCH)) {
      const card = this.card(entry);
      this.cards.set(card.element, card);
      byId("entries").append(card.element);
      this.view.observe(card.element);
    }
    byId("more").hidden = !this.waiting.length;
    const built = this.total - this.waiting.length;
    byId("shown").textContent = this.total ? `${built} of ${this.total} images shown` : "No image of this class here";
    // An observer tells of changes only: look again whether the end is still in view.
    this.end.unobserve(byId("more"));
    if (this.waiting.length) this.end.observe(byId("more"));
  }

  layersOf(entry) {
    return ["image", ...(entry.maps.length ? ["map"] : []), ...entry.layers.map(({ layer }) => layer)];
  }

  card(entry) {
    const { layers, classId } = this.wanted;
    const names = entry.labels?.map((id) => this.data.classes[id - 1].name) ?? ["not labelled"];
    const maps = entry.maps.filter((one) => !classId || one.classId === classId);
    const tiles = [
      new Tile(entry, "image", "image", null),
      ...maps.map((one) => new Tile(entry, "map", `map of ${this.data.classes[one.classId - 1].name}`, one.uri)),
      ...entry.layers.map(({ layer, caption, uri }) => new Tile(entry, layer, caption, uri)),
    ].filter((tile) => layers.has(tile.layer));
    const score = entry.score === null ? "" : `mIoU ${percent(entry.score)}`;
    const header = element(
      "header",
      {},
      element("h3", {}, entry.id),
      element("span", {}, names.join(", ") || "no class"),
      element("span", { className: "quiet" }, score)
    );
    const shown = element("div", { className: "tiles" }, ...tiles.map((tile) => tile.element));
    return { tiles, element: element("article", { className: "entry" }, header, shown) };
  }

  seen(changes) {
    const { threshold, opacity } = this.wanted;
    for (const { target, isIntersecting } of changes) {
      if (isIntersecting) {
        this.inView.add(target);
        this.cards.get(target)?.tiles.forEach((tile) => tile.draw(threshold, opacity));
      } else {
        this.inView.delete(target);
      }
    }
    this.tell();
  }

  redraw() {
    this.tell();
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      const { threshold, opacity } = this.wanted;
      for (const shown of this.inView) this.cards.get(shown)?.tiles.forEach((tile) => tile.draw(threshold, opacity));
    });
  }

  tell() {
    byId("threshold-value").textContent = Number(byId("threshold").value).toFixed(2);
    byId("opacity-value").textContent = `${Math.round(100 * byId("opacity").value)} %`;
  }
}
