"use strict";

// The charts of an encoding, from its figures {kind, ...}, a width in pixels and the model.

const FLOOR = -20; // the lowest bias to draw, in logits: e^-20 = 2e-9

const CAPTIONS = {
  bias: "Bias over distance, one curve for each head. At −20 nothing is left of a key.",
  similarity: "Similarity of a query and an equal key over distance. The band spans distances drawn at one pixel.",
  reachChart: "Nearest tokens that get 50% (filled) and 90% (open) of the attention if all contents are equal.",
  wavelengthChart: "Tokens of a full turn. Filled: completes a turn within the training length. Open: never does.",
  boundChart: "Is the base large enough? Markers above the line hold; just above it some bases fail again.",
};

/** The lowest and the highest value to draw. */
function extent({ kind, similarity, curves }) {
  const over = (best) => best(...(curves ?? [similarity]).map((curve) => curve.reduce((a, b) => best(a, b))));
  const [low, high] = [over(Math.min), over(Math.max)];
  return kind === "bias" ? [clamp(low, FLOOR, -1), Math.max(high, 0)] : [Math.min(low, 0), high];
}

function effectChart({ kind, curves, similarity, violation }, width, { trained, shown }, [low, high], log) {
  const pad = 0.06 * (high - low);
  const name = kind === "bias" ? "bias (logits)" : "similarity";
  const x = { label: "distance (tokens)", low: log ? 1 : 0, high: shown - 1, log };
  const chart = new Chart(width, x, { label: name, low: low === FLOOR ? low : low - pad, high: high + pad });
  if (trained < shown) chart.level({ x: trained }, `training ${number(trained)}`, false);
  chart.level({ y: 0 }, "", false);
  const steps = range(321, (i) => Math.round(log ? (shown - 1) ** (i / 320) : ((shown - 1) * i) / 320));
  const places = [...new Set(steps)];
  if (kind === "bias") {
    curves.forEach((curve, head) => {
      const label = curves.length === 1 ? "" : head ? String(head + 1) : "head 1";
      chart.line(places.map((d) => [d, curve[d]]), head, label, curves.length > 8 ? 1 : 6);
    });
  } else {
    chart.band(places.map((d, i) => {
      const between = similarity.subarray(d, places[i + 1] ?? d + 1);
      return [d, Math.min(...between), Math.max(...between)];
    }));
    if (violation > 0) chart.flag(violation, 0, `below 0 at ${number(violation)}`);
  }
  return chart;
}

function lengthLevels(chart, { trained, shown }) {
  if (shown !== trained) chart.level({ y: shown }, `context ${number(shown)}`, true);
  chart.level({ y: trained }, `training ${number(trained)}`, false);
}

function wavelengthChart({ trained, shown }, width, m) {
  const [own, longest] = [trained, shown].map(({ frequencies }) => frequencies.map((frequency) => TURN / frequency));
  const x = { label: "pair of channels", low: -0.5, high: own.length - 0.5, whole: true };
  const high = 2 * Math.max(...own, ...longest, m.shown, m.trained);
  const chart = new Chart(width, x, { label: "wavelength (tokens)", low: 4, high, log: true });
  lengthLevels(chart, m);
  if (own.some((wavelength, i) => wavelength !== longest[i])) {
    chart.line(longest.map((wavelength, i) => [i, wavelength]), 1, `in ${tokens(m.shown)}`);
  }
  const radius = clamp(width / own.length / 3, 1.5, 4);
  own.forEach((wavelength, i) => chart.dot(i, wavelength, wavelength > m.trained, radius));
  return chart;
}

function reachChart({ reaches }, width, m) {
  const x = { label: "head", low: 0.5, high: reaches.length + 0.5, whole: true };
  const y = { label: "nearest tokens", low: 0.8, high: 2 * Math.max(m.trained, m.shown), log: true };
  const chart = new Chart(width, x, y);
  lengthLevels(chart, m);
  reaches.forEach(([half, most], head) => {
    chart.dot(head + 1, most, true);
    chart.dot(head + 1, half, false);
  });
  return chart;
}

function boundChart({ shown }, width, m) {
  const found = Object.entries(DATA.smallest_bases[m.headDim]).filter(([, base]) => base !== null);
  const points = found.map(([length, base]) => [Number(length), base]);
  const x = { label: "length (tokens)", low: 50, high: 2e5, log: true };
  const chart = new Chart(width, x, { label: "base", low: 10, high: 1e9, log: true });
  chart.line(points, 0, `smallest base at ${m.headDim} channels`);
  points.forEach(([length, base]) => chart.dot(length, base, false, 2));
  chart.flag(m.trained, shown.base, m.trained === m.shown ? "training, context" : "training");
  if (m.trained !== m.shown) chart.flag(m.shown, shown.base, "context");
  return chart;
}
