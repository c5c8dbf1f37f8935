// The photo with a mask or a map over it.

const FINE = 720; // pixels: an overlay has at least this side, so that its lines are thin

class Viewer {
  constructor(classes) {
    this.classes = classes;
    this.wanted = { kind: "mask", number: 0 };
    this.canvas = byId("overlay");
    for (const id of ["opacity", "contour"]) byId(id).addEventListener("input", () => this.draw());
    byId("layers").addEventListener("change", (event) => this.choose(Number(event.target.value)));
    this.holding();
    this.swiping();
  }

  // The photo alone while it is pressed.
  holding() {
    const bare = (on) => () => byId("photo-box").classList.toggle("bare", on);
    byId("photo-box").addEventListener("pointerdown", bare(true));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) byId("photo-box").addEventListener(name, bare(false));
    byId("photo-box").addEventListener("contextmenu", (event) => event.preventDefault());
  }

  // A finger drawn over the photo to one side: the next or the last photo.
  swiping() {
    let from = null;
    byId("photo-box").addEventListener("touchstart", (event) => {
      from = event.touches.length === 1 ? event.touches[0] : null;
    }, { passive: true });
    byId("photo-box").addEventListener("touchend", (event) => {
      const to = event.changedTouches[0];
      const across = from ? to.clientX - from.clientX : 0;
      if (Math.abs(across) > 60 && Math.abs(across) > 2 * Math.abs(to.clientY - from.clientY)) this.onSwipe?.(across < 0 ? 1 : -1);
      from = null;
    });
  }

  name(id) {
    return this.classes[id - 1].name;
  }

  show(entry) {
    this.entry = entry;
    const [width, height] = entry.size;
    byId("photo-box").style.setProperty("--ratio", width / height);
    byId("photo").src = entry.photo;
    byId("photo").alt = `Photo ${entry.id}`;
    this.choices = [
      ...entry.layers.map((layer, number) => ({ kind: "mask", number, words: layer.caption, ...layer })),
      ...entry.maps.map((map, number) => ({ kind: "map", number, words: `map of ${this.name(map.class)}`, ...map })),
    ];
    const of = (kind, number) => this.choices.findIndex((one) => one.kind === kind && one.number === number);
    this.chosen = Math.max(0, of(this.wanted.kind, this.wanted.number), of(this.wanted.kind, 0));
    const radios = this.choices.map(({ words }, value) => {
      const radio = element("input", { type: "radio", name: "layer", value, checked: value === this.chosen });
      return element("label", {}, radio, words);
    });
    byId("layers").replaceChildren(element("legend", {}, "Shown over the photo"), ...radios);
    byId("layers").hidden = !this.choices.length;
    byId("nothing").hidden = this.choices.length > 0;
    this.draw();
  }

  choose(number) {
    this.chosen = number;
    this.wanted = { kind: this.choices[number].kind, number: this.choices[number].number };
    byId("layers").querySelectorAll("input")[number].checked = true;
    this.draw();
  }

  next() {
    if (this.choices.length) this.choose((this.chosen + 1) % this.choices.length);
  }

  async draw() {
    const [entry, choice] = [this.entry, this.choices?.[this.chosen]];
    byId("opacity-value").textContent = `${Math.round(100 * byId("opacity").value)} %`;
    this.tell(choice);
    if (!choice) {
      this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
      return;
    }
    const image = await decoded(choice.uri);
    if (entry !== this.entry || choice !== this.choices[this.chosen]) return; // another one meanwhile
    const scale = Math.max(1, Math.ceil(FINE / Math.max(...entry.size)));
    const [width, height] = entry.size.map((side) => side * scale);
    const over = choice.kind === "map" ? heatCanvas(mapValues(image, width, height), width, height, 0.02) : enlarged(image, width, height);
    Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.globalAlpha = Number(byId("opacity").value);
    context.drawImage(over, 0, 0);
    context.globalAlpha = 1;
    if (choice.kind === "mask" && byId("contour").checked) drawContour(context, over);
    this.canvas.dataset.drawn = `${entry.id} ${choice.words}`;
  }

  // What the colours mean, and what the picture shows for those who do not see it.
  tell(choice) {
    const classes = choice?.kind === "mask" ? choice.classes : [];
    const words = choice?.kind === "map" ? "dark violet: low, yellow: high" : "no class";
    const items = classes.map((id) => element("li", {}, swatch(this.classes[id - 1].colour), this.name(id)));
    byId("legend").replaceChildren(...(items.length || !choice ? items : [element("li", { className: "quiet" }, words)]));
    this.canvas.setAttribute("aria-label", choice ? `${choice.words}: ${classes.map((id) => this.name(id)).join(", ") || words}` : "nothing");
  }
}

function enlarged(image, width, height) {
  const canvas = canvasOf(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, width, height);
  return canvas;
}

// White lines with dark edges between areas of different colours.
function drawContour(context, areas) {
  const { width, height } = areas;
  const pixels = new Uint32Array(areas.getContext("2d").getImageData(0, 0, width, height).data.buffer);
  const lines = context.createImageData(width, height);
  const drawn = new Uint32Array(lines.data.buffer);
  for (let at = 0; at < pixels.length; at += 1) {
    const right = at % width < width - 1 ? at + 1 : at;
    const below = at + width < pixels.length ? at + width : at;
    if (pixels[at] !== pixels[right] || pixels[at] !== pixels[below]) drawn[at] = 0xffffffff;
  }
  const white = canvasOf(width, height);
  white.getContext("2d").putImageData(lines, 0, 0);
  const dark = canvasOf(width, height);
  const ink = dark.getContext("2d");
  for (const [x, y] of [[-2, 0], [2, 0], [0, -2], [0, 2], [-1, -1], [1, 1], [-1, 1], [1, -1]]) ink.drawImage(white, x, y);
  ink.globalCompositeOperation = "source-in";
  ink.fillStyle = "#000";
  ink.fillRect(0, 0, width, height);
  context.drawImage(dark, 0, 0);
  for (const [x, y] of [[0, 0], [1, 0], [0, 1]]) context.drawImage(white, x, y);
}
