/**
 * Model: what runs, its calibration as curves, its parity, and reports.
 * @module
 */

/** @import { Distribution, Point } from "../types.js" */
/** @import { Session } from "../session.js" */
/** @import { Page } from "../app.js" */
import { Problem } from "../api.js";
import { lineChart, similarityChart } from "../charts.js";
import { el, facts, fill, table } from "../dom.js";
import { attempt, moment } from "../notices.js";
import { reportOf } from "../report.js";
import { detectionErrorTradeoff, percent, plain } from "../statistics.js";
import { say } from "../strings.js";

/** @typedef {{ engine: string, version: string, precision: string, threads: number, streams: number }} Running */
/** @typedef {{ name: string, pack: string | null, licence: string, training_data: string, session: Running }} Model */

/**
 * @param {Session} session
 * @returns {Page}
 */
export function modelPage(session) {
  const running = el("div");
  const calibration = el("div");
  const parity = el("div");
  const reports = el("div");
  const report = el("div");
  attempt(running, showRunning);
  attempt(calibration, showCalibration);
  attempt(parity, showParity);
  if (session.may("read")) attempt(reports, showReports);
  return {
    element: el(
      "div",
      {},
      el("h1", {}, say("page.model")),
      el("p", { class: "lead" }, say("model.lead")),
      running,
      calibration,
      parity,
      reports,
      report,
    ),
    leave: () => {},
  };

  async function showRunning() {
    const info = await session.api.json("GET", "v1/info");
    /** @param {Model} model */
    const described = (model) =>
      el(
        "span",
        {},
        `${model.name}${model.pack ? ` (${model.pack})` : ""}. `,
        say("model.session", model.session),
        el("br"),
        el(
          "span",
          { class: "soft" },
          say("model.licence", {
            licence: model.licence,
            data: model.training_data,
          }),
        ),
      );
    const tuning = info.tuning
      ? say("model.tuned", {
          time: moment(info.tuning.measured_at),
          machine: info.tuning.machine.cpu,
        })
      : info.untuned_because;
    fill(
      running,
      el("h2", {}, say("model.running")),
      facts([
        [say("model.recognizer"), described(info.recognizer)],
        [say("model.detector"), described(info.detector)],
        [say("model.contract"), info.contract_id],
        [say("model.tuning"), tuning ?? "–"],
      ]),
    );
  }

  async function showCalibration() {
    let found;
    try {
      found = await session.api.json("GET", "v1/calibration");
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "calibration_unfit") throw error;
      fill(calibration, el("p", { class: "note" }, say("model.uncalibrated", { reason: error.message })));
      return;
    }
    const points = /** @type {Point[]} */ (found.operating_points);
    const distribution = /** @type {Distribution | null} */ (found.distribution);
    const chosen = () => session.point ?? found.default_operating_point;
    const charts = el("div");
    const draw = () =>
      fill(
        charts,
        ...(distribution
          ? curves(distribution, points, chosen())
          : [el("p", { class: "note" }, say("model.no_distribution"))]),
      );
    draw();
    const rows = points.map((point) => {
      const radio = el("input", {
        type: "radio",
        name: "point",
        checked: point.name === chosen(),
        "aria-label": say("model.use", { name: point.name }),
      });
      radio.addEventListener("change", () => {
        session.point = point.name;
        draw();
      });
      return [
        el("label", {}, radio, " ", point.name),
        say("model.one_in", { count: plain(1 / point.rate) }),
        point.threshold.toFixed(3),
        percent(point.fnmr),
      ];
    });
    const columns = [say("column.name"), say("column.rate"), say("column.threshold"), say("column.fnmr")];
    const quality = found.quality;
    fill(
      calibration,
      el("h2", {}, say("model.points")),
      el("p", { class: "soft" }, say("model.points_lead")),
      found.mismatch ? el("p", { class: "note" }, say("model.mismatch", { reason: found.mismatch })) : null,
      el(
        "fieldset",
        {},
        el("legend", {}, say("model.points")),
        table(say("model.points"), columns, rows, new Set([1, 2, 3])),
      ),
      el("p", { class: "soft" }, say("verify.measured_on", { set: points[0]?.measured_on ?? "" })),
      charts,
      discard(quality.evidence),
      el(
        "p",
        { class: quality.validated ? "good" : "unsure" },
        quality.validated ? say("model.quality_good") : say("model.quality_bad", { reason: quality.because ?? "" }),
      ),
      el(
        "details",
        {},
        el("summary", {}, say("model.conditions")),
        facts(Object.entries(found.conditions).map(([name, value]) => [name, String(value)])),
      ),
    );
  }

  async function showParity() {
    let found;
    try {
      found = await session.api.json("GET", "v1/parity");
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return;
      throw error;
    }
    const rows = /** @type {Record<string, any>[]} */ (found.rows).map((row) => [
      row["precision"],
      row["engine"],
      row["worst_cosine"]?.toFixed(6) ?? "–",
      plain(row["worst_relative_l2"]),
      yesOrNo(row["passed"]),
      yesOrNo(row["runs"]),
    ]);
    const columns = [
      say("column.precision"),
      say("column.engine"),
      say("column.cosine"),
      say("column.l2"),
      say("column.passed"),
      say("column.runs"),
    ];
    fill(parity, el("h2", {}, say("model.parity")), table(say("model.parity"), columns, rows, new Set([2, 3])));
  }

  async function showReports() {
    const found = await session.api.json("GET", "v1/reports");
    const rows = /** @type {{ name: string, title: string | null, written: string }[]} */ (found.reports).map((one) => {
      if (one.title === null) return [say("model.damaged_report"), moment(one.written)];
      const open = el(
        "button",
        {
          type: "button",
          "aria-label": say("model.open_report", { name: one.title }),
        },
        one.title,
      );
      open.addEventListener("click", () =>
        attempt(report, async () => {
          const content = await session.api.json("GET", `v1/reports/${encodeURIComponent(one.name)}`);
          fill(report, ...content.evaluations.map(reportOf));
          report.querySelector("h2")?.focus();
        }),
      );
      return [open, moment(one.written)];
    });
    const columns = [say("column.report"), say("column.time")];
    const shown = rows.length
      ? table(say("model.reports"), columns, rows)
      : el("p", { class: "soft" }, say("model.no_reports"));
    fill(reports, el("h2", {}, say("model.reports")), shown);
  }
}

