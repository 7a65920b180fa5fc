/**
 * A report of an evaluation or a calibration, from its document.
 * @module
 */

import { lineChart } from "./charts.js";
import { el, facts, table } from "./dom.js";
import { plain } from "./statistics.js";
import { say } from "./strings.js";

/**
 * @typedef {object} Report
 * @property {string} title
 * @property {Record<string, unknown>} conditions
 * @property {{ text: string }[]} figures
 * @property {{ title: string, columns: string[], rows: unknown[][], note: string }[]} tables
 * @property {{ title: string, x_label: string, y_label: string, series: { label: string, x: number[], y: number[] }[], log_x: boolean, log_y: boolean, marks: [number, number, string][] }[]} charts
 * @property {string[]} notes
 */

/**
 * @param {Report} report
 * @returns {HTMLElement}
 */
export function reportOf(report) {
  const figures = report.figures.filter((figure) => figure.text).map((figure) => el("li", {}, figure.text));
  const charts = report.charts.map((chart) =>
    lineChart({
      title: chart.title,
      xLabel: chart.x_label,
      yLabel: chart.y_label,
      series: chart.series,
      logX: chart.log_x,
      logY: chart.log_y,
      marks: chart.marks,
    }),
  );
  const tables = report.tables.map((one) =>
    el(
      "div",
      {},
      table(
        one.title,
        one.columns,
        one.rows.map((row) => row.map(cell)),
      ),
      one.note ? el("p", { class: "soft" }, one.note) : null,
    ),
  );
  const conditions = facts(Object.entries(report.conditions).map(([name, value]) => [name, String(value)]));
  return el(
    "section",
    { class: "card" },
    el("h2", { tabindex: "-1" }, report.title),
    el("ul", {}, ...figures),
    ...charts,
    ...tables,
    ...report.notes.map((note) => el("p", { class: "soft" }, note)),
    el("details", {}, el("summary", {}, say("model.conditions")), conditions),
  );
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function cell(value) {
  if (value === null) return "–";
  return typeof value === "number" ? plain(value) : String(value);
}
