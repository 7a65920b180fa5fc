/**
 * What the service does now, and how its similarities lie beside those of the calibration, from its metrics.
 * @module
 */

/** @import { Sample } from "./metrics.js" */
/** @import { Distribution } from "./types.js" */
import { lineChart } from "./charts.js";
import { el, facts } from "./dom.js";
import { histogram, total, valuesOf } from "./metrics.js";
import { centres, percent, plain, sum } from "./statistics.js";
import { say } from "./strings.js";

const REQUESTS = "http_server_request_duration_seconds";
const STAGES = "vultus_stage_duration_seconds";
const RUNS = "vultus_inference_batch_size";
const BETWEEN = "vultus_verifications_between_thresholds_total";
const WINDOW = 6; // readings of the means

/** @typedef {{ at: number, metrics: Map<string, Sample[]> }} Reading A moment in seconds, and the metrics then. */

/**
 * Return the load of the last seconds, and the requests per second over time.
 * @param {ReadonlyArray<Reading>} readings At least one, in the order of time.
 * @returns {HTMLElement[]}
 */
export function loadOf(readings) {
  const now = /** @type {Reading} */ (readings.at(-1));
  const before = readings.at(-WINDOW) ?? /** @type {Reading} */ (readings[0]);
  const seconds = now.at - before.at;
  /** @param {string} name @param {Record<string, string>} [labels] */
  const since = (name, labels) => Math.max(0, total(now.metrics, name, labels) - total(before.metrics, name, labels));
  /** @param {string} name */
  const rate = (name) => (seconds ? plain(since(name) / seconds) : say("operation.none"));
  /** @param {string} name @param {Record<string, string>} labels @param {number} [factor] */
  const mean = (name, labels, factor = 1) => {
    const recent = since(`${name}_count`, labels);
    const count = recent || total(now.metrics, `${name}_count`, labels);
    const whole = recent ? since(`${name}_sum`, labels) : total(now.metrics, `${name}_sum`, labels);
    return count ? plain((whole / count) * factor) : say("operation.none");
  };
  const stages = valuesOf(now.metrics, `${STAGES}_count`, "stage").map(
    (stage) => `${stage} ${mean(STAGES, { stage }, 1000)}`,
  );
  const batches = valuesOf(now.metrics, `${RUNS}_count`, "model").map((model) => `${model} ${mean(RUNS, { model })}`);
  const values = facts([
    [say("operation.rate"), rate(`${REQUESTS}_count`)],
    [say("operation.latency"), stages.join(", ") || say("operation.none")],
    [say("operation.batch"), batches.join(", ") || say("operation.none")],
    [say("operation.admitted"), inUse(now.metrics)],
    [say("operation.queue"), total(now.metrics, "vultus_queue_length")],
    [say("operation.refusals"), rate("vultus_requests_refused_total")],
  ]);
  return readings.length < 3 ? [values] : [values, rateChart(readings)];
}

/**
 * Return the distributions of similarity and quality since the start, beside the calibration.
 * @param {Map<string, Sample[]>} metrics
 * @param {Distribution | null} calibrated
 * @returns {HTMLElement[]}
 */
export function driftOf(metrics, calibrated) {
  const similarities = histogram(metrics, "vultus_similarity");
  const qualities = histogram(metrics, "vultus_face_quality");
  const shown = [];
  if (sum(similarities.counts)) {
    const series = [seriesOf(similarities.ends, similarities.counts, say("operation.here"))];
    if (calibrated) {
      series.push(
        seriesOf(similarities.ends, regrouped(calibrated.mated, similarities.ends), say("operation.mated")),
        seriesOf(similarities.ends, regrouped(calibrated.non_mated, similarities.ends), say("operation.non_mated")),
      );
    }
    shown.push(
      lineChart({
        title: say("operation.similarities"),
        xLabel: say("chart.similarity"),
        yLabel: say("operation.share"),
        series,
      }),
      ...betweenThresholds(metrics),
    );
  }
  if (sum(qualities.counts)) {
    const mean = total(metrics, "vultus_face_quality_sum") / total(metrics, "vultus_face_quality_count");
    shown.push(
      lineChart({
        title: say("operation.qualities"),
        xLabel: say("column.quality"),
        yLabel: say("operation.share"),
        series: [seriesOf(qualities.ends, qualities.counts, "")],
      }),
      el("p", {}, say("operation.mean_quality", { value: plain(mean) })),
    );
  }
  return shown.length ? [el("h2", {}, say("operation.drift")), ...shown] : [];
}

/**
 * @param {Map<string, Sample[]>} metrics
 * @returns {string}
 */
function inUse(metrics) {
  const taken = total(metrics, "vultus_requests_admitted");
  return say("operation.of", { taken, places: total(metrics, "vultus_admission_places") });
}

/**
 * @param {ReadonlyArray<Reading>} readings
 * @returns {HTMLElement}
 */
function rateChart(readings) {
  const now = /** @type {Reading} */ (readings.at(-1));
  const rates = readings.slice(1).map((reading, at) => {
    const earlier = /** @type {Reading} */ (readings[at]);
    const count = total(reading.metrics, `${REQUESTS}_count`) - total(earlier.metrics, `${REQUESTS}_count`);
    return { x: reading.at - now.at, y: Math.max(0, count) / (reading.at - earlier.at) }; // counters begin anew with the service
  });
  const series = [{ label: "", x: rates.map((rate) => rate.x), y: rates.map((rate) => rate.y) }];
  const title = say("operation.rate");
  return lineChart({ title, xLabel: say("operation.seconds"), yLabel: say("operation.rate"), series });
}

/**
 * @param {Map<string, Sample[]>} metrics
 * @returns {HTMLElement[]}
 */
function betweenThresholds(metrics) {
  const verified = total(metrics, "vultus_verifications_total");
  if (!verified) return [];
  const here = percent(total(metrics, BETWEEN) / verified);
  const calibrated = percent(total(metrics, "vultus_calibrated_share_between_thresholds"));
  return [el("p", {}, say("operation.between", { here, calibrated }))];
}

/**
 * Return the share of each bucket, at its upper end.
 * @param {ReadonlyArray<number>} ends
 * @param {ReadonlyArray<number>} counts
 * @param {string} label
 * @returns {{ label: string, x: number[], y: number[] }}
 */
function seriesOf(ends, counts, label) {
  const all = sum(counts);
  const finite = ends.map((end, at) => [end, (counts[at] ?? 0) / all]).filter(([end]) => Number.isFinite(end));
  return { label, x: finite.map(([end]) => end ?? 0), y: finite.map(([, share]) => share ?? 0) };
}

/**
 * Return how many comparisons of the calibration are in each bucket.
 * @param {ReadonlyArray<number>} counts
 * @param {ReadonlyArray<number>} ends
 * @returns {number[]}
 */
function regrouped(counts, ends) {
  const middles = centres(counts);
  return ends.map((end, at) => {
    const begin = ends[at - 1] ?? -Infinity;
    return sum(counts.filter((_, bin) => (middles[bin] ?? 0) > begin && (middles[bin] ?? 0) <= end));
  });
}
