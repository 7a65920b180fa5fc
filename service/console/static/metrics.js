/**
 * The text format of Prometheus.
 * @module
 */

/** @typedef {{ labels: Record<string, string>, value: number }} Sample */

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

/**
 * Return the samples by the name of their metric.
 * @param {string} text
 * @returns {Map<string, Sample[]>}
 */
export function parseMetrics(text) {
  /** @type {Map<string, Sample[]>} */
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map((label) => [label[1], label[2]]));
    const samples = found.get(String(match[1])) ?? [];
    samples.push({ labels, value: Number(match[3]) });
    found.set(String(match[1]), samples);
  }
  return found;
}

/**
 * Return the sum of the samples of a metric, of those with some labels.
 * @param {Map<string, Sample[]>} metrics
 * @param {string} name
 * @param {Record<string, string>} [labels]
 * @returns {number}
 */
export function total(metrics, name, labels = {}) {
  return (metrics.get(name) ?? [])
    .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
    .reduce((sum, sample) => sum + sample.value, 0);
}

/**
 * Return the values of a label.
 * @param {Map<string, Sample[]>} metrics
 * @param {string} name
 * @param {string} label
 * @returns {string[]}
 */
export function valuesOf(metrics, name, label) {
  return [...new Set((metrics.get(name) ?? []).map((sample) => sample.labels[label] ?? ""))];
}

/**
 * Return the counts of a histogram by the upper ends of its buckets.
 * @param {Map<string, Sample[]>} metrics
 * @param {string} name Name without `_bucket`.
 * @param {Record<string, string>} [labels]
 * @returns {{ ends: number[], counts: number[] }}
 */
export function histogram(metrics, name, labels = {}) {
  const wanted = (metrics.get(`${name}_bucket`) ?? []).filter((sample) =>
    Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  /** @type {Map<number, number>} */
  const below = new Map();
  for (const { labels: found, value } of wanted) {
    const end = found["le"] === "+Inf" ? Infinity : Number(found["le"]);
    below.set(end, (below.get(end) ?? 0) + value);
  }
  const ends = [...below.keys()].sort((one, other) => one - other);
  const counts = ends.map(
    (end, at) => (below.get(end) ?? 0) - (at ? (below.get(/** @type {number} */ (ends[at - 1])) ?? 0) : 0),
  );
  return { ends, counts };
}
