"use strict";

// ---- light and dark ----
(function () {
  const button = document.getElementById("theme");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : prefersDark.matches;
  };
  const name = () => { button.textContent = isDark() ? "light colours" : "dark colours"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  prefersDark.addEventListener("change", name);
  name();
})();

// ---- tables that sort ----
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const collator = new Intl.Collator(undefined, { numeric: true });
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.key === undefined) return cell.textContent;
    return cell.dataset.key === "" ? null : Number(cell.dataset.key);
  };
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
    rows.sort(([one], [other]) => {
      // Unknown numbers come last in both directions.
      if (one === null || other === null) return (one === null) - (other === null);
      const order = typeof one === "number" ? one - other : collator.compare(one, other);
      return direction * order;
    });
    body.append(...rows.map(([, row]) => row));
  }));
}

// ---- slices ----
const SETTINGS = JSON.parse(document.getElementById("viewer-settings").textContent);
const KEYS = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -5, PageDown: 5 };
const TITLES = {
  prediction: "prediction (line)",
  reference: "reference (dashes)",
  errors: "errors (areas)",
  enlarged: "enlarged",
};
const NICE_LENGTHS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/** Return the values of a slice, row after row, from the lengths of its runs. */
function readRuns(text, size) {
  const values = new Uint16Array(size);
  const words = text ? text.split(" ") : [];
  let place = 0;
  for (let index = 0; index < words.length; index += 2) {
    const length = parseInt(words[index + 1], 36);
    values.fill(parseInt(words[index], 36), place, place + length);
    place += length;
  }
  return values;
}

/** Return the key of every value: the value itself where it belongs to any class, else 0. */
function keysOfValues() {
  const keys = new Uint16Array(65536);
  for (const entry of SETTINGS.classes) for (const value of entry.values) keys[value] = value;
  return keys;
}

/** Return the key of every value: 1 for those of a class, else 0. */
function keysOfClass(entry) {
  const keys = new Uint8Array(65536);
  for (const value of entry.values) keys[value] = 1;
  return keys;
}

class Viewer {
  constructor(article) {
    this.content = JSON.parse(document.getElementById(article.dataset.content).textContent);
    this.canvas = article.querySelector("canvas");
    this.slider = article.querySelector("input[type=range]");
    this.output = article.querySelector("output");
    this.index = this.content.first;
    this.layers = { prediction: true };
    if (this.content.has_reference) Object.assign(this.layers, { reference: true, errors: true });
    if (this.content.focus) this.layers.enlarged = true;
    this.decoded = new Map();
    this.addToggles(article.querySelector(".toggles"));
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    new ResizeObserver(() => this.draw()).observe(article);
    this.show(this.index);
  }

  addToggles(place) {
    for (const name of Object.keys(this.layers)) {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.name = name;
      box.addEventListener("change", () => {
        this.layers[name] = box.checked;
        this.showLegend();
        this.draw();
      });
      label.append(box, ` ${TITLES[name]}`);
      place.append(label);
    }
    this.legend = document.createElement("ul");
    this.legend.className = "legend small";
    place.after(this.legend);
    this.showLegend();
  }

