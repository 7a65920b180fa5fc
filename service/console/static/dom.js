/**
 * Elements of the page. Text is always text: nothing here, or anywhere, turns a string into markup.
 * @module
 */

import { say } from "./strings.js";

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, unknown>} Attributes */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes] `on…` are listeners, false leaves an attribute out, other values are set as they are
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  append(element, children);
  return element;
}

/**
 * Return an element of a picture.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  set(element, attributes);
  append(element, children);
  return element;
}

/**
 * Replace the children of an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * Return a field with its label.
 * @param {string} label
 * @param {HTMLElement} input
 * @returns {HTMLLabelElement}
 */
export function field(label, input) {
  return el("label", { class: "field" }, el("span", {}, label), input);
}

/**
 * Return a choice of one of several values.
 * @param {ReadonlyArray<readonly [value: string, text: string]>} options
 * @param {string} chosen
 * @param {(value: string) => void} [changed]
 * @returns {HTMLSelectElement}
 */
export function select(options, chosen, changed) {
  const element = el(
    "select",
    {},
    ...options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)),
  );
  if (changed) element.addEventListener("change", () => changed(element.value));
  return element;
}

/**
 * Return a table.
 * @param {string} caption
 * @param {ReadonlyArray<string>} columns
 * @param {ReadonlyArray<ReadonlyArray<Child>>} rows
 * @param {ReadonlySet<number>} [numbers] Columns of numbers.
 * @returns {HTMLElement}
 */
export function table(caption, columns, rows, numbers = new Set()) {
  if (!rows.length) return el("p", { class: "soft" }, say("table.empty"));
  /** @param {number} at */
  const kind = (at) => (numbers.has(at) ? { class: "number" } : {});
  const head = el("tr", {}, ...columns.map((text, at) => el("th", { scope: "col", ...kind(at) }, text)));
  const body = rows.map((row) => el("tr", {}, ...row.map((cell, at) => el("td", kind(at), cell))));
  const whole = el(
    "table",
    {},
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, head),
    el("tbody", {}, ...body),
  );
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

/**
 * Return names with their values.
 * @param {ReadonlyArray<readonly [name: string, value: Child]>} entries
 * @returns {HTMLElement}
 */
export function facts(entries) {
  return el("dl", { class: "facts" }, ...entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/**
 * @param {Element} element
 * @param {Attributes} attributes
 */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * @param {Element} element
 * @param {ReadonlyArray<Child>} children
 */
function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(typeof child === "number" ? String(child) : child);
  }
}
