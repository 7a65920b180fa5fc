/**
 * Operation: what the service does now, its keys and its audit log.
 * @module
 */

/** @import { Session } from "../session.js" */
/** @import { Page } from "../app.js" */
/** @import { Reading } from "../load.js" */
/** @import { Distribution } from "../types.js" */
import { el, fill, table } from "../dom.js";
import { keysPanel } from "../keys.js";
import { driftOf, loadOf } from "../load.js";
import { parseMetrics } from "../metrics.js";
import { alertOf, attempt, moment } from "../notices.js";
import { say } from "../strings.js";

const EVERY_MS = 2000;
const KEPT = 90; // seconds of the chart are twice as many

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
  /** @type {Distribution | null} */
  let calibrated = null;
  if (session.may("metrics")) {
    read();
    session.api.json("GET", "v1/calibration").then(
      (found) => {
        calibrated = found.distribution;
      },
      () => {}, // without a calibration, the distributions are shown alone
    );
  }
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
    if (session.isRefused) {
      timer = setTimeout(read, EVERY_MS);
      return;
    }
    try {
      const response = await session.api.send("GET", "metrics");
      readings.push({
        at: performance.now() / 1000,
        metrics: parseMetrics(await response.text()),
      });
      if (readings.length > KEPT) readings.shift();
      fill(numbers, ...loadOf(readings));
      fill(drift, ...driftOf(/** @type {Reading} */ (readings.at(-1)).metrics, calibrated));
    } catch (error) {
      fill(numbers, alertOf(error), el("p", { class: "soft" }, say("operation.paused")));
    }
    if (!left) timer = setTimeout(read, EVERY_MS);
  }
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
    say("column.number"),
    say("column.time"),
    say("column.action"),
    say("column.gallery"),
    say("column.actor"),
    say("column.count"),
  ];
  const said = el("div", { role: "status" });
  const more = el("button", { type: "button" }, say("operation.older"));
  more.addEventListener("click", () => attempt(said, () => showAudit(session, place, records)));
  fill(
    place,
    el("h2", {}, say("operation.audit")),
    table(say("operation.audit"), columns, rows, new Set([0, 5])),
    said,
    found.next === null ? null : more,
  );
}
