"use strict";

// The encodings that the page offers: their knobs, and what they do to a logit.
//
// A knob has the key of the configuration that it sets (null: training sets it, or nothing does) and the values of its
// slider; `start` is the default of conf/. An encoding has one of these, for its knobs k and the model m:
//   bias(k, m): for each head, its bias at the distances 0, ..., shown - 1
//   waves(k, m, length): the waves whose mean is its similarity over distance in a text of this length: {frequencies},
//     and where needed {still: number of pairs that never turn, logDecays, logitFactor, base: of a spectrum that is
//     plain over the whole head, before: the frequencies without the scaling}

const knob = (name, key, label, values, start) => ({ name, key, label, values, start });
const powersOfTwo = (first, last) => range(last - first + 1, (i) => 2 ** (first + i));
const decades = (from, to, steps) => range(to - from, (i) => steps.map((x) => Number(`${x}e${from + i}`))).flat();
const oneTwoFive = (first, last) => decades(first, last, [1, 2, 5]);

const MODEL_KNOBS = [
  knob("trained", "dataset.sequence_length", "Training length, tokens", powersOfTwo(6, 15), 256),
  knob("shown", null, "Context length, tokens", powersOfTwo(6, 17), 2048),
  knob("heads", "model.num_heads", "Heads", [1, 2, 4, 6, 8, 12, 16, 32], 6),
  knob("headDim", null, "Channels of a head", [16, 32, 64, 96, 128, 192, 256], 32),
];

const BASE = knob("base", "encoding.base", "Base", [...decades(1, 7, [1, 1.5, 2, 3, 5, 7]), 1e7], 10000);
const FACTORS = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
const ofScaling = (name, label, values, start) => knob(name, `encoding.scaling.${name}`, label, values, start);
const FACTOR = ofScaling("factor", "Scaling factor", FACTORS, 4);

/** Rotary under a scaling, which returns {frequencies, ...} for unscaled ones. */
function scaledRotary(label, formula, knobs, scale) {
  const waves = (k, m, length) => {
    const before = inverseFrequencies(m.headDim, k.base);
    return { before, ...scale(before, k, m, length) };
  };
  return { label, formula, knobs: [BASE, ...knobs], waves };
}

const ntk = (before, base, factor) => {
  const scaled = ntkBase(2 * before.length, base, factor);
  return { frequencies: inverseFrequencies(2 * before.length, scaled), base: scaled };
};

/** Some of the frequencies, for a model that is trained with them: there is none without the scaling. */
const keeping = (frequencies, kept) => {
  const chosen = frequencies.filter(kept);
  return { frequencies: chosen, still: frequencies.length - chosen.length, before: undefined };
};

