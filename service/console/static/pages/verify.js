/**
 * Verify: two photos, and what their similarity means.
 * @module
 */

/** @import { Distribution, Face, Point, Verification } from "../types.js" */
/** @import { Session } from "../session.js" */
/** @import { Page } from "../app.js" */
import { stagesOf } from "../api.js";
import { similarityChart } from "../charts.js";
import { el, facts, field, fill, select } from "../dom.js";
import { attempt } from "../notices.js";
import { reasonsOf, Side } from "../side.js";
import { percent, plain, probability, strangersAbove } from "../statistics.js";
import { say } from "../strings.js";

const FEW = 10; // comparisons, from which no rate is told
const PRIORS = [0.5, 0.1, 0.01, 0.001, 0.0001];

/**
 * @param {Session} session
 * @returns {Page}
 */
export function verifyPage(session) {
  const probe = new Side(session, say("verify.probe"));
  const reference = new Side(session, say("verify.reference"));
  const options = el("div", { class: "row" });
  const outcome = el("div", { "aria-live": "polite" }, el("p", { class: "soft" }, say("verify.waiting")));
  /** @type {{ default_operating_point: string, operating_points: Point[], distribution: Distribution | null } | null} */
  let calibration = null;
  let point = session.point;
  let prior = 0.5;
  let running = new AbortController();

  for (const side of [probe, reference]) side.changed = compare;
  document.addEventListener("paste", paste);
  session.api
    .json("GET", "v1/calibration")
    .then((found) => {
      calibration = found;
      point = session.point ?? found.default_operating_point;
      const points = /** @type {Point[]} */ (found.operating_points);
      const choices = points.map(
        (one) => /** @type {const} */ ([one.name, say("verify.rate", { count: plain(1 / one.rate), name: one.name })]),
      );
      const choose = select(choices, point ?? "", (chosen) => {
        point = chosen;
        compare();
      });
      fill(options, field(say("verify.point"), choose));
    })
    .catch(() => {}); // without a calibration there are similarities only, and the answer says why
  return {
    element: el(
      "div",
      {},
      el("h1", {}, say("page.verify")),
      el("p", { class: "lead" }, say("verify.lead")),
      options,
      el("div", { class: "sides" }, probe.element, reference.element),
      outcome,
    ),
    leave: () => {
      document.removeEventListener("paste", paste);
      running.abort();
      for (const side of [probe, reference]) side.clear(false);
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
    const sees = session.may("embed") || session.may("detect");
    if (!probe.file || !reference.file || (sees && (!probe.face || !reference.face))) {
      fill(outcome, el("p", { class: "soft" }, say("verify.waiting")));
      return;
    }
    const { signal } = running;
    await attempt(outcome, async () => {
      const response = await session.api.send("POST", "v1/verify", {
        ...request(),
        signal,
      });
      /** @type {Verification} */
      const answer = await response.json();
      const stages = [...probe.stages, ...reference.stages, ...stagesOf(response)];
      show(answer, stages, [answer.probe ?? probe.face, answer.reference ?? reference.face]);
    });
  }

  function request() {
    const chosen = point ? { operating_point: point } : {};
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
    if (point) form.append("operating_point", point);
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
    const [low, high] = [decided?.threshold_interval[0] ?? 0, decided?.threshold_interval[1] ?? 0];
    const close = decided !== null && answer.similarity >= low && answer.similarity < high;
    const threshold = decided ? decided.threshold.toFixed(3) : "–";
    const reasons = faces.flatMap((face) => (face ? reasonsOf(face) : []));
    const verdict = el("p", { class: `verdict ${kindOf(answer.decision)}` }, verdictOf(answer.decision));
    const card = el(
      "section",
      { class: "card" },
      verdict,
      el(
        "p",
        {},
        say("verify.similarity", {
          value: answer.similarity.toFixed(3),
          threshold,
        }),
      ),
      el("p", {}, measured ? strangers(answer.similarity) : say("verify.unmeasured")),
      decided &&
        el(
          "p",
          { class: close ? "unsure" : "soft" },
          say("verify.interval", {
            low: low.toFixed(3),
            high: high.toFixed(3),
          }),
        ),
      decided && el("p", { class: "soft" }, say("verify.missed", { share: percent(decided.fnmr) })),
      ...reasons,
      answer.log_likelihood_ratio !== null && measured ? odds(answer.log_likelihood_ratio) : null,
    );
    const chart = calibration?.distribution
      ? similarityChart(calibration.distribution, decided, answer.similarity, say("verify.chart"))
      : null;
    const measuredOn = decided ? say("verify.measured_on", { set: decided.measured_on }) : answer.uncalibrated_because;
    const times = facts(summed(stages).map(([stage, ms]) => [stage, ms.toFixed(1)]));
    fill(
      outcome,
      card,
      chart,
      el("p", { class: "soft" }, measuredOn),
      stages.length ? el("details", {}, el("summary", {}, say("verify.times")), times) : null,
    );
  }

  /**
   * @param {number} ratio
   * @returns {HTMLElement}
   */
  function odds(ratio) {
    const after = el("strong");
    const update = () =>
      fill(
        after,
        say("verify.probability", {
          value: percent(probability(ratio, prior)),
        }),
      );
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
    return say("verify.stranger", { count: plain(1 / share) });
  }
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
