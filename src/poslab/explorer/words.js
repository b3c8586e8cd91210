"use strict";

// Numbers and sentences.

function number(x) {
  const whole = Number.isInteger(x) || Math.abs(x) >= 1000;
  const digits = whole ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 };
  return x.toLocaleString("en", digits).replace("-", "−");
}

const tokens = (count) => `${number(count)} tokens`;
const plural = (count, one, several) => (count === 1 ? one : several);

/** What follows from the waves of an encoding at the trained and at the shown length. */
function wavesFigures(encoding, k, m) {
  const [trained, shown] = [encoding.waves(k, m, m.trained), encoding.waves(k, m, m.shown)];
  const still = shown.still ?? 0;
  const pairs = shown.frequencies.length + still;
  const sums = sumsOfWaves(shown.frequencies, m.shown, shown.logDecays).map((sum) => sum + still);
  const similarity = sums.map((sum) => ((shown.logitFactor ?? 1) * sum) / pairs);
  // The bound on the base is one for encodings that only rotate queries and keys.
  const violation = encoding.absolute || shown.logDecays ? null : sums.findIndex((sum) => sum < 0);
  return { trained, shown, still, pairs, similarity, violation };
}

function wavesWords(encoding, { trained, shown, still, pairs, violation }, m) {
  const slow = unfinished(trained.frequencies, m.trained);
  const never = `${plural(slow, "completes", "complete")} a turn within the training length, ${tokens(m.trained)}`;
  const turning = `${number(pairs - still)} channel pairs${still ? " that rotate" : ""}`;
  const words = [`${number(slow)} of ${turning} never ${never}.`];
  if (still) words.push(`${plural(still, "1 pair is", `${still} pairs are`)} not rotated, without any position.`);
  if (m.shown > m.trained) words.push(newAngles(encoding, trained, shown, m));
  if (violation !== null) words.push(boundWords(violation, shown.base, m));
  if (shown.logitFactor) words.push(`All logits are multiplied by ${number(shown.logitFactor)}.`);
  if (shown.logDecays) {
    const kept = (decay) => `${number(100 * Math.exp(decay * (m.shown - 1)))}%`;
    const [fastest, slowest] = [kept(shown.logDecays[0]), kept(shown.logDecays.at(-1))];
    const distance = number(m.shown - 1);
    words.push(`At distance ${distance} the fastest pair keeps ${fastest} of its size, the slowest ${slowest}.`);
  }
  return words;
}

function newAngles(encoding, trained, shown, m) {
  if (encoding.absolute) return `Positions from ${number(m.trained)} on have vectors that training never showed.`;
  const count = (before, now) => unseen(before, now, m.trained, m.shown);
  if (shown.before) {
    const [without, within] = [shown.before, shown.frequencies].map((now) => count(shown.before, now));
    const meet = plural(without, "1 pair meets", `${without} pairs meet`);
    return `After training on ${tokens(m.trained)} without the scaling, ${meet} new angles in ${tokens(m.shown)}; ` +
      `with the scaling, ${within} ${plural(within, "does", "do")}.`;
  }
  const own = count(trained.frequencies, shown.frequencies);
  if (!own) return `Training has shown all angles: ${tokens(m.shown)} bring no new ones.`;
  const meet = plural(own, "that pair meets", `those ${own} pairs meet`);
  return `In ${tokens(m.shown)} ${meet} angles that training never showed.`;
}

function boundWords(violation, base, m) {
  const scores = (where, side) => `${where} a key like the query scores ${side} others on average.`;
  if (violation < 0) return `The base bound holds for ${tokens(m.shown)}: ${scores("at every distance", "above")}`;
  const fails = `The base bound fails for ${tokens(m.shown)}: ${scores(`at distance ${number(violation)}`, "below")}`;
  const trained = violation >= m.trained ? ` It holds for the training length, ${tokens(m.trained)}.` : "";
  const smallest = base && DATA.smallest_bases[m.headDim][m.shown];
  if (smallest === null) return `${fails}${trained} No base up to 10⁹ holds.`;
  const island = base >= smallest ? ", but some larger ones fail again" : "";
  return fails + trained + (smallest ? ` The smallest base that holds is ${number(smallest)}${island}.` : "");
}

function biasFigures(encoding, k, m) {
  const curves = encoding.bias(k, m);
  return { curves, reaches: curves.map((curve) => reach(curve, [0.5, 0.9])) };
}

function biasWords(encoding, figures, m) {
  const { curves } = figures;
  const reaches = figures.reaches.map(([half]) => half);
  const [least, most] = [Math.min(...reaches), Math.max(...reaches)];
  const nearest = (count) => plural(count, "the nearest token", `the nearest ${tokens(count)}`);
  const inHead = (count) => `${nearest(count)} in head ${reaches.indexOf(count) + 1}`;
  const heads = curves.length === 1 ? "" : " in every head";
  const where = least === most ? nearest(least) + heads : `${inHead(least)}, and to ${inHead(most)}`;
  const at = (d) => {
    const values = curves.map((curve) => curve[d]);
    const [low, high] = [Math.min(...values), Math.max(...values)].map(number);
    return low === high ? low : `${low} to ${high}`;
  };
  const farthest = Math.min(m.trained, m.shown) - 1;
  const training = m.shown < m.trained ? "" : ", the farthest in training,";
  const beyond = m.shown > m.trained ? `, and at ${number(m.shown - 1)} it is ${at(m.shown - 1)}` : "";
  return [
    `If all contents are equal, half of the attention of the last of ${tokens(m.shown)} goes to ${where}.`,
    `At distance ${number(farthest)}${training} the bias is ${at(farthest)}${beyond}.`,
  ];
}

function trainedWords({ command, steps, num_heads, length }) {
  const run = `${command} (${num_heads} heads, ${tokens(length)}), after ${number(steps)} steps`;
  return `The numbers come from one trained run: ${run}.`;
}
