/**
 * Operation: what the service does now, its keys and its audit log.
 * @module
 */

/** @import { Session } from "../session.js" */
/** @import { Page } from "../app.js" */
/** @import { Sample } from "../metrics.js" */
import { lineChart } from "../charts.js";
import { el, facts, fill, table } from "../dom.js";
import { keysPanel } from "../keys.js";
import { histogram, parseMetrics, total, valuesOf } from "../metrics.js";
import { alertOf, attempt, moment } from "../notices.js";
import { plain, sum } from "../statistics.js";
import { say } from "../strings.js";

const EVERY_MS = 2000;
const KEPT = 90; // seconds of the chart are twice as many
const REQUESTS = "http_server_request_duration_seconds";
const STAGES = "vultus_stage_duration_seconds";
const RUNS = "vultus_inference_batch_size";

/** @typedef {{ at: number, metrics: Map<string, Sample[]> }} Reading */

/**
 * @param {Session} session
 * @returns {Page}
 */
export function operationPage(session) {
  const numbers = el("div");
  const drift = el("div");
  const audit = el("div");
  /** @type {Reading[]} */
  const readings = [];
  /** @type {number | undefined} */
  let timer;
  let left = false;
  if (session.may("metrics")) read();
  if (session.may("admin")) attempt(audit, () => showAudit(session, audit));
  return {
    element: el(
      "div",
      {},
      el("h1", {}, say("page.operation")),
      session.may("metrics") ? el("p", { class: "lead" }, say("operation.lead")) : null,
      numbers,
      drift,
      session.may("admin") ? keysPanel(session) : null,
      audit,
    ),
    leave: () => {
      left = true;
      clearTimeout(timer);
    },
  };

  async function read() {
    try {
      const response = await session.api.send("GET", "metrics");
      readings.push({
        at: performance.now() / 1000,
        metrics: parseMetrics(await response.text()),
      });
      if (readings.length > KEPT) readings.shift();
      fill(numbers, ...shown(readings));
      fill(drift, ...distributions(/** @type {Reading} */ (readings.at(-1)).metrics));
    } catch (error) {
      fill(numbers, alertOf(error), el("p", { class: "soft" }, say("operation.paused")));
    }
    if (!left) timer = setTimeout(read, EVERY_MS);
  }
}

/**
 * @param {ReadonlyArray<Reading>} readings
 * @returns {HTMLElement[]}
 */
function shown(readings) {
  const now = /** @type {Reading} */ (readings.at(-1));
  const before = readings.at(-6) ?? /** @type {Reading} */ (readings[0]);
  const seconds = now.at - before.at;
  /** @param {string} name @param {Record<string, string>} [labels] */
  const since = (name, labels) => total(now.metrics, name, labels) - total(before.metrics, name, labels);
  /** @param {string} name @param {Record<string, string>} labels @param {number} [factor] */
  const mean = (name, labels, factor = 1) => {
    const count = since(`${name}_count`, labels) || total(now.metrics, `${name}_count`, labels);
    const whole = since(`${name}_count`, labels)
      ? since(`${name}_sum`, labels)
      : total(now.metrics, `${name}_sum`, labels);
    return count ? plain((whole / count) * factor) : say("operation.none");
  };
  const stages = valuesOf(now.metrics, `${STAGES}_count`, "stage").map(
    (stage) => `${stage} ${mean(STAGES, { stage }, 1000)}`,
  );
  const batches = valuesOf(now.metrics, `${RUNS}_count`, "model").map((model) => `${model} ${mean(RUNS, { model })}`);
  const values = facts([
    [say("operation.rate"), seconds ? plain(since(`${REQUESTS}_count`) / seconds) : say("operation.none")],
    [say("operation.latency"), stages.join(", ") || say("operation.none")],
    [say("operation.batch"), batches.join(", ") || say("operation.none")],
    [say("operation.queue"), total(now.metrics, "vultus_queue_length")],
    [say("operation.refusals"), seconds ? plain(since("vultus_refusals_total") / seconds) : say("operation.none")],
    [say("operation.memory"), `${plain(total(now.metrics, "process_resident_memory_bytes") / 1e6)} MB`],
  ]);
  const rates = readings.slice(1).map((reading, at) => {
    const earlier = /** @type {Reading} */ (readings[at]);
    const count = total(reading.metrics, `${REQUESTS}_count`) - total(earlier.metrics, `${REQUESTS}_count`);
    return { x: reading.at - now.at, y: count / (reading.at - earlier.at) };
  });
  if (rates.length < 2) return [values];
  const series = [
    {
      label: "",
      x: rates.map((rate) => rate.x),
      y: rates.map((rate) => rate.y),
    },
  ];
  return [
    values,
    lineChart({
      title: say("operation.rate"),
      xLabel: "s",
      yLabel: "",
      series,
    }),
  ];
}

/**
 * @param {Map<string, Sample[]>} metrics
 * @returns {HTMLElement[]}
 */
function distributions(metrics) {
  const charts = [
    {
      title: say("operation.similarities"),
      name: "vultus_similarity",
      label: say("chart.similarity"),
    },
    {
      title: say("column.quality"),
      name: "vultus_face_quality",
      label: say("column.quality"),
    },
  ].flatMap(({ title, name, label }) => {
    const { ends, counts } = histogram(metrics, name);
    const all = sum(counts);
    if (!all) return [];
    const finite = ends
      .map((end, at) => ({ end, share: (counts[at] ?? 0) / all }))
      .filter(({ end }) => Number.isFinite(end));
    const series = [
      {
        label: "",
        x: finite.map(({ end }) => end),
        y: finite.map(({ share }) => share),
      },
    ];
    return [lineChart({ title, xLabel: label, yLabel: "", series })];
  });
  return charts.length ? [el("h2", {}, say("operation.drift")), ...charts] : [];
}

/**
 * @param {Session} session
 * @param {HTMLElement} place
 * @param {ReadonlyArray<Record<string, any>>} [earlier]
 * @returns {Promise<void>}
 */
async function showAudit(session, place, earlier = []) {
  const before = earlier.at(-1)?.["number"] ?? null;
  const found = await session.api.json("GET", "v1/audit", {
    query: { limit: 50, before },
  });
  const records = [...earlier, .../** @type {Record<string, any>[]} */ (found.records)];
  const rows = records.map((record) => [
    record["number"],
    moment(record["time"] * 1000),
    record["action"],
    (record["galleries"] ?? []).join(", "),
    record["key"],
    record["count"] ?? "",
  ]);
  const columns = [
    say("column.what"),
    say("column.time"),
    say("column.action"),
    say("column.gallery"),
    say("column.actor"),
    say("column.count"),
  ];
  const more = el("button", { type: "button" }, say("operation.older"));
  more.addEventListener("click", () => showAudit(session, place, records));
  fill(
    place,
    el("h2", {}, say("operation.audit")),
    table(say("operation.audit"), columns, rows, new Set([0, 5])),
    found.next === null ? null : more,
  );
}
