/**
 * The choice of the operating point, which holds on all pages until the page is loaded anew.
 * @module
 */

/** @import { Calibration } from "./types.js" */
/** @import { Session } from "./session.js" */
import { Problem } from "./api.js";
import { el, field, fill, select } from "./dom.js";
import { alertOf } from "./notices.js";
import { plain } from "./statistics.js";
import { say } from "./strings.js";

/**
 * Read the calibration that runs, and offer its operating points.
 * @param {Session} session
 * @param {() => void} changed Called when another one was chosen.
 * @returns {{ element: HTMLElement, calibration: Promise<Calibration | null> }} The calibration; null if there is none.
 */
export function pointChoice(session, changed) {
  const element = el("div");
  const calibration = session.api.json("GET", "v1/calibration").then(
    (/** @type {Calibration} */ found) => {
      const choices = found.operating_points.map(
        (one) => /** @type {const} */ ([one.name, say("points.rate", { count: plain(1 / one.rate), name: one.name })]),
      );
      const choose = select(choices, session.point ?? found.default_operating_point, (chosen) => {
        session.point = chosen;
        changed();
      });
      fill(element, field(say("points.title"), choose));
      return found;
    },
    (error) => {
      // Without a calibration there are similarities only, and the answers say why.
      if (!(error instanceof Problem) || error.code !== "calibration_unfit") fill(element, alertOf(error));
      return null;
    },
  );
  return { element, calibration };
}