const ENCODINGS = {
  rotary: {
    label: "Rotary (RoPE)",
    formula: "Pair m of the r rotated channels rotates by base^(−2m/r) radians per token.",
    knobs: [BASE, knob("fraction", "encoding.fraction", "Rotated fraction", [0.25, 0.5, 0.75, 1], 1)],
    waves(k, m) {
      const frequencies = inverseFrequencies(k.fraction * m.headDim, k.base);
      return { frequencies, still: m.headDim / 2 - frequencies.length, base: k.fraction === 1 ? k.base : undefined };
    },
  },
  rope_linear: scaledRotary("Rotary: linear interpolation",
    "All frequencies are divided by the factor.", [FACTOR],
    (before, k) => ({ frequencies: before.map((frequency) => frequency / k.factor) })),
  rope_ntk: scaledRotary("Rotary: NTK",
    "A larger base: the fastest frequency stays, the slowest is divided by the factor.", [FACTOR],
    (before, k) => ntk(before, k.base, k.factor)),
  rope_dynamic_ntk: scaledRotary("Rotary: dynamic NTK",
    "NTK, with a factor that grows with the text beyond the training length.", [FACTOR],
    (before, k, m, length) => ntk(before, k.base, dynamicFactor(k.factor, length, m.trained))),
  yarn: scaledRotary("Rotary: YaRN",
    "Fast frequencies stay, slow ones are divided by the factor s; logits grow by (0.1 ln s + 1)².",
    [FACTOR, ofScaling("beta_fast", "Turns that stay (beta_fast)", [8, 16, 32, 64], 32),
      ofScaling("beta_slow", "Turns that are divided (beta_slow)", [0.5, 1, 2, 4], 1)],
    (before, k, m) => ({
      frequencies: byParts(before, k.base, m.trained, k.factor, k.beta_fast, k.beta_slow),
      logitFactor: (0.1 * Math.log(k.factor) + 1) ** 2,
    })),
  llama3: scaledRotary("Rotary: Llama 3's scaling",
    "Frequencies of many turns stay, those of few are divided by the factor, and those between are mixed.",
    [FACTOR, ofScaling("low_freq_factor", "Turns that are divided", [0.5, 1, 2], 1),
      ofScaling("high_freq_factor", "Turns that stay", [3, 4, 8, 16], 4)],
    (before, k, m) => ({ frequencies: llama3(before, m.trained, k.factor, k.low_freq_factor, k.high_freq_factor) })),
  longrope: scaledRotary("Rotary: LongRoPE",
    "A divisor for each frequency beyond the training length L; logits grow by 1 + ln s / ln L. The paper searches " +
      "divisors for each model; here they are those of YaRN, Poslab's default.", [FACTOR],
    (before, k, m, length) => ({
      frequencies: length > m.trained ? byParts(before, k.base, m.trained, k.factor, 32, 1) : before,
      logitFactor: 1 + Math.log(k.factor) / Math.log(m.trained),
    })),
  rotary_proportional: scaledRotary("p-RoPE: highest frequencies",
    "The highest frequencies stay, and the other pairs are not rotated.",
    [ofScaling("proportion", "Rotated proportion", [0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1], 0.75)],
    (before, k) => keeping(before, (_, m) => m < Math.floor(k.proportion * before.length))),
  hope: scaledRotary("HoPE: whole turns only",
    "Pairs of too few turns within the training length are not rotated.",
    [ofScaling("cycles", "Turns needed", [0.25, 0.5, 1, 2, 4, 8], 1)],
    (before, k, m) => keeping(before, (frequency) => frequency >= (k.cycles * TURN) / m.trained)),
  xpos: {
    label: "xPos",
    formula: "Rotary whose pairs fade with distance, the fastest most.",
    knobs: [BASE, knob("scale_base", "encoding.scale_base", "Distance of the fading", powersOfTwo(6, 12), 512),
      knob("gamma", "encoding.gamma", "Gamma: larger fades less", [0.1, 0.2, 0.4, 0.7, 1, 2, 4], 0.4)],
    waves(k, m) {
      const frequencies = inverseFrequencies(m.headDim, k.base);
      return { frequencies, logDecays: xposDecays(m.headDim, k.scale_base, k.gamma) };
    },
  },
  sinusoidal: {
    label: "Sinusoidal",
    formula: "Sines and cosines of p · base^(−2m/d_model) for position p, added to token embeddings.",
    knobs: [BASE],
    absolute: true,
    waves: (k, m) => ({ frequencies: inverseFrequencies(m.heads * m.headDim, k.base) }),
  },
  alibi: {
    label: "ALiBi",
    formula: "bias = −slope · distance, with slopes down to 2^(−max exponent). Heads beyond a power of two get the " +
      "slopes between those of the first ones.",
    knobs: [knob("max_exponent", "encoding.max_exponent", "Max exponent", [1, 2, 4, 6, 8, 10, 12, 16, 20], 8)],
    bias(k, m) {
      const slopes = alibiSlopes(m.heads, k.max_exponent);
      return biasOver(m.shown, m.heads, (d, head) => -slopes[head] * d);
    },
  },
  t5: {
    label: "T5 bias",
    formula: "bias = a learned number for each head and bucket of distances.",
    knobs: [knob("num_buckets", "encoding.num_buckets", "Buckets", [4, 8, 16, 32, 64, 128], 32),
      knob("max_distance", "encoding.max_distance", "Max distance", powersOfTwo(7, 13), 128)],
    trained: "t5",
    bias(k, m) {
      const { table, num_buckets, max_distance, length } = DATA.t5;
      const learned = table.map((row) => range(length, (d) => row[t5Bucket(d, num_buckets, max_distance)]));
      const carried = t5Table(learned, k.num_buckets, k.max_distance);
      return biasOver(m.shown, carried.length, (d, head) => carried[head][t5Bucket(d, k.num_buckets, k.max_distance)]);
    },
    words({ num_buckets, max_distance }, m) {
      const last = range(max_distance + 1, (d) => t5Bucket(d, num_buckets, max_distance)).indexOf(num_buckets - 1);
      const unused = num_buckets - 1 - t5Bucket(m.trained - 1, num_buckets, max_distance);
      const buckets = plural(unused, "bucket", `${unused} buckets`);
      const never = `Training on ${tokens(m.trained)} never reaches the last ${buckets}, drawn like the nearest one.`;
      return [`All tokens from distance ${number(last)} on share the last bucket.`, ...(unused ? [never] : [])];
    },
  },
  kerple_log: {
    label: "KERPLE, logarithmic",
    formula: "bias = −r1 · ln(1 + r2 · distance). Each head learns its own r1 and r2; the sliders show one head.",
    knobs: [knob("r1", null, "r1", oneTwoFive(-2, 1), 1), knob("r2", null, "r2", oneTwoFive(-2, 2), 0.5)],
    bias: (k, m) => biasOver(m.shown, 1, (d) => -k.r1 * Math.log1p(k.r2 * d)),
  },
  kerple_power: {
    label: "KERPLE, power",
    formula: "bias = −r1 · distance^r2. Each head learns its own r1 and r2, below 2; the sliders show one head.",
    knobs: [knob("r1", null, "r1", oneTwoFive(-2, 1), 0.5),
      knob("r2", null, "r2", range(20, (i) => (i + 1) / 10), 1)],
    bias: (k, m) => biasOver(m.shown, 1, (d) => -k.r1 * d ** k.r2),
  },
  fire: {
    label: "FIRE",
    formula: "bias = a learned network of ln(1 + c · distance) / ln(1 + c · position of the query). The query " +
      "is the last token, so the context length stretches the curves.",
    knobs: [knob("layer", null, "Layer", [1, 2], 1)],
    trained: "fire",
    bias: (k, m) => fire(DATA.fire.layers[k.layer - 1], m.shown),
  },
  sandwich: {
    label: "Sandwich",
    formula: "bias = (Σ cos(distance · base^(−2m/dim)) − dim/2) / (8 · head / heads), m = 1, …, dim/2",
    knobs: [knob("dim", "encoding.dim", "Width of the sinusoids", powersOfTwo(5, 9), 128), BASE],
    bias: (k, m) => sandwich(m.shown, m.heads, k.dim, k.base),
  },
  none: {
    label: "None (NoPE)",
    formula: "No position: order is known only from which tokens each token sees.",
    knobs: [],
    bias: (k, m) => biasOver(m.shown, 1, () => 0),
  },
};

/** The command that trains an encoding under these knobs; those at their defaults are left out. */
function trainingCommand(name, k, m) {
  const differs = (values) => ({ name, key, start }) => key && values[name] !== start;
  const changed = (knobs, values) => knobs.filter(differs(values)).map(({ name, key }) => `${key}=${values[name]}`);
  const width = m.heads * m.headDim;
  const words = [`encoding=${name}`, ...changed(ENCODINGS[name].knobs, k), ...changed(MODEL_KNOBS, m)];
  return ["{{ train }}", ...words, ...(width === 192 ? [] : [`model.d_model=${width}`])].join(" ");
}
