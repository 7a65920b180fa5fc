/**
 * One side of a comparison: a photo, its faces, and which of them is compared.
 * @module
 */

/** @import { EmbeddedFace, Face } from "./types.js" */
/** @import { Session } from "./session.js" */
import { stagesOf } from "./api.js";
import { takePhoto } from "./camera.js";
import { el, fill } from "./dom.js";
import { fileButton, takeDrops } from "./files.js";
import { attempt } from "./notices.js";
import { Picture } from "./picture.js";
import { has, say } from "./strings.js";

/** A side. */
export class Side {
  element;

  /** The photo; null for none. @type {File | null} */
  file = null;

  /** Whether the faces of the photo could not be searched for. */
  hasFailed = false;

  /** Called when the photo or the compared face has changed. @type {() => void} */
  changed = () => {};

  /** Milliseconds of the stages of the search for faces. @type {[stage: string, ms: number][]} */
  stages = [];

  /** @type {Session} */
  #session;
  /** @type {string} */
  #name;
  /** @type {Picture | null} */
  #picture = null;
  /** @type {(Face | EmbeddedFace)[]} */
  #faces = [];
  #size = { width: 1, height: 1 };
  #chosen = 0;
  #isLeft = false;
  #looking = new AbortController();
  #photo = el("div");
  #status = el("div", { role: "status" });
  #choice = el("div");
  #remove = el("button", { type: "button", hidden: true, onclick: () => this.clear() }, say("photo.clear"));

  /**
   * @param {Session} session
   * @param {string} name
   */
  constructor(session, name) {
    this.#session = session;
    this.#name = name;
    const label = `${say("photo.choose")} ${name}`;
    const choose = fileButton(say("photo.choose"), { accept: "image/*", "aria-label": label }, ([found]) => {
      if (found) this.set(found.file);
    });
    const camera = el("button", { type: "button" }, say("photo.camera"));
    camera.addEventListener("click", async () => {
      const photo = await takePhoto();
      if (photo) this.set(photo);
    });
    const drop = el(
      "div",
      {
        class: "drop",
        tabindex: "0",
        role: "group",
        "aria-label": say("photo.group", { side: name }),
      },
      el("div", { class: "row middle" }, choose, camera, this.#remove),
      el("p", { class: "soft" }, say("photo.hint")),
      this.#photo,
    );
    takeDrops(drop, ([found]) => {
      if (found) this.set(found.file);
    });
    drop.addEventListener("paste", (event) => {
      const pasted = event.clipboardData?.files[0];
      if (pasted) this.set(pasted);
      event.stopPropagation(); // the page takes what is pasted elsewhere
    });
    this.element = el(
      "section",
      { class: "card" },
      el("h2", {}, say("photo.group", { side: name })),
      drop,
      this.#status,
      this.#choice,
    );
  }

  /** The face that is compared; null before the service has found one. @returns {Face | EmbeddedFace | null} */
  get face() {
    return this.#faces[this.#chosen] ?? null;
  }

  /** The embedding of that face; null if the key may not have embeddings. @returns {number[] | null} */
  get embedding() {
    const face = this.face;
    return face && "embedding" in face ? face.embedding : null;
  }

  /**
   * Take a photo, and look for its faces.
   * @param {File} file
   */
  async set(file) {
    if (this.#isLeft) return;
    this.clear();
    this.file = file;
    this.#remove.hidden = false;
    const picture = new Picture(file);
    this.#picture = picture;
    fill(this.#photo, picture.element);
    const looking = this.#looking;
    const embeds = this.#session.may("embed");
    if (embeds || this.#session.may("detect")) {
      const form = new FormData();
      form.append("images", file);
      const isDone = await attempt(this.#status, async () => {
        fill(this.#status, el("p", {}, say("photo.looking")));
        const path = embeds ? "v1/embed" : "v1/detect";
        const response = await this.#session.api.send("POST", path, { form, signal: looking.signal });
        const item = (await response.json()).items[0];
        this.stages = stagesOf(response);
        this.#size = item;
        this.#faces = item.faces;
        this.#chosen = largest(item.faces);
        fill(this.#status, item.faces.length ? null : el("p", { class: "unsure" }, say("photo.none")));
      });
      if (looking.signal.aborted) return;
      this.hasFailed = !isDone;
      this.#show();
    }
    this.changed();
  }

  /** Search for faces again. */
  retry() {
    if (this.file) this.set(this.file);
  }

  /** Give back what the side holds, for good. */
  leave() {
    this.#isLeft = true;
    this.clear(false);
  }

  /**
   * Remove the photo and all that is known of it.
   * @param {boolean} [tell]
   */
  clear(tell = true) {
    this.#looking.abort();
    this.#looking = new AbortController();
    this.#picture?.remove();
    this.#picture = null;
    this.file = null;
    this.hasFailed = false;
    this.#faces = [];
    this.stages = [];
    this.#remove.hidden = true;
    for (const place of [this.#photo, this.#status, this.#choice]) fill(place);
    if (tell) this.changed();
  }

  /** @param {number} index */
  #choose(index) {
    this.#chosen = index;
    this.#show();
    this.changed();
  }

  #show() {
    const marked = this.#faces.map((face, at) => ({
      face,
      ...(this.#faces.length > 1 ? { name: String(at + 1) } : {}),
      chosen: at === this.#chosen,
    }));
    this.#picture?.draw(this.#size.width, this.#size.height, marked, (index) => this.#choose(index));
    const radios = this.#faces.map((face, at) => {
      const radio = el("input", {
        type: "radio",
        name: `face-${this.#name}`,
        checked: at === this.#chosen,
      });
      radio.addEventListener("change", () => this.#choose(at));
      const quality =
        face.quality === null ? say("photo.no_quality") : say("photo.quality", { value: Math.round(face.quality) });
      return el(
        "div",
        {},
        el("label", {}, radio, " ", `${say("photo.face", { number: at + 1 })}, ${quality}`),
        ...reasonsOf(face),
      );
    });
    const focused = document.activeElement?.closest("fieldset")?.parentElement === this.#choice;
    fill(this.#choice, radios.length ? el("fieldset", {}, el("legend", {}, say("photo.which")), ...radios) : null);
    if (focused)
      /** @type {HTMLElement | null} */ (this.#choice.querySelector("input:checked"))?.focus();
  }
}

/**
 * Return why the error rates may not hold for a face.
 * @param {Face} face
 * @returns {HTMLElement[]}
 */
export function reasonsOf(face) {
  return face.reasons.map((reason) => {
    const key = `reason.${reason}`;
    return el("div", { class: "unsure" }, has(key) ? say(key) : reason);
  });
}

/**
 * @param {ReadonlyArray<Face>} faces
 * @returns {number}
 */
function largest(faces) {
  /** @param {Face} face */
  const area = ({ box: [x1 = 0, y1 = 0, x2 = 0, y2 = 0] }) => (x2 - x1) * (y2 - y1);
  return faces.reduce((best, face, at) => (area(face) > area(/** @type {Face} */ (faces[best])) ? at : best), 0);
}
