/**
 * What a similarity means, from the calibration of the model.
 * @module
 */

/** @import { Distribution } from "./types.js" */

/**
 * Return the middle of each bin of a distribution over [-1, 1].
 * @param {ReadonlyArray<number>} counts
 * @returns {number[]}
 */
export function centres(counts) {
  return counts.map((_, at) => -1 + ((at + 0.5) * 2) / counts.length);
}

/**
 * Return the share of comparisons of strangers that reach a similarity, and how many comparisons there were.
 * @param {Distribution} distribution
 * @param {number} similarity
 * @returns {{ share: number, count: number }}
 */
export function strangersAbove(distribution, similarity) {
  const counts = distribution.non_mated;
  const position = ((similarity + 1) / 2) * counts.length;
  const total = sum(counts);
  let above = sum(counts.slice(Math.max(0, Math.ceil(position))));
  const bin = Math.floor(position);
  if (bin >= 0 && bin < counts.length) above += (counts[bin] ?? 0) * (Math.ceil(position) - position);
  return { share: Math.min(1, above / total), count: total };
}

/**
 * Return the curve of false match and false non-match rates over all thresholds.
 * @param {Distribution} distribution
 * @returns {{ fmr: number[], fnmr: number[] }}
 */
export function detectionErrorTradeoff(distribution) {
  const strangers = sum(distribution.non_mated);
  const mates = sum(distribution.mated);
  /** @type {number[]} */
  const fmr = [];
  /** @type {number[]} */
  const fnmr = [];
  let above = strangers;
  let below = 0;
  distribution.non_mated.forEach((count, at) => {
    if (above > 0 && below > 0) {
      fmr.push(above / strangers);
      fnmr.push(below / mates);
    }
    above -= count;
    below += distribution.mated[at] ?? 0;
  });
  return { fmr, fnmr };
}

/**
 * Return the probability of the same person.
 * @param {number} logLikelihoodRatio
 * @param {number} prior
 * @returns {number}
 */
export function probability(logLikelihoodRatio, prior) {
  return 1 / (1 + Math.exp(-(logLikelihoodRatio + Math.log(prior / (1 - prior)))));
}

/**
 * Return a number for people: few digits, groups of thousands.
 * @param {number} value
 * @returns {string}
 */
export function plain(value) {
  if (!Number.isFinite(value)) return "–";
  if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(1);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toLocaleString("en", {
    maximumSignificantDigits: Math.abs(value) >= 100 ? 6 : 3,
  });
}

/**
 * Return a share as percent.
 * @param {number} share
 * @returns {string}
 */
export function percent(share) {
  const hundredth = share * 100;
  if (hundredth > 0 && hundredth < 0.001) return `${hundredth.toExponential(1)} %`;
  return `${hundredth.toLocaleString("en", { maximumSignificantDigits: hundredth > 99 ? 4 : 3 })} %`;
}

/**
 * @param {ReadonlyArray<number>} values
 * @returns {number}
 */
export function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
