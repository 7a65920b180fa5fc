/**
 * Receipts of erasures.
 * @module
 */

/** @import { Receipt } from "./types.js" */
import { el } from "./dom.js";
import { download } from "./files.js";
import { moment } from "./notices.js";
import { say } from "./strings.js";

/**
 * Return the receipt of an erasure, which names nobody, and takes the focus of what was erased.
 * @param {Receipt} receipt
 * @returns {HTMLElement}
 */
export function receiptOf(receipt) {
  const values = {
    number: receipt.erasure,
    time: moment(receipt.erased),
    subjects: receipt.subject_count,
    templates: receipt.template_count,
    crops: receipt.crop_count,
  };
  const keep = el("button", { type: "button" }, say("subject.keep_receipt"));
  keep.addEventListener("click", () => {
    const content = new Blob([JSON.stringify(receipt, null, 2)], { type: "application/json" });
    download(content, `erasure-${receipt.erasure}.json`);
  });
  const note = el("div", { class: "note", tabindex: "-1" }, el("p", {}, say("subject.receipt", values)), keep);
  setTimeout(() => note.focus()); // when it is on the page
  return note;
}
