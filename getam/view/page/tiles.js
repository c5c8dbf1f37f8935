// One tile of the gallery: a canvas that shows a photo and what lies over it.

const STOPS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

// The colour of a map value 0..255: dark violet to light yellow.
const HEAT = Array.from({ length: 256 }, (_, value) => {
  const at = (value / 255) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((from, i) => Math.round(from + (STOPS[low + 1][i] - from) * (at - low)));
});

async function decoded(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

function canvasOf(width, height) {
  return element("canvas", { width, height });
}

// The grey values of a map, enlarged smoothly to the size of its photo.
function mapValues(image, width, height) {
  const context = canvasOf(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  return pixels.filter((_, i) => i % 4 === 0);
}

// Heat where the values are above the threshold, nothing elsewhere.
function heatCanvas(values, width, height, threshold) {
  const canvas = canvasOf(width, height);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((value, i) => {
    if (value <= threshold * 255) return;
    pixels.data.set(HEAT[value], 4 * i);
    pixels.data[4 * i + 3] = 255;
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// layer: image, map, label, prediction, mask or truth; uri: what lies over the photo, if anything.
class Tile {
  constructor(entry, layer, caption, uri) {
    [this.width, this.height] = entry.size;
    this.layer = layer;
    this.uris = [entry.image, uri];
    this.canvas = canvasOf(this.width, this.height);
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${entry.id}: ${caption}`);
    this.element = element("figure", {}, this.canvas, element("figcaption", {}, caption));
    this.element.dataset.layer = layer;
  }

  async load() {
    const [photo, over] = await Promise.all(this.uris.map((uri) => (uri ? decoded(uri) : null)));
    this.photo = photo;
    this.over = over;
    if (this.layer === "map") this.values = mapValues(over, this.width, this.height);
  }

  async draw(threshold, opacity) {
    this.loaded ??= this.load();
    await this.loaded;
    const context = this.canvas.getContext("2d");
    context.globalAlpha = 1;
    context.drawImage(this.photo, 0, 0, this.width, this.height);
    if (!this.over) return;
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = false;
    const over = this.values ? heatCanvas(this.values, this.width, this.height, threshold) : this.over;
    context.drawImage(over, 0, 0, this.width, this.height);
  }
}
