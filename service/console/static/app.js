/**
 * The console: the pages, and which of them the key may see.
 * @module
 */

import { el, fill } from "./dom.js";
import { alertOf } from "./notices.js";
import { galleriesPage } from "./pages/galleries.js";
import { identifyPage } from "./pages/identify.js";
import { modelPage } from "./pages/model.js";
import { operationPage } from "./pages/operation.js";
import { verifyPage } from "./pages/verify.js";
import { Session } from "./session.js";
import { say } from "./strings.js";

/**
 * @typedef {object} Page
 * @property {HTMLElement} element
 * @property {() => void} [resume] Does again what failed, because another key is in use.
 * @property {() => void} leave Gives back what the page holds: photos, embeddings, timers.
 */

/** @type {ReadonlyArray<{ id: string, text: string, scopes: string[], open: (session: Session) => Page }>} */
const PAGES = [
  {
    id: "verify",
    text: say("page.verify"),
    scopes: ["verify"],
    open: verifyPage,
  },
  {
    id: "identify",
    text: say("page.identify"),
    scopes: ["identify"],
    open: identifyPage,
  },
  {
    id: "galleries",
    text: say("page.galleries"),
    scopes: ["read"],
    open: galleriesPage,
  },
  { id: "model", text: say("page.model"), scopes: [], open: modelPage },
  {
    id: "operation",
    text: say("page.operation"),
    scopes: ["metrics", "admin"],
    open: operationPage,
  },
];

const session = new Session();
const nav = el("nav", { "aria-label": say("app.pages") });
const who = el("div", { class: "who" });
const main = el("main", { id: "content", tabindex: "-1" });
/** What is shown, and what the key might do when it was opened. @type {{ id: string, may: string, page: Page } | null} */
let shown = null;

document.body.prepend(
  el("a", { class: "skip", href: "#content", onclick: skip }, say("app.skip")),
  el("header", { class: "top" }, el("strong", {}, "Vultus"), nav, who),
  main,
);

session.changed = () => show();
window.addEventListener("hashchange", () => show());
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault()); // else a photo beside its place replaces the page
window.addEventListener("pagehide", () => shown?.page.leave());
window.addEventListener("pageshow", (event) => event.persisted && location.reload()); // what was left is not shown again
fill(main, el("p", {}, say("app.wait")));
session.begin().catch((error) => fill(main, alertOf(error)));

/** Show the page of the address, if the key may see it. */
function show() {
  const seen = PAGES.filter(
    (page) => session.access && (!page.scopes.length || page.scopes.some((scope) => session.may(scope))),
  );
  const chosen = seen.find((page) => `#${page.id}` === location.hash) ?? seen[0];
  const links = seen.map((page) =>
    el("li", {}, el("a", { href: `#${page.id}`, "aria-current": page === chosen && "page" }, page.text)),
  );
  fill(nav, el("ul", {}, ...links));
  fill(who, ...identity());
  const may = JSON.stringify([session.access?.scopes, session.access?.galleries]);
  if (shown !== null && chosen?.id === shown.id && may === shown.may) {
    if (!session.isRefused) shown.page.resume?.();
    return;
  }
  shown?.page.leave();
  shown = null;
  for (const dialog of document.querySelectorAll("dialog")) if (dialog.open && dialog.id !== "key") dialog.close();
  if (!session.access) {
    const ask = el("button", { type: "button", class: "main", onclick: () => session.ask(null) }, say("key.title"));
    fill(main, el("p", {}, ask));
    document.title = "Vultus";
    return;
  }
  shown = chosen ? { id: chosen.id, may, page: chosen.open(session) } : null;
  fill(main, shown?.page.element ?? el("p", {}, say("app.nothing")));
  document.title = chosen ? `${chosen.text} – Vultus` : "Vultus";
}

/** @returns {(Node | string)[]} */
function identity() {
  const access = session.access;
  if (session.isRefused) {
    const ask = el("button", { type: "button", onclick: () => session.ask(null) }, say("key.use_one"));
    return [el("strong", { class: "bad" }, say("key.title")), ask];
  }
  if (!access) return [];
  const parts = [
    el("span", { title: say("app.may", { scopes: access.scopes.join(", ") }) }, access.key?.name ?? say("app.open")),
  ];
  if (access.galleries) parts.push(el("span", {}, say("app.galleries", { galleries: access.galleries.join(", ") })));
  const scopes = el("details", {}, el("summary", {}, say("column.scopes")), el("span", {}, access.scopes.join(", ")));
  const change = el("button", { type: "button", onclick: () => session.ask(null) }, say("app.change_key"));
  const forget = access.key ? [el("button", { type: "button", onclick: () => session.end() }, say("app.forget"))] : [];
  return [...parts, scopes, change, ...forget];
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  main.focus();
}
