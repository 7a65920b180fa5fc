/**
 * Verify: two photos, and what their similarity means.
 * @module
 */

/** @import { Calibration, Face, Point, Verification } from "../types.js" */
/** @import { Session } from "../session.js" */
/** @import { Page } from "../app.js" */
import { stagesOf } from "../api.js";
import { similarityChart } from "../charts.js";
import { el, facts, field, fill, select } from "../dom.js";
import { attempt } from "../notices.js";
import { pointChoice } from "../points.js";
import { reasonsOf, Side } from "../side.js";
import { percent, plain, probability, strangersAbove } from "../statistics.js";
import { say } from "../strings.js";

const FEW = 10; // comparisons, from which no rate is told
const COMMON = 0.1; // share of strangers, above which it is told as such
const PRIORS = [0.5, 0.1, 0.01, 0.001, 0.0001];

/**
 * @param {Session} session
 * @returns {Page}
 */
export function verifyPage(session) {
  const probe = new Side(session, say("verify.probe"));
  const reference = new Side(session, say("verify.reference"));
  const points = pointChoice(session, compare);
  const verdict = el("div", { "aria-live": "polite" }, el("p", { class: "soft" }, say("verify.waiting")));
  const outcome = el("div");
  /** @type {Calibration | null} */
  let calibration = null;
  let prior = 0.5;
  let running = new AbortController();
  let hasFailed = false;

  for (const side of [probe, reference]) side.changed = compare;
  document.addEventListener("paste", paste);
  return {
    element: el(
      "div",
      {},
      el("h1", {}, say("page.verify")),
      el("p", { class: "lead" }, say("verify.lead")),
      points.element,
      verdict,
      el("div", { class: "sides" }, probe.element, reference.element),
      outcome,
    ),
    resume: () => {
      const failed = [probe, reference].filter((side) => side.hasFailed);
      for (const side of failed) side.retry();
      if (!failed.length && hasFailed) compare();
    },
    leave: () => {
      document.removeEventListener("paste", paste);
      running.abort();
      for (const side of [probe, reference]) side.leave();
    },
  };

  /** @param {ClipboardEvent} event */
  function paste(event) {
    const pasted = event.clipboardData?.files[0];
    if (pasted) (probe.file && !reference.file ? reference : probe).set(pasted);
  }

  async function compare() {
    running.abort();
    running = new AbortController();
    fill(outcome);
    const sees = session.may("embed") || session.may("detect");
    if (!probe.file || !reference.file || (sees && (!probe.face || !reference.face))) {
      fill(verdict, el("p", { class: "soft" }, say("verify.waiting")));
      return;
    }
    const { signal } = running;
    hasFailed = !(await attempt(verdict, async () => {
      fill(verdict, el("p", { class: "soft" }, say("verify.comparing")));
      const response = await session.api.send("POST", "v1/verify", { ...request(), signal });
      /** @type {Verification} */
      const answer = await response.json();
      calibration = await points.calibration;
      if (signal.aborted) return;
      const stages = [...probe.stages, ...reference.stages, ...stagesOf(response)];
      show(answer, stages, [answer.probe ?? probe.face, answer.reference ?? reference.face]);
    }));
  }

  function request() {
    const chosen = session.point ? { operating_point: session.point } : {};
    if (probe.embedding && reference.embedding) {
      return {
        json: {
          probe: { embedding: probe.embedding },
          reference: { embedding: reference.embedding },
          ...chosen,
        },
      };
    }
    const form = new FormData();
    if (probe.file) form.append("probe", probe.file);
    if (reference.file) form.append("reference", reference.file);
    form.append("faces", "largest");
    if (session.point) form.append("operating_point", session.point);
    return { form };
  }

  /**
   * @param {Verification} answer
   * @param {[string, number][]} stages
   * @param {(Face | null)[]} faces
   */
  function show(answer, stages, faces) {
    const measured = !faces.some((face) => face?.reasons.includes("low_quality"));
    const decided = answer.operating_point;
    const threshold = decided ? decided.threshold.toFixed(3) : "–";
    const similarity = say("verify.similarity", { value: answer.similarity.toFixed(3), threshold });
    fill(
      verdict,
      el(
        "section",
        { class: "card" },
        el("p", { class: `verdict ${kindOf(answer.decision)}` }, verdictOf(answer.decision)),
        el("p", {}, similarity),
        el("p", {}, measured ? strangers(answer.similarity) : say("verify.unmeasured")),
        // The faces of the page show their reasons themselves.
        ...(probe.face ? [] : faces.flatMap((face) => (face ? reasonsOf(face) : []))),
      ),
    );
    const chart = calibration?.distribution
      ? similarityChart(calibration.distribution, decided, answer.similarity, say("verify.chart"))
      : null;
    const measuredOn = decided ? say("verify.measured_on", { set: decided.measured_on }) : answer.uncalibrated_because;
    const times = facts(summed(stages).map(([stage, ms]) => [stage, ms.toFixed(1)]));
    fill(
      outcome,
      chart,
      ...(decided ? meaningOf(decided, answer.similarity) : []),
      answer.log_likelihood_ratio !== null && measured ? odds(answer.log_likelihood_ratio, answer.similarity) : null,
      el("p", { class: "soft" }, measuredOn),
      stages.length ? el("details", {}, el("summary", {}, say("verify.times")), times) : null,
    );
  }

  /**
   * @param {number} ratio
   * @param {number} similarity
   * @returns {HTMLElement}
   */
  function odds(ratio, similarity) {
    const after = el("strong");
    const [last] = calibration?.score_map.knots.at(-1) ?? [1];
    const text = similarity < last ? "verify.probability" : "verify.probability_least";
    const update = () => fill(after, say(text, { value: percent(probability(ratio, prior)) }));
    const choices = PRIORS.map((one) => {
      const text = one === 0.5 ? say("verify.prior_even") : say("verify.prior_one_in", { count: plain(1 / one) });
      return /** @type {const} */ ([String(one), text]);
    });
    const choose = select(choices, String(prior), (chosen) => {
      prior = Number(chosen);
      update();
    });
    update();
    return el("div", { class: "row" }, field(say("verify.prior"), choose), after);
  }

  /**
   * @param {number} similarity
   * @returns {string}
   */
  function strangers(similarity) {
    if (!calibration?.distribution) return "";
    const { share, count } = strangersAbove(calibration.distribution, similarity);
    const reached = Math.round(share * count);
    if (reached < FEW) return say("verify.stranger_few", { count: plain(count), reached });
    if (share > COMMON) return say("verify.strangers", { share: percent(share) });
    return say("verify.stranger", { count: plain(Math.round(1 / share)) });
  }
}

