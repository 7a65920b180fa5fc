/**
 * Who uses the page: the key, and what it may do. The key is kept in memory, and by choice until the tab is closed.
 * @module
 */

/** @import { Access } from "./types.js" */
import { Api, Problem } from "./api.js";
import { el, field, fill } from "./dom.js";
import { say } from "./strings.js";

const STORED = "vultus.key";

/** The session. */
export class Session {
  api = new Api();

  /** What the key may do; null before the service has said so. @type {Access | null} */
  access = null;

  /** Name of the operating point for decisions; null for the default of the model. @type {string | null} */
  point = null;

  /** Called when the access has changed. @type {() => void} */
  changed = () => {};

  #dialog = el("dialog", { "aria-labelledby": "key-title" });

  constructor() {
    document.body.append(this.#dialog);
    this.api.key = sessionStorage.getItem(STORED);
    this.api.refused = (problem) => this.ask(problem.code === "key_missing" ? null : problem.message);
  }

  /**
   * Ask the service what the key may do.
   * @returns {Promise<void>}
   */
  async begin() {
    try {
      this.access = /** @type {Access} */ (await this.api.json("GET", "v1/access"));
    } catch (error) {
      this.access = null;
      if (!(error instanceof Problem) || error.status !== 401) throw error;
    }
    this.changed();
  }

  /**
   * Return whether the key may do something.
   * @param {...string} scopes
   * @returns {boolean}
   */
  may(...scopes) {
    return scopes.every((scope) => this.access?.scopes.includes(scope));
  }

  /** Forget the key and all that the page holds. */
  end() {
    sessionStorage.removeItem(STORED);
    location.reload();
  }

  /**
   * Ask for a key over the page, which stays as it is.
   * @param {string | null} reason Why the key is refused.
   */
  ask(reason) {
    if (this.#dialog.open) return;
    const key = el("input", {
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
      size: 40,
    });
    const remember = el("input", { type: "checkbox" });
    const wrong = el("p", { class: "alert", role: "alert", hidden: reason === null }, reason);
    const form = el(
      "form",
      { method: "dialog" },
      el("h1", { id: "key-title" }, say("key.title")),
      el("p", {}, say("key.lead")),
      wrong,
      field(say("app.key"), key),
      el("p", {}, el("label", {}, remember, " ", say("key.remember"))),
      el(
        "div",
        { class: "row" },
        el("button", { type: "submit", class: "main" }, say("key.use")),
        el("button", { type: "button", onclick: () => this.#dialog.close() }, say("key.cancel")),
      ),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const before = this.api.key;
      this.api.key = key.value.trim();
      try {
        this.access = /** @type {Access} */ (await this.api.json("GET", "v1/access"));
      } catch (error) {
        this.api.key = before;
        wrong.hidden = false;
        fill(wrong, error instanceof Error ? error.message : String(error));
        return;
      }
      if (remember.checked) sessionStorage.setItem(STORED, this.api.key);
      else sessionStorage.removeItem(STORED);
      this.#dialog.close();
      this.changed();
    });
    fill(this.#dialog, form);
    this.#dialog.showModal();
  }
}
