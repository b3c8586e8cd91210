"use strict";

// A chart as SVG. An axis is {label, low, high}, and {log: true}, or {whole: true} where it has whole numbers alone.

const HEIGHT = 270;
const MARGIN = { left: 56, right: 14, top: 26, bottom: 40 };
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function ticks({ low, high, log, whole }) {
  if (log) {
    const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const every = last - first > 6 ? 2 : 1;
    const steps = last - first > 2 ? [1] : [1, 2, 5];
    const all = range(last - first + 1, (i) => (i % every ? [] : steps.map((step) => step * 10 ** (first + i))));
    return all.flat().filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10, 20, 50].map((x) => x * power).find((x) => x >= rough && (!whole || x >= 1));
  const first = Math.ceil(low / step - 1e-9);
  return range(Math.floor(high / step + 1e-9) - first + 1, (i) => (first + i) * step);
}

class Chart {
  constructor(width, x, y) {
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, HEIGHT - MARGIN.bottom];
    Object.assign(this, { width, height: HEIGHT, x, y, left, right, top, bottom, parts: [], labels: [] });
    for (const tick of ticks(x)) {
      this.add(`<path class="grid" d="M${this.across(tick)} ${top}V${bottom}"/>`);
      this.text("tick", this.across(tick), bottom + 16, "middle", number(tick));
    }
    for (const tick of ticks(y)) {
      this.add(`<path class="grid" d="M${left} ${this.up(tick)}H${right}"/>`);
      this.text("tick", left - 6, this.up(tick) + 4, "end", tick < 1e6 ? number(tick) : `${number(tick / 1e6)} M`);
    }
    this.add(`<path class="axis" d="M${left} ${top}V${bottom}H${right}"/>`);
    this.text("name", 2, 12, "start", y.label);
    this.text("name", right, HEIGHT - 4, "end", x.label);
  }

  add(markup) {
    this.parts.push(markup);
  }

  text(kind, x, y, anchor, words) {
    this.add(`<text class="${kind}" x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`);
  }

  along({ low, high, log }, value) {
    const at = clamp(value, low, high);
    return log ? Math.log(at / low) / Math.log(high / low) : (at - low) / (high - low);
  }

  across(value) {
    return Number((this.left + this.along(this.x, value) * (this.right - this.left)).toFixed(1));
  }

  up(value) {
    return Number((this.bottom - this.along(this.y, value) * (this.bottom - this.top)).toFixed(1));
  }

  path(points) {
    return points.map(([x, y], i) => `${i ? "L" : "M"}${this.across(x)} ${this.up(y)}`).join("");
  }

  /** A line, which ends where it leaves the chart, and its label: at its end, or before it where there is room. */
  line(points, dash, label, places = 6) {
    const out = points.findIndex(([, y]) => y < this.y.low);
    const inside = out < 0 ? points : points.slice(0, out + 1);
    this.add(`<path class="curve" stroke-dasharray="${DASHES[dash % DASHES.length]}" d="${this.path(inside)}"/>`);
    range(places, (place) => 1 - 0.07 * place).some((share) => {
      const [x, y] = inside[Math.round(share * (inside.length - 1))];
      return this.label(this.across(x), this.up(y) - 4, label, "middle");
    });
  }

  band(points) {
    const [low, high] = [points.map(([x, low]) => [x, low]), points.map(([x, , high]) => [x, high])];
    this.add(`<path class="curve band" d="${this.path([...high, ...low.reverse()])}Z"/>`);
  }

  dot(x, y, open, radius = 4) {
    this.add(`<circle class="dot${open ? " open" : ""}" cx="${this.across(x)}" cy="${this.up(y)}" r="${radius}"/>`);
  }

  /** A marker above a point, with its name. */
  flag(x, y, name) {
    const [left, top] = [this.across(x), this.up(y)];
    this.add(`<path class="flag" d="M${left} ${top}l-5 -9h10Z"/>`);
    this.label(left, top - 13, name, "middle");
  }

  /** A line over the whole chart at a length, {x} or {y}, with its name. */
  level({ x, y }, name, dashed) {
    const [across, up] = [x === undefined ? this.left : this.across(x), y === undefined ? this.top + 14 : this.up(y)];
    const place = x === undefined ? `M${this.left} ${up}H${this.right}` : `M${across} ${this.top}V${this.bottom}`;
    this.add(`<path class="level" stroke-dasharray="${dashed ? "5 4" : ""}" d="${place}"/>`);
    const before = x !== undefined && across - this.left > 7 * name.length;
    this.label(across + (before ? -4 : 4), up - 4, name, before ? "end" : "start");
  }

  /** Put a label inside the chart, unless it would cover another one; return true if it stands. */
  label(x, y, words, anchor) {
    const width = 7 * words.length;
    const left = clamp(x - { start: 0, middle: width / 2, end: width }[anchor], 2, this.width - width - 2);
    const covers = (other) => left < other.right + 3 && other.left < left + width + 3 && Math.abs(y - other.y) < 13;
    if (this.labels.some(covers)) return false;
    if (words) this.labels.push({ left, right: left + width, y, words });
    return true;
  }

  markup() {
    for (const { left, right, y, words } of this.labels) this.text("label", (left + right) / 2, y, "middle", words);
    return this.parts.join("");
  }
}
