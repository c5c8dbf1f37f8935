// The classes of a photo, as buttons that are switched on and off.

const MANY = 12; // more classes than this get a field to search them

class Labels {
  constructor(classes, decisions) {
    this.classes = classes;
    this.decisions = decisions;
    byId("search-field").hidden = classes.length <= MANY;
    byId("search").addEventListener("input", () => this.show(this.entry));
    byId("restore").addEventListener("click", () => decisions.restore(this.entry.id));
    decisions.changed.addEventListener("change", () => this.entry && this.show(this.entry));
  }

  get names() {
    return this.classes.map(({ name }) => name);
  }

  // The classes with a button: all, or with many those of the photo and those that are searched.
  offered() {
    if (this.classes.length <= MANY) return this.names;
    const [own, text] = [this.own, byId("search").value.trim().toLowerCase()];
    const seen = this.entry.layers.flatMap((layer) => layer.classes.map((id) => this.names[id - 1]));
    const found = text ? this.names.filter((name) => name.toLowerCase().includes(text)) : [];
    return this.names.filter((name) => own.includes(name) || seen.includes(name) || found.slice(0, MANY).includes(name));
  }

  get own() {
    return this.decisions.classes(this.entry.id) ?? [];
  }

  show(entry) {
    this.entry = entry;
    const [own, labelled] = [this.own, this.decisions.classes(entry.id) !== null];
    const focused = document.activeElement?.dataset.name;
    this.buttons = this.offered().map((name, number) => this.button(name, own.includes(name), number < 9 ? number + 1 : null));
    const none = this.button("", labelled && !own.length, 0);
    byId("classes").replaceChildren(...this.buttons, none);
    [...this.buttons, none].find((button) => button.dataset.name === focused)?.focus();
    const hidden = own.filter((name) => !this.names.includes(name));
    byId("hidden").textContent = hidden.length ? `And, outside data.classes: ${hidden.join(", ")}.` : "";
    byId("corrected").hidden = !this.decisions.isCorrected(entry.id);
    byId("change").textContent = this.change(entry);
  }

  // A button for a class; for no class with an empty name.
  button(name, pressed, key) {
    const words = name ? [swatch(this.classes[this.names.indexOf(name)].colour), name] : ["no class"];
    const hint = key === null ? [] : [element("kbd", {}, String(key))];
    const button = element("button", { type: "button", className: "chip", "aria-pressed": String(pressed) }, ...words, ...hint);
    button.dataset.name = name;
    button.addEventListener("click", () => (name ? this.toggle(name) : this.decisions.correct(this.entry.id, [])));
    return button;
  }

  toggle(name) {
    const own = this.own;
    this.decisions.correct(this.entry.id, own.includes(name) ? own.filter((one) => one !== name) : [...own, name]);
  }

  // The key 1 to 9 switches a class, 0 says that there is none.
  press(key) {
    if (key === 0) this.decisions.correct(this.entry.id, []);
    else this.buttons[key - 1]?.click();
  }

  // The correction in words.
  change(entry) {
    const table = entry.labels ?? [];
    const added = this.own.filter((name) => !table.includes(name)).map((name) => `+ ${name}`);
    const removed = table.filter((name) => !this.own.includes(name)).map((name) => `− ${name}`);
    return [...added, ...removed].join(", ") || "no class";
  }
}
