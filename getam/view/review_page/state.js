// What was decided: a line per photo, kept by the browser until it is saved, with undo.

class Decisions {
  // entries: the photos of the page; review: the lines of data.review; known: all class names.
  constructor(data, known) {
    this.key = data.store;
    this.known = known;
    this.labels = new Map(data.entries.map((entry) => [entry.id, entry.labels]));
    this.history = [];
    this.changed = new EventTarget();
    this.keeps = true;
    const stored = this.stored();
    this.lines = new Map(stored?.lines ?? Object.entries(data.review));
    this.unsaved = stored?.unsaved ?? 0;
  }

  stored() {
    try {
      return JSON.parse(localStorage.getItem(this.key));
    } catch (error) {
      this.keeps = false; // the browser keeps nothing, or something else has this name
      this.why = error.message;
      return null;
    }
  }

  store() {
    try {
      localStorage.setItem(this.key, JSON.stringify({ lines: [...this.lines], unsaved: this.unsaved }));
      this.keeps = true;
    } catch (error) {
      this.keeps = false;
      this.why = error.message;
    }
    this.changed.dispatchEvent(new Event("change"));
  }

  line(id) {
    return this.lines.get(id) ?? { verdict: "", classes: null };
  }

  verdict(id) {
    return this.line(id).verdict;
  }

  // The classes of a photo as they now are; null: not labelled.
  classes(id) {
    return this.line(id).classes ?? this.labels.get(id) ?? null;
  }

  isCorrected(id) {
    return this.line(id).classes !== null;
  }

  isDecided(id) {
    return this.verdict(id) !== "" || this.isCorrected(id);
  }

  decide(id, verdict) {
    this.put(id, { ...this.line(id), verdict });
  }

  // Classes that are those of the label table are no correction.
  correct(id, names) {
    const table = this.labels.get(id);
    const same = table !== null && table.length === names.length && names.every((name) => table.includes(name));
    const ordered = [...names].sort((a, b) => this.known.indexOf(a) - this.known.indexOf(b));
    this.put(id, { ...this.line(id), classes: same ? null : ordered });
  }

  restore(id) {
    this.put(id, { ...this.line(id), classes: null });
  }

  put(id, line) {
    this.history.push([id, this.lines.get(id)]);
    this.set(id, line);
    this.unsaved += 1;
    this.store();
  }

  set(id, line) {
    if (line && (line.verdict || line.classes !== null)) this.lines.set(id, line);
    else this.lines.delete(id);
  }

  // The id of the photo whose last change was taken back; nothing without one.
  undo() {
    const last = this.history.pop();
    if (!last) return undefined;
    this.set(...last);
    this.unsaved += 1;
    this.store();
    return last[0];
  }

  // Take over the lines of a file; those of other photos stay as they are.
  load(lines) {
    for (const [id, line] of lines) this.set(id, line);
    this.history = [];
    this.store();
  }

  text() {
    return writeReview(this.lines, this.known);
  }

  saved() {
    this.unsaved = 0;
    this.store();
  }
}