  /** Name the colours: those of errors where these are shown, else those of classes. */
  showLegend() {
    const kinds = SETTINGS.errors.filter((entry) => !entry.between_classes || SETTINGS.classes.length > 1);
    const entries = this.layers.errors ? kinds : SETTINGS.classes;
    this.legend.replaceChildren(...entries.map((entry) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = entry.colour;
      item.append(swatch, entry.name);
      return item;
    }));
  }

  onKey(event) {
    const last = this.content.slices.length - 1;
    let next = this.index + (KEYS[event.key] || 0);
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = last;
    if (event.key in KEYS || event.key === "Home" || event.key === "End") {
      event.preventDefault();
      this.show(next);
    }
  }

  onWheel(event) {
    const next = this.index + Math.sign(event.deltaY);
    // At the first and the last slice the wheel moves the page on.
    if (event.deltaY === 0 || next < 0 || next >= this.content.slices.length) return;
    event.preventDefault();
    this.show(next);
  }

  show(index) {
    this.index = Math.max(0, Math.min(this.content.slices.length - 1, index));
    this.slider.value = this.index;
    const plane = this.content.plane;
    const position = this.content.slices[this.index].position;
    this.output.textContent = position ? `${plane} ${position}` : "";
    if (this.index === this.content.first && this.content.has_reference && this.content.slices.length > 1) this.output.textContent += " (largest error)";
    this.slider.setAttribute("aria-valuetext", this.output.textContent);
    this.load(this.index);
    this.draw();
  }

  load(index) {
    if (this.decoded.has(index)) return this.decoded.get(index);
    const entry = this.content.slices[index];
    const size = this.content.rows * this.content.columns;
    const slice = { image: new Image(), present: {} };
    for (const name of ["prediction", "reference", "errors"]) {
      if (name in entry) slice[name] = readRuns(entry[name], size);
    }
    slice.image.addEventListener("load", () => { if (index === this.index) this.draw(); });
    slice.image.src = entry.image;
    this.decoded.set(index, slice);
    return slice;
  }

  /** Choose the part of the slice that is shown, and its size on the screen. */
  layOut() {
    const { rows, columns, pixel, focus } = this.content;
    const [row, column, numRows, numColumns] = this.layers.enlarged ? focus : [0, 0, rows, columns];
    const room = this.canvas.parentElement.clientWidth;
    const width = numColumns * pixel[1];
    const height = numRows * pixel[0];
    const scale = Math.min(Math.min(room, 720) / width, 560 / height);
    return { row, column, numRows, numColumns, width: width * scale, height: height * scale, scale };
  }

  draw() {
    const part = this.layOut();
    if (!(part.width > 0)) return;
    const density = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(part.width * density);
    this.canvas.height = Math.round(part.height * density);
    this.canvas.style.width = `${part.width}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(density, density);
    const slice = this.load(this.index);
    if (slice.image.complete && slice.image.naturalWidth) {
      pen.drawImage(slice.image, part.column, part.row, part.numColumns, part.numRows, 0, 0, part.width, part.height);
      if (this.layers.errors) this.takeColours(pen, part);
    }
    const cell = [part.height / part.numRows, part.width / part.numColumns];
    if (this.layers.errors) this.drawErrors(pen, slice.errors, part, cell);
    if (this.layers.prediction) this.drawContours(pen, slice, "prediction", part, cell, []);
    if (this.layers.reference) this.drawContours(pen, slice, "reference", part, cell, [5, 4]);
    this.drawLetters(pen, part);
    this.drawScale(pen, part);
    this.canvas.dataset.slice = this.index;
  }

  /** Turn the image grey: over colours, those of errors could not be told apart. */
  takeColours(pen, part) {
    pen.globalCompositeOperation = "saturation";
    pen.fillStyle = "#808080";
    pen.fillRect(0, 0, part.width, part.height);
    pen.globalCompositeOperation = "source-over";
  }

  drawErrors(pen, values, part, cell) {
    for (const kind of SETTINGS.errors) {
      pen.globalAlpha = kind.opacity;
      pen.fillStyle = kind.colour;
      this.fillCells(pen, values, kind.value, part, cell);
    }
    pen.globalAlpha = 1;
  }

  fillCells(pen, values, wanted, part, cell) {
    for (let row = 0; row < part.numRows; row++) {
      const offset = (row + part.row) * this.content.columns + part.column;
      let start = -1;
      for (let column = 0; column <= part.numColumns; column++) {
        const inside = column < part.numColumns && values[offset + column] === wanted;
        if (inside && start < 0) start = column;
        if (!inside && start >= 0) {
          pen.fillRect(start * cell[1], row * cell[0], (column - start) * cell[1], cell[0]);
          start = -1;
        }
      }
    }
  }

  /** Draw the borders of a label map: in the colours of the classes, or in white over errors. */
  drawContours(pen, slice, name, part, cell, dashes) {
    const values = slice[name];
    if (this.layers.errors) {
      this.strokeBorders(pen, values, keysOfValues(), "#fff", part, cell, dashes);
      return;
    }
    slice.present[name] = slice.present[name] || new Set(values);
    for (const entry of SETTINGS.classes) {
      if (!entry.values.some((value) => slice.present[name].has(value))) continue;
      this.strokeBorders(pen, values, keysOfClass(entry), entry.colour, part, cell, dashes);
    }
  }

  strokeBorders(pen, values, keys, colour, part, cell, dashes) {
    const path = this.traceBorders(values, keys, part, cell);
    pen.setLineDash(dashes);
    pen.lineWidth = 3.4;
    pen.strokeStyle = "rgba(0, 0, 0, 0.6)";
    pen.stroke(path);
    pen.lineWidth = 1.6;
    pen.strokeStyle = colour;
    pen.stroke(path);
    pen.setLineDash([]);
  }

  /** Return the borders between pixels with different keys. Keys belong to the values of pixels. */
  traceBorders(values, keys, part, cell) {
    const path = new Path2D();
    const { columns } = this.content;
    const keyAt = (row, column) => {
      if (row < 0 || column < 0 || row >= part.numRows || column >= part.numColumns) return 0;
      return keys[values[(row + part.row) * columns + column + part.column]];
    };
    // Straight borders are one line each, so that dashes do not begin again at every pixel.
    for (let row = 0; row <= part.numRows; row++) {
      this.traceLine(part.numColumns, (at) => keyAt(row, at) !== keyAt(row - 1, at), (start, stop) => {
        path.moveTo(start * cell[1], row * cell[0]);
        path.lineTo(stop * cell[1], row * cell[0]);
      });
    }
    for (let column = 0; column <= part.numColumns; column++) {
      this.traceLine(part.numRows, (at) => keyAt(at, column) !== keyAt(at, column - 1), (start, stop) => {
        path.moveTo(column * cell[1], start * cell[0]);
        path.lineTo(column * cell[1], stop * cell[0]);
      });
    }
    return path;
  }

  traceLine(length, isBorder, add) {
    let start = -1;
    for (let at = 0; at <= length; at++) {
      const border = at < length && isBorder(at);
      if (border && start < 0) start = at;
      if (!border && start >= 0) {
        add(start, at);
        start = -1;
      }
    }
  }

  drawLetters(pen, part) {
    const [left, right, top, bottom] = this.content.edges;
    pen.font = "600 13px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.write(pen, left, 6, part.height / 2, "left");
    this.write(pen, right, part.width - 6, part.height / 2, "right");
    this.write(pen, top, part.width / 2, 12, "center");
    this.write(pen, bottom, part.width / 2, part.height - 11, "center");
  }

  write(pen, text, x, y, align) {
    pen.textAlign = align;
    pen.lineWidth = 3;
    pen.strokeStyle = "#000";
    pen.strokeText(text, x, y);
    pen.fillStyle = "#fff";
    pen.fillText(text, x, y);
  }

  drawScale(pen, part) {
    const longest = part.width / part.scale / 3;
    const length = NICE_LENGTHS.filter((entry) => entry <= longest).pop();
    if (!length) return;
    const width = length * part.scale;
    const [x, y] = [10, part.height - 10];
    pen.fillStyle = "#000";
    pen.fillRect(x - 1, y - 2, width + 2, 5);
    pen.fillStyle = "#fff";
    pen.fillRect(x, y - 1, width, 3);
    this.write(pen, `${length} ${this.content.unit}`, x, y - 12, "left");
  }
}

for (const article of document.querySelectorAll(".viewer")) new Viewer(article);

// Paper cannot be unfolded.
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
