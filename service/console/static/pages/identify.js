/**
 * Identify: who is in one photo, or in many.
 * @module
 */

/** @import { Gallery, Identification, IdentifiedFace } from "../types.js" */
/** @import { Found } from "../files.js" */
/** @import { Session } from "../session.js" */
/** @import { Page } from "../app.js" */
import { el, field, fill, table } from "../dom.js";
import { fileButton, someAtOnce, takeDrops } from "../files.js";
import { alertOf, attempt } from "../notices.js";
import { Picture } from "../picture.js";
import { pointChoice } from "../points.js";
import { reasonsOf } from "../side.js";
import { percent, plain } from "../statistics.js";
import { say } from "../strings.js";

const AT_ONCE = 3;
const CANDIDATES = 3;

/** @typedef {{ file: File, picture: Picture, place: HTMLElement, hasFailed: boolean }} Photo */

/**
 * @param {Session} session
 * @returns {Page}
 */
export function identifyPage(session) {
  const choices = el("div", { class: "row" });
  const status = el("div", { role: "status" });
  const cards = el("div", { class: "cards" });
  const unique = el("input", { type: "checkbox" });
  const k = el("input", { type: "number", min: 1, max: 20, value: CANDIDATES });
  const progress = el("progress", {
    "aria-label": say("page.identify"),
    hidden: true,
  });
  const note = el("p", { class: "soft" });
  const points = pointChoice(session, again);
  /** @type {Photo[]} */
  let photos = [];
  let running = new AbortController();
  let [all, done] = [0, 0];

  const choose = fileButton(say("identify.photos"), { accept: "image/*", multiple: true }, take);
  const drop = el("div", { class: "drop" }, choose, el("p", { class: "soft" }, say("identify.drop")));
  takeDrops(drop, take);
  unique.addEventListener("change", again);
  k.addEventListener("change", again);
  attempt(status, listGalleries);
  return {
    element: el(
      "div",
      {},
      el("h1", {}, say("page.identify")),
      el("p", { class: "lead" }, say("identify.lead")),
      el("fieldset", {}, el("legend", {}, say("identify.galleries")), choices),
      el(
        "div",
        { class: "row" },
        points.element,
        field(say("identify.k"), k),
        el("label", {}, unique, " ", say("identify.unique")),
        el("button", { type: "button", onclick: clear }, say("identify.clear")),
      ),
      drop,
      progress,
      status,
      note,
      cards,
    ),
    resume: () => search(photos.filter((photo) => photo.hasFailed)),
    leave: clear,
  };

  async function listGalleries() {
    if (!session.may("read")) {
      const known = (session.access?.galleries ?? []).filter((name) => !name.endsWith("*"));
      const names = el("input", { type: "text", value: known.join(", "), onchange: again });
      fill(choices, field(say("identify.names"), names));
      return;
    }
    const found = await session.api.json("GET", "v1/galleries", {
      query: { limit: 1000 },
    });
    const boxes = /** @type {Gallery[]} */ (found.galleries).map((gallery, at) => {
      const box = el("input", {
        type: "checkbox",
        value: gallery.gallery,
        checked: at === 0,
      });
      box.addEventListener("change", again);
      return el("label", {}, box, " ", gallery.gallery);
    });
    const none = el("p", { class: "soft" }, el("a", { href: "#galleries" }, say("identify.none")));
    fill(choices, ...(boxes.length ? boxes : [none]));
  }

  function searched() {
    const inputs = [...choices.querySelectorAll("input")];
    if (session.may("read")) return inputs.filter((box) => box.checked).map((box) => box.value);
    return inputs.flatMap(({ value }) => value.split(",").map((name) => name.trim())).filter(Boolean);
  }

  /** @param {Found[]} found */
  function take(found) {
    const added = found.map(({ file }) => {
      const photo = { file, picture: new Picture(file), place: el("div"), hasFailed: false };
      cards.append(el("article", { class: "card" }, el("h2", {}, file.name), photo.picture.element, photo.place));
      return photo;
    });
    photos.push(...added);
    search(added);
  }

  function again() {
    stop();
    search(photos);
  }

  function stop() {
    running.abort();
    running = new AbortController();
    [all, done] = [0, 0];
    progress.hidden = true;
    fill(note);
  }

  /** @param {Photo[]} wanted */
  async function search(wanted) {
    const galleries = searched();
    if (!wanted.length) return;
    for (const { place } of wanted) fill(place);
    if (!galleries.length) {
      fill(status, el("p", { class: "unsure" }, say("identify.first")));
      return;
    }
    const { signal } = running;
    all += wanted.length;
    progress.hidden = false;
    const count = () => {
      progress.max = all;
      progress.value = done;
      progress.hidden = done === all;
      fill(status, el("p", {}, say("identify.progress", { done, all })));
    };
    count();
    /** @param {Photo} photo */
    const work = async (photo) => {
      try {
        photo.hasFailed = false;
        show(photo, await request(photo.file, galleries, signal));
      } catch (error) {
        if (signal.aborted) return;
        photo.hasFailed = true;
        fill(photo.place, alertOf(error));
      }
      done += 1;
      count();
    };
    await someAtOnce([...wanted], AT_ONCE, work, signal);
  }

  /**
   * @param {File} file
   * @param {string[]} galleries
   * @param {AbortSignal} signal
   * @returns {Promise<Identification>}
   */
  function request(file, galleries, signal) {
    const form = new FormData();
    form.append("images", file);
    for (const gallery of galleries) form.append("gallery", gallery);
    form.append("k", k.value);
    form.append("assign", unique.checked ? "unique" : "independent");
    if (session.point) form.append("operating_point", session.point);
    return session.api.json("POST", "v1/identify", { form, signal });
  }

  /**
   * @param {Photo} photo
   * @param {Identification} found
   */
  function show(photo, found) {
    const item = found.items[0];
    if (!item) return;
    photo.picture.draw(
      item.width,
      item.height,
      item.faces.map((face, at) => ({ face, name: `${at + 1} ${nameOf(face)}` })),
    );
    if (found.operating_point && found.fpir_bound !== null) {
      fill(
        note,
        say("identify.nearest", {
          threshold: found.operating_point.threshold.toFixed(3),
          count: plain(found.comparisons),
          rate: percent(found.fpir_bound),
        }),
      );
    }
    if (found.uncalibrated_because) fill(note, say("model.uncalibrated", { reason: found.uncalibrated_because }));
    const threshold = found.operating_point?.threshold ?? null;
    const faces = item.faces.map((face, at) => describe(face, at, threshold));
    fill(photo.place, ...(faces.length ? faces : [el("p", { class: "soft" }, say("identify.no_faces"))]));
  }

  function clear() {
    stop();
    for (const photo of photos) photo.picture.remove();
    photos = [];
    for (const place of [cards, status]) fill(place);
  }
}

