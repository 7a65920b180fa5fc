/**
 * What the page says of errors, and the questions before something is erased.
 * @module
 */

import { Problem } from "./api.js";
import { el, field, fill } from "./dom.js";
import { say } from "./strings.js";

const SERVERS_FAULT = 500;

/**
 * Return an error as a sentence: that of the service, with the id of its request if the log has more to say.
 * @param {unknown} error
 * @returns {HTMLElement}
 */
export function alertOf(error) {
  const id =
    error instanceof Problem && error.requestId && error.status >= SERVERS_FAULT
      ? el("div", { class: "soft" }, say("api.request", { id: error.requestId }))
      : null;
  return el("div", { class: "alert", role: "alert" }, error instanceof Error ? error.message : String(error), id);
}

/**
 * Do something, and show its error in an element, which is emptied before.
 * @param {Element} place
 * @param {() => Promise<void>} work
 * @returns {Promise<boolean>} Whether it was done.
 */
export async function attempt(place, work) {
  fill(place);
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "AbortError")) fill(place, alertOf(error));
    return false;
  }
}

/**
 * Ask before something is done that cannot be undone.
 * @param {string} question
 * @param {string} action Text of the button.
 * @param {string} [typed] What must be written to confirm.
 * @returns {Promise<boolean>}
 */
export function confirm(question, action, typed) {
  return new Promise((resolve) => {
    const input = el("input", { type: "text", autocomplete: "off" });
    const yes = el("button", { type: "submit", class: "danger", disabled: typed !== undefined }, action);
    if (typed !== undefined)
      input.addEventListener("input", () => {
        yes.disabled = input.value !== typed;
      });
    const form = el(
      "form",
      { method: "dialog" },
      el("p", { id: "confirm-question" }, question),
      typed === undefined ? null : el("p", {}, field(say("confirm.name"), input)),
      el(
        "div",
        { class: "row" },
        yes,
        el("button", { type: "button", autofocus: true, onclick: () => dialog.close("no") }, say("confirm.cancel")),
      ),
    );
    form.addEventListener("submit", () => {
      dialog.returnValue = "yes";
    });
    const dialog = el("dialog", { "aria-labelledby": "confirm-question", role: "alertdialog" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Return a moment for people.
 * @param {string | number | null} time ISO 8601, or milliseconds since 1970.
 * @param {string} [none]
 * @returns {string}
 */
export function moment(time, none = "–") {
  return time === null ? none : new Date(time).toLocaleString();
}
