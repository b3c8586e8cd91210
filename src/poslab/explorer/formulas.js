"use strict";

// The formulas of poslab.encodings, in double precision; tests/explorer compares them with the Python code.
// Frequencies are in radians per token, one for each pair of channels. A distance d is in tokens, at least 0.

const TURN = 2 * Math.PI;
const range = (count, make) => Array.from({ length: count }, (_, index) => make(index));
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function inverseFrequencies(channels, base) {
  return range(channels / 2, (m) => base ** ((-2 * m) / channels));
}

// Scalings of rotary frequencies

/** The base at which the fastest frequency stays and the slowest is divided by the factor (NTK). */
function ntkBase(channels, base, factor) {
  return base * factor ** (channels / (channels - 2));
}

function dynamicFactor(factor, length, trained) {
  return Math.max(1, (factor * length) / trained - (factor - 1));
}

/** YaRN's ramp over the index of a pair: fast frequencies stay, slow ones are divided by the factor. */
function byParts(frequencies, base, trained, factor, fast, slow) {
  const channels = 2 * frequencies.length;
  const pairThatTurns = (times) => (channels * Math.log(trained / (times * TURN))) / (2 * Math.log(base));
  const first = Math.max(Math.floor(pairThatTurns(fast)), 0);
  const last = Math.max(Math.min(Math.ceil(pairThatTurns(slow)), channels - 1), first + 0.001);
  return frequencies.map((frequency, m) => {
    const ramp = clamp((m - first) / (last - first), 0, 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
}

function llama3(frequencies, trained, factor, low, high) {
  return frequencies.map((frequency) => {
    const kept = clamp(((frequency * trained) / TURN - low) / (high - low), 0, 1);
    return ((1 - kept) * frequency) / factor + kept * frequency;
  });
}

// Figures of frequencies

/** For d = 0, ..., length - 1: the sum over pairs m of exp(d * logDecay(m)) * cos(d * frequency(m)). */
function sumsOfWaves(frequencies, length, logDecays = []) {
  const sums = new Float64Array(length);
  frequencies.forEach((frequency, m) => {
    const decay = logDecays[m] ?? 0;
    const [stepX, stepY] = [Math.exp(decay) * Math.cos(frequency), Math.exp(decay) * Math.sin(frequency)];
    let [x, y] = [0, 0];
    for (let d = 0; d < length; d++) {
      if (d % 256 === 0) {
        // A fresh start now and then: each step of the rotation below adds a rounding error.
        x = Math.exp(decay * d) * Math.cos(frequency * d);
        y = Math.exp(decay * d) * Math.sin(frequency * d);
      }
      sums[d] += x;
      const next = x * stepX - y * stepY;
      y = x * stepY + y * stepX;
      x = next;
    }
  });
  return sums;
}

/** The number of frequencies that turn, but less than once within the length. */
function unfinished(frequencies, length) {
  return frequencies.filter((frequency) => frequency > 0 && frequency * length < TURN).length;
}

/** The number of frequencies that reach angles in the shown length that those before had not in the trained one. */
function unseen(before, now, trained, shown) {
  const furthest = before.map((frequency) => frequency * trained * (1 + 1e-9));
  return now.filter((frequency, m) => furthest[m] < TURN && frequency * shown > furthest[m]).length;
}

/** The logarithm of what each pair of xPos keeps from token to token. */
function xposDecays(channels, scaleBase, gamma) {
  return range(channels / 2, (m) => Math.log(((2 * m) / channels + gamma) / (1 + gamma)) / scaleBase);
}

// Biases: for each head, an array over the distances 0, ..., length - 1

function biasOver(length, heads, at) {
  return range(heads, (head) => new Float64Array(length).map((_, d) => at(d, head)));
}

function alibiSlopes(heads, maxExponent) {
  const power = 2 ** Math.floor(Math.log2(heads));
  const exponents = range(power, (h) => (maxExponent * (h + 1)) / power);
  const between = range(power, (h) => (maxExponent * (2 * h + 1)) / (2 * power));
  return [...exponents, ...between].slice(0, heads).map((exponent) => 2 ** -exponent);
}

function t5Bucket(d, buckets, maxDistance) {
  const exact = buckets / 2;
  if (d < exact) return d;
  // In single precision, as the Python code: at an edge between two buckets the rounding decides.
  const share = Math.fround(Math.fround(Math.log(Math.fround(d / exact))) / Math.fround(Math.log(maxDistance / exact)));
  return Math.min(exact + Math.floor(Math.fround(share * exact)), buckets - 1);
}

/** A table for these buckets: means of a trained bias over distances (H arrays), as `T5Bias.fit` makes them. */
function t5Table(trained, buckets, maxDistance) {
  const counts = new Array(buckets).fill(0);
  const sums = trained.map(() => new Array(buckets).fill(0));
  trained[0].forEach((_, d) => {
    const bucket = t5Bucket(d, buckets, maxDistance);
    counts[bucket] += 1;
    trained.forEach((bias, head) => (sums[head][bucket] += bias[d]));
  });
  const known = [...counts.keys()].filter((bucket) => counts[bucket]);
  const nearest = (bucket) => known.reduce((a, b) => (Math.abs(b - bucket) < Math.abs(a - bucket) ? b : a));
  return sums.map((sum) => range(buckets, nearest).map((bucket) => sum[bucket] / counts[bucket]));
}

function sandwich(length, heads, dim, base) {
  const waves = sumsOfWaves(range(dim / 2, (m) => base ** ((-2 * (m + 1)) / dim)), length);
  return biasOver(length, heads, (d, head) => (waves[d] - dim / 2) / ((8 * (head + 1)) / heads));
}

/** The bias of one layer of FIRE for the last query of a text of this length. */
function fire({ c, threshold, weight, bias, output }, length) {
  const psi = (x) => Math.log1p(Math.abs(c * x));
  const furthest = psi(Math.max(length - 1, threshold)) + 1e-6;
  const curves = output.map(() => new Float64Array(length));
  for (let d = 0; d < length; d++) {
    const share = psi(d) / furthest;
    weight.forEach((w, unit) => {
      const hidden = Math.max(w * share + bias[unit], 0);
      curves.forEach((curve, head) => (curve[d] += output[head][unit] * hidden));
    });
  }
  return curves;
}

/** For each share, the number of nearest tokens that get it of the last token's attention if all contents are equal. */
function reach(bias, shares) {
  const highest = bias.reduce((a, b) => Math.max(a, b));
  let sum = 0;
  const sums = bias.map((logit) => (sum += Math.exp(logit - highest)));
  return shares.map((share) => sums.findIndex((upTo) => upTo >= share * sum) + 1);
}
