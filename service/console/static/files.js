/**
 * Files that people drop, paste and choose, also in folders.
 * @module
 */

import { el } from "./dom.js";

/** @typedef {{ file: File, folder: string | null }} Found */

/**
 * Return a button that lets people choose files.
 * @param {string} text
 * @param {Record<string, unknown>} attributes Those of the input.
 * @param {(found: Found[]) => void} take Called with the chosen files, without hidden ones.
 * @returns {HTMLElement}
 */
export function fileButton(text, attributes, take) {
  const input = el("input", { type: "file", class: "unseen", ...attributes });
  input.addEventListener("change", () => {
    const found = chosenFiles(input.files).filter(({ file }) => !file.name.startsWith("."));
    input.value = "";
    if (found.length) take(found);
  });
  return el("label", { class: "button" }, text, input);
}

/**
 * Return the files of a drop with the names of their folders, in folders of folders too.
 * @param {DataTransfer} transfer
 * @returns {Promise<Found[]>}
 */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files].map((file) => ({ file, folder: null }));
  /** @type {Found[]} */
  const found = [];
  for (const entry of entries) if (entry) await walk(entry, null, found);
  return found;
}

/**
 * Make an element take drops.
 * @param {HTMLElement} element
 * @param {(found: Found[]) => void} take
 */
export function takeDrops(element, take) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", async (event) => {
    event.preventDefault();
    element.classList.remove("over");
    if (!event.dataTransfer) return;
    const found = await droppedFiles(event.dataTransfer);
    if (found.length && element.isConnected) take(found); // the page may have been left meanwhile
  });
}

/**
 * Do work for many entries, some at a time and in order of their beginning.
 * @template Entry
 * @param {Entry[]} entries Those whose work has begun are removed; more may be added meanwhile.
 * @param {number} atOnce
 * @param {(entry: Entry) => Promise<void>} work
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export async function someAtOnce(entries, atOnce, work, signal) {
  const worker = async () => {
    while (!signal.aborted) {
      const entry = entries.shift();
      if (entry === undefined) return;
      await work(entry);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, entries.length) }, worker));
}

/**
 * @param {FileSystemEntry} entry
 * @param {string | null} folder
 * @param {Found[]} found
 */
async function walk(entry, folder, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) =>
      /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject),
    );
    if (!file.name.startsWith(".")) found.push({ file, folder });
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return;
    for (const inner of entries) await walk(inner, entry.name, found);
  }
}

/**
 * Return the files of an input, with the names of their folders if a folder was chosen.
 * @param {FileList | null} files
 * @returns {Found[]}
 */
function chosenFiles(files) {
  return [...(files ?? [])].map((file) => ({
    file,
    folder: file.webkitRelativePath.split("/").at(-2) ?? null,
  }));
}

/**
 * Give people a file.
 * @param {Blob} content
 * @param {string} name
 */
export function download(content, name) {
  const address = URL.createObjectURL(content);
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000); // the browser has begun to read it
}