/**
 * Return what an operating point promises, and whether this decision is close.
 * @param {Point} point
 * @param {number} similarity
 * @returns {HTMLElement[]}
 */
function meaningOf(point, similarity) {
  const [low = 0, high = 0] = point.threshold_interval;
  const close = similarity >= low && similarity < high;
  return [
    el("p", {}, say("verify.promise", { count: plain(1 / point.rate), share: percent(point.fnmr) })),
    el(
      "p",
      { class: close ? "unsure" : "soft" },
      say("verify.interval", { low: low.toFixed(3), high: high.toFixed(3) }),
    ),
  ];
}

/**
 * @param {string | null} decision
 * @returns {string}
 */
function kindOf(decision) {
  return decision === "match" ? "good" : decision === "no_match" ? "bad" : "unsure";
}

/**
 * @param {string | null} decision
 * @returns {string}
 */
function verdictOf(decision) {
  if (decision === "match") return say("verify.match");
  if (decision === "no_match") return say("verify.no_match");
  return decision === null ? say("verify.no_decision") : say("verify.inconclusive");
}

/**
 * Return the sum of the times of each stage.
 * @param {[stage: string, ms: number][]} stages
 * @returns {[stage: string, ms: number][]}
 */
function summed(stages) {
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const [stage, ms] of stages) times.set(stage, (times.get(stage) ?? 0) + ms);
  return [...times];
}
