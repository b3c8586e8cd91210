"use strict";

// The page: its state, which the fragment of its address holds, its knobs and its charts.

const START = { a: "rotary", b: "alibi" };

const state = { log: true, model: {}, a: {}, b: {} };
const element = (id) => document.getElementById(id);
const knobsOf = (scope) => (scope === "model" ? MODEL_KNOBS : ENCODINGS[state[scope].name].knobs);
const valuesOf = (scope) => (scope === "model" ? state.model : state[scope].knobs);

// State and address

function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const chosen = (prefix, knobs) =>
    Object.fromEntries(knobs.map(({ name, values, start }) => {
      const wanted = Number(words.get(prefix + name) ?? NaN);
      const nearest = values.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
      return [name, Number.isFinite(wanted) ? nearest : start];
    }));
  state.log = words.get("distances") !== "linear";
  state.model = chosen("", MODEL_KNOBS);
  for (const scope of ["a", "b"]) {
    const name = Object.hasOwn(ENCODINGS, words.get(scope)) ? words.get(scope) : START[scope];
    state[scope] = { name, knobs: chosen(`${scope}.`, ENCODINGS[name].knobs) };
  }
}

function writeAddress() {
  const words = Object.entries(state.model);
  if (!state.log) words.push(["distances", "linear"]);
  for (const scope of ["a", "b"]) {
    words.push([scope, state[scope].name]);
    for (const [name, value] of Object.entries(state[scope].knobs)) words.push([`${scope}.${name}`, value]);
  }
  history.replaceState(null, "", `#${new URLSearchParams(words)}`);
}

// Knobs

function sliders(scope) {
  return knobsOf(scope).map(({ name, label, values }) => {
    const id = `${scope}-${name}`;
    const input = `type="range" min="0" max="${values.length - 1}" data-scope="${scope}" data-name="${name}"`;
    return `<div class="knob"><label for="${id}">${label}</label><output id="${id}-value" for="${id}"></output>
      <input id="${id}" ${input}></div>`;
  }).join("");
}

function showKnobs(scope) {
  element(scope === "model" ? "model" : `${scope}-knobs`).innerHTML = sliders(scope);
  for (const { name, values } of knobsOf(scope)) {
    element(`${scope}-${name}`).value = values.indexOf(valuesOf(scope)[name]);
  }
}

function showPanel(scope) {
  const panel = element(scope);
  panel.replaceChildren(element("panel").content.cloneNode(true));
  panel.querySelector("h2").textContent = panel.getAttribute("aria-label");
  panel.querySelector(".knobs").id = `${scope}-knobs`;
  panel.querySelector("button").dataset.copy = scope;
  const select = panel.querySelector("select");
  select.setAttribute("aria-label", panel.getAttribute("aria-label"));
  select.append(...Object.entries(ENCODINGS).map(([name, { label }]) => new Option(label, name)));
  select.dataset.scope = scope;
  select.value = state[scope].name;
  showKnobs(scope);
}

function labelKnobs(scope) {
  for (const { name } of knobsOf(scope)) {
    const text = number(valuesOf(scope)[name]);
    element(`${scope}-${name}-value`).textContent = text;
    element(`${scope}-${name}`).setAttribute("aria-valuetext", text);
  }
}

// Words and charts

const known = {};

/** What the page shows of a panel; computed again only if a knob that it depends on has moved. */
function figuresOf(scope) {
  const { name, knobs } = state[scope];
  const key = JSON.stringify([name, knobs, state.model]);
  if (known[scope]?.key !== key) {
    const encoding = ENCODINGS[name];
    const [kind, figures] = encoding.waves ? ["similarity", wavesFigures] : ["bias", biasFigures];
    known[scope] = { key, encoding, kind, ...figures(encoding, knobs, state.model) };
  }
  return known[scope];
}

function show(scope, extents) {
  const [panel, figures] = [element(scope), figuresOf(scope)];
  const { name, knobs } = state[scope];
  const { encoding, kind } = figures;
  const words = (kind === "bias" ? biasWords : wavesWords)(encoding, figures, state.model);
  words.push(...(encoding.words?.(knobs, state.model) ?? []));
  if (encoding.trained) words.push(trainedWords(DATA[encoding.trained]));
  panel.querySelector(".formula").textContent = encoding.formula;
  const seen = panel.querySelector(".seen");
  const items = words.map((sentence) => `<li>${sentence}</li>`).join("");
  if (seen.innerHTML !== items) seen.innerHTML = items; // a screen reader reads what is replaced
  panel.querySelector("code").textContent = trainingCommand(name, knobs, state.model);
  labelKnobs(scope);
  const width = Math.max(panel.querySelector("figure").clientWidth, 280);
  const figure = (place, caption, chart) => {
    const shown = panel.querySelector(`.${place}`);
    shown.hidden = !chart;
    if (!chart) return;
    shown.querySelector("figcaption").textContent = caption;
    const svg = shown.querySelector("svg");
    svg.setAttribute("viewBox", `0 0 ${chart.width} ${chart.height}`);
    svg.setAttribute("aria-label", caption);
    svg.innerHTML = chart.markup();
  };
  const draw = { bias: reachChart, similarity: wavelengthChart }[kind];
  figure("effect", CAPTIONS[kind], effectChart(figures, width, state.model, extents, state.log));
  figure("spans", CAPTIONS[draw.name], draw(figures, width, state.model));
  figure("bound", CAPTIONS.boundChart, figures.shown?.base && boundChart(figures, width, state.model));
}

function render() {
  labelKnobs("model");
  const figures = ["a", "b"].map(figuresOf);
  const extents = figures.map(extent);
  // Two of a kind have one scale, so that they can be compared.
  const both = [Math.min(extents[0][0], extents[1][0]), Math.max(extents[0][1], extents[1][1])];
  const shared = figures[0].kind === figures[1].kind;
  ["a", "b"].forEach((scope, place) => show(scope, shared ? both : extents[place]));
}

let waiting = 0;
function renderSoon() {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(render);
}

// Events

function start() {
  readAddress();
  element("log").checked = state.log;
  showKnobs("model");
  for (const scope of ["a", "b"]) showPanel(scope);
  render();
}

document.addEventListener("input", ({ target }) => {
  const { scope, name } = target.dataset;
  if (target.id === "log") state.log = target.checked;
  else if (target.type === "range") {
    const { values } = knobsOf(scope).find((knob) => knob.name === name);
    valuesOf(scope)[name] = values[target.value];
  } else {
    const moved = knobsOf(scope).map(({ name, start }) => [name, valuesOf(scope)[name], start]);
    const kept = Object.fromEntries(moved.filter(([, value, start]) => value !== start));
    const knobs = ENCODINGS[target.value].knobs.map(({ name, values, start }) =>
      [name, values.includes(kept[name]) ? kept[name] : start]);
    state[scope] = { name: target.value, knobs: Object.fromEntries(knobs) };
    showKnobs(scope);
  }
  renderSoon();
});

document.addEventListener("change", writeAddress);
window.addEventListener("hashchange", start);
new ResizeObserver(renderSoon).observe(document.querySelector("main"));

document.addEventListener("click", async ({ target }) => {
  const what = target.dataset.copy;
  if (!what) return;
  writeAddress();
  const code = what === "link" ? null : element(what).querySelector("code");
  try {
    await navigator.clipboard.writeText(code ? code.textContent : location.href);
    const label = target.textContent;
    target.textContent = "Copied";
    setTimeout(() => (target.textContent = label), 1500);
  } catch {
    // A browser may refuse: then the command is selected, and the link is in the address bar.
    if (code) getSelection().selectAllChildren(code);
  }
});

start();
