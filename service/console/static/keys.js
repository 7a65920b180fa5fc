/**
 * The keys of programs that use the service.
 * @module
 */

/** @import { Session } from "./session.js" */
import { el, field, fill, table } from "./dom.js";
import { attempt, confirm, moment } from "./notices.js";
import { say } from "./strings.js";

const OWN_NAME = "administrator";
const SCOPES = /** @type {const} */ ([
  "detect",
  "embed",
  "verify",
  "identify",
  "enrol",
  "read",
  "erase",
  "export",
  "metrics",
  "admin",
]);

/** @typedef {{ id: string, name: string, scopes: string[], galleries: string[] | null, expires: string | null, revoked: string | null, last_used: string | null }} KeyOut */

/**
 * @param {Session} session
 * @returns {HTMLElement}
 */
export function keysPanel(session) {
  const list = el("div");
  const said = el("div", { role: "status" });
  const shown = el("div", { role: "status" }); // keys, which nothing may take away before they are read
  attempt(said, read);
  return el("section", {}, el("h2", {}, say("operation.keys")), list, making(), said, shown);

  async function read() {
    const found = await session.api.json("GET", "v1/keys");
    const rows = /** @type {KeyOut[]} */ (found.keys).map((key) => {
      const live = !key.revoked && (!key.expires || new Date(key.expires) > new Date());
      const state = key.revoked
        ? say("operation.revoked", { time: moment(key.revoked) })
        : live
          ? say("operation.live")
          : say("operation.expired", { time: moment(key.expires) });
      return [
        key.name,
        key.scopes.join(", "),
        key.galleries?.join(", ") ?? "*",
        state,
        moment(key.last_used),
        live && el("div", { class: "row" }, rotate(key), revoke(key)),
      ];
    });
    const columns = [
      say("column.name"),
      say("column.scopes"),
      say("column.gallery"),
      say("column.state"),
      say("column.used"),
      "",
    ];
    fill(list, table(say("operation.keys"), columns, rows));
  }

  /** @param {KeyOut} key */
  function rotate(key) {
    const button = el("button", { type: "button" }, say("operation.rotate", { name: key.name }));
    button.addEventListener("click", () =>
      attempt(said, async () => {
        const made = await session.api.json("POST", `v1/keys/${key.id}/rotate`, { json: {} });
        shown.append(shownOnce(say("operation.key_shown", { name: key.name }), made.key));
        if (key.id === session.access?.key?.id) await session.use(made.key);
        await read();
      }),
    );
    return button;
  }

  /** @param {KeyOut} key */
  function revoke(key) {
    const text = say("operation.revoke", { name: key.name });
    const button = el("button", { type: "button", class: "danger" }, text);
    button.addEventListener("click", async () => {
      const isOwn = key.id === session.access?.key?.id;
      const question = say(isOwn ? "operation.revoke_own" : "operation.revoke_sure", { name: key.name });
      if (!(await confirm(question, text))) return;
      await attempt(said, async () => {
        await session.api.json("DELETE", `v1/keys/${key.id}`);
        await read();
      });
    });
    return button;
  }

  function making() {
    const name = el("input", { type: "text", required: true });
    const galleries = el("input", { type: "text" });
    const boxes = SCOPES.map((scope) => el("input", { type: "checkbox", value: scope }));
    const scopes = SCOPES.map((scope, at) =>
      el("div", {}, el("label", {}, boxes[at], ` ${scope}: `, el("span", { class: "soft" }, say(`scope.${scope}`)))),
    );
    const form = el(
      "form",
      {},
      el(
        "div",
        { class: "row" },
        field(say("operation.key_name"), name),
        field(say("operation.key_galleries"), galleries),
      ),
      el("fieldset", {}, el("legend", {}, say("column.scopes")), ...scopes),
      el("button", { type: "submit", class: "main" }, say("operation.key_make")),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const names = galleries.value
        .split(",")
        .map((one) => one.trim())
        .filter(Boolean);
      const wanted = {
        name: name.value,
        scopes: boxes.filter((box) => box.checked).map((box) => box.value),
        galleries: names.length ? names : null,
      };
      if (!wanted.scopes.length) {
        fill(said, el("p", { class: "unsure" }, say("operation.no_scope")));
        return;
      }
      const isFirst = session.access?.key === null;
      if (isFirst && !(await confirm(say("operation.first_key"), say("operation.key_make")))) return;
      const isMade = await attempt(said, async () => {
        if (isFirst) {
          // From its first key on, the service answers nobody without one: this page needs its own before others.
          const own = await session.api.json("POST", "v1/keys", { json: { name: OWN_NAME, scopes: ["admin"] } });
          shown.append(shownOnce(say("operation.own_key_shown", { name: OWN_NAME }), own.key));
          await session.use(own.key);
        }
        const made = await session.api.json("POST", "v1/keys", { json: wanted });
        shown.append(shownOnce(say("operation.key_shown", { name: wanted.name }), made.key));
        await read();
      });
      if (isMade) form.reset();
    });
    return el("details", { class: "card" }, el("summary", {}, say("operation.new_key")), form);
  }
}

/**
 * @param {string} text
 * @param {string} key
 * @returns {HTMLElement}
 */
function shownOnce(text, key) {
  const copy = el("button", { type: "button" }, say("operation.key_copy"));
  copy.addEventListener("click", () => navigator.clipboard?.writeText(key));
  const hide = el("button", { type: "button", onclick: () => note.remove() }, say("operation.key_hide"));
  const note = el(
    "div",
    { class: "note" },
    el("p", {}, text),
    el("code", {}, key),
    el("div", { class: "row" }, copy, hide),
  );
  return note;
}