/**
 * @param {IdentifiedFace} face
 * @param {number} at
 * @param {number | null} threshold
 * @returns {HTMLElement}
 */
function describe(face, at, threshold) {
  const label = `${say("photo.face", { number: at + 1 })}: ${nameOf(face)}`;
  const rows = face.candidates.map((candidate) => {
    const share = threshold === null ? 0 : Math.max(0, (candidate.similarity - threshold) / (1 - threshold));
    const meter = threshold !== null && el("meter", { min: 0, max: 1, value: share.toFixed(3), "aria-hidden": "true" });
    return [candidate.subject, candidate.gallery, el("span", {}, candidate.similarity.toFixed(3), " ", meter)];
  });
  const similarity =
    threshold === null ? say("column.similarity") : say("identify.similarity", { threshold: threshold.toFixed(3) });
  const columns = [say("column.subject"), say("column.gallery"), similarity];
  const shown = rows.length ? table(say("identify.candidates", { face: label }), columns, rows) : null;
  const refusal = face.refusal ? el("p", { class: "unsure" }, face.refusal.detail) : null;
  return el("div", {}, el("h3", {}, label), refusal, ...reasonsOf(face), shown);
}

/**
 * @param {IdentifiedFace} face
 * @returns {string}
 */
function nameOf(face) {
  if (face.decision === "rejected") return say("identify.rejected");
  if (face.decision === null) return say("identify.undecided");
  return face.candidates[0]?.subject ?? say("identify.unknown");
}