/**
 * @param {boolean} value
 * @returns {string}
 */
function yesOrNo(value) {
  return say(value ? "app.yes" : "app.no");
}

/**
 * @param {Distribution} distribution
 * @param {Point[]} points
 * @param {string} chosen
 * @returns {HTMLElement[]}
 */
function curves(distribution, points, chosen) {
  const { fmr, fnmr } = detectionErrorTradeoff(distribution);
  const tradeoff = lineChart({
    title: say("model.det"),
    xLabel: say("model.fmr"),
    yLabel: say("model.fnmr"),
    series: [{ label: "", x: fmr, y: fnmr }],
    logX: true,
    logY: true,
    marks: points.map((point) => [point.rate, point.fnmr, point.name]),
  });
  const point = points.find((one) => one.name === chosen) ?? null;
  return [tradeoff, similarityChart(distribution, point, null, say("model.histogram"))];
}

/**
 * @param {ReadonlyArray<{ kind: string, curve: { discarded: number[], fnmr: (number | null)[] } | null }>} evidence
 * @returns {HTMLElement | null}
 */
function discard(evidence) {
  const series = evidence.flatMap(({ kind, curve }) =>
    curve
      ? [
          {
            label: kind,
            x: curve.discarded,
            y: curve.fnmr.map((rate) => rate ?? NaN),
          },
        ]
      : [],
  );
  if (!series.length) return null;
  return lineChart({
    title: say("model.discard"),
    xLabel: say("model.discarded"),
    yLabel: say("model.fnmr"),
    series,
  });
}
