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

  /** Whether the service wants another key than this one. */
  isRefused = false;

  /** Called when the access has changed. @type {() => void} */
  changed = () => {};

  #dialog = el("dialog", { id: "key", "aria-labelledby": "key-title" });

  constructor() {
    document.body.append(this.#dialog);
    this.api.key = sessionStorage.getItem(STORED);
    this.api.refused = (problem) => {
      if (this.isRefused) return; // the person has been asked
      this.isRefused = true;
      this.changed();
      this.ask(problem.code === "key_missing" ? null : problem.message);
    };
  }

  /**
   * Ask the service what the key may do.
   * @returns {Promise<void>}
   */
  async begin() {
    try {
      await this.use(this.api.key);
    } catch (error) {
      this.access = null;
      if (!(error instanceof Problem) || error.status !== 401) throw error;
      this.isRefused = true;
      this.changed();
      this.ask(error.code === "key_missing" ? null : error.message);
    }
  }

  /**
   * Use a key from now on, if the service takes it.
   * @param {string | null} key
   * @returns {Promise<void>}
   */
  async use(key) {
    const [before, wasRefused] = [this.api.key, this.isRefused];
    this.api.key = key;
    this.isRefused = true; // the answer goes to who offers the key
    try {
      this.access = /** @type {Access} */ (await this.api.json("GET", "v1/access"));
      this.isRefused = false;
      if (key !== null && sessionStorage.getItem(STORED) !== null) sessionStorage.setItem(STORED, key);
    } catch (error) {
      [this.api.key, this.isRefused] = [before, wasRefused];
      throw error;
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
    const use = el("button", { type: "submit", class: "main" }, say("key.use"));
    const wrong = el("p", { class: "alert", role: "alert", hidden: reason === null }, reason);
    const form = el(
      "form",
      { method: "dialog" },
      el("h1", { id: "key-title" }, say("key.title")),
      el("p", {}, say(reason === null ? "key.lead" : "key.again")),
      wrong,
      field(say("app.key"), key),
      el("p", {}, el("label", {}, remember, " ", say("key.remember"))),
      el(
        "div",
        { class: "row" },
        use,
        el("button", { type: "button", onclick: () => this.#dialog.close() }, say("key.cancel")),
      ),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const offered = key.value.trim();
      use.disabled = true; // one key at a time
      try {
        await this.use(offered);
      } catch (error) {
        wrong.hidden = false;
        fill(wrong, error instanceof Error ? error.message : String(error));
        return;
      } finally {
        use.disabled = false;
      }
      if (remember.checked) sessionStorage.setItem(STORED, offered);
      else sessionStorage.removeItem(STORED);
      this.#dialog.close();
    });
    fill(this.#dialog, form);
    this.#dialog.showModal();
  }
}
