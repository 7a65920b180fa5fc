/**
 * Enrolment of many photos, with an outcome for each as it arrives.
 * @module
 */

/** @import { Session } from "./session.js" */
/** @import { Found } from "./files.js" */
import { galleryPath, Problem } from "./api.js";
import { el, field, fill } from "./dom.js";
import { fileButton, someAtOnce, takeDrops } from "./files.js";
import { say } from "./strings.js";

const AT_ONCE = 4;

/** @typedef {Found & { subject: string | null }} Wanted */

/**
 * @param {Session} session
 * @param {string} gallery
 * @param {() => void} changed
 * @returns {{ element: HTMLElement, leave: () => void }}
 */
export function enrolPanel(session, gallery, changed) {
  const subject = el("input", { type: "text", autocomplete: "off" });
  const byFile = el("input", { type: "checkbox" });
  const progress = el("progress", {
    hidden: true,
    "aria-label": say("enrol.title"),
  });
  const status = el("div", { role: "status" });
  const outcomes = el("ul", {
    class: "outcomes",
    tabindex: "0",
    "aria-label": say("column.outcome"),
  });
  const stop = el("button", { type: "button", hidden: true }, say("enrol.stop"));
  const resume = el("button", { type: "button", hidden: true, onclick: run }, say("enrol.resume"));
  let running = new AbortController();
  /** @type {Wanted[]} */
  const waiting = [];
  let isRunning = false;
  let isLeft = false;
  let [all, done, refused] = [0, 0, 0];

  const files = fileButton(say("enrol.files"), { accept: "image/*", multiple: true }, take);
  const folder = fileButton(say("enrol.folder"), { webkitdirectory: true }, take);
  const drop = el(
    "div",
    { class: "drop" },
    el("div", { class: "row middle" }, files, folder),
    el("p", { class: "soft" }, say("enrol.drop")),
  );
  takeDrops(drop, take);
  stop.addEventListener("click", () => running.abort());
  return {
    element: el(
      "details",
      { class: "card" },
      el("summary", {}, say("enrol.title")),
      field(say("enrol.subject"), subject),
      el("p", {}, el("label", {}, byFile, " ", say("enrol.by_file"))),
      drop,
      progress,
      el("div", { class: "row" }, status, stop, resume),
      outcomes,
    ),
    leave: () => {
      isLeft = true;
      running.abort();
    },
  };

  /** @param {Found[]} found */
  async function take(found) {
    if (!isRunning) {
      waiting.length = 0; // what was stopped is not enrolled by the way, but if people continue it
      [all, done, refused] = [0, 0, 0];
      fill(outcomes);
    }
    const named = subject.value.trim(); // now: it may be changed while photos wait
    waiting.push(
      ...found.map((one) => ({ ...one, subject: named || one.folder || (byFile.checked && stem(one)) || null })),
    );
    all += found.length;
    await run();
  }

  async function run() {
    if (isRunning) return;
    isRunning = true;
    resume.hidden = true;
    const typed = subject.value;
    stop.hidden = progress.hidden = false;
    running = new AbortController();
    count();
    await someAtOnce(waiting, AT_ONCE, send, running.signal);
    isRunning = false;
    stop.hidden = progress.hidden = true;
    resume.hidden = waiting.length === 0;
    count();
    if (isLeft) return;
    if (!refused && !waiting.length && subject.value === typed) subject.value = ""; // the next photo may show another person
    changed();
  }

  /** @param {Wanted} wanted */
  async function send(wanted) {
    const { file, folder: inside, subject: name } = wanted;
    const line = el("li", {}, inside ? `${inside}/${file.name}: ` : `${file.name}: `);
    /** @param {string} text @param {string} kind */
    const tell = (text, kind) => {
      line.append(el("span", { class: kind }, text));
      outcomes.prepend(line);
    };
    if (!name || name.includes("/")) {
      refused += 1;
      tell(name ? say("subject.slash") : say("enrol.no_subject", { file: file.name }), "bad");
    } else {
      try {
        const form = new FormData();
        form.append("images", file);
        const answer = await session.api.json("POST", galleryPath(gallery, "subjects", name, "templates"), {
          form,
          signal: running.signal,
        });
        const isNew = answer.items[0].status !== "duplicate";
        tell(say(isNew ? "enrol.enrolled" : "enrol.duplicate", { subject: name }), "good");
      } catch (error) {
        const isKeyGone = error instanceof Problem && error.status === 401;
        if (isKeyGone) running.abort();
        if (running.signal.aborted) {
          waiting.unshift(wanted); // whether it was enrolled is not known, and it is stored once
          return;
        }
        refused += 1;
        tell(
          say("enrol.refused", {
            reason: error instanceof Error ? error.message : String(error),
          }),
          "bad",
        );
      }
    }
    done += 1;
    count();
  }

  function count() {
    progress.max = Math.max(1, all);
    progress.value = done;
    fill(
      status,
      el("span", {}, say("enrol.progress", { done, all, refused }), done === all ? ` ${say("enrol.done")}` : ""),
    );
  }
}

/**
 * Return the name of a file without its end.
 * @param {Found} found
 * @returns {string}
 */
function stem({ file }) {
  return file.name.replace(/\.[^.]*$/, "");
}
