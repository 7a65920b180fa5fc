/**
 * One subject: its templates, and what is done with it.
 * @module
 */

/** @import { Subject, Template } from "./types.js" */
/** @import { Session } from "./session.js" */
import { galleryPath } from "./api.js";
import { el, field, fill, table } from "./dom.js";
import { attempt, confirm, moment } from "./notices.js";
import { receiptOf } from "./receipt.js";
import { plain } from "./statistics.js";
import { say } from "./strings.js";

/**
 * @param {Session} session
 * @param {string} gallery
 * @param {string} first Name of the subject.
 * @param {() => Promise<void>} changed
 * @param {() => void} close
 * @returns {{ element: HTMLElement, leave: () => void }}
 */
export function subjectPanel(session, gallery, first, changed, close) {
  let name = first;
  const said = el("div", { role: "status" });
  const about = el("p", { class: "soft" });
  const templates = el("div");
  const title = el("h3", { tabindex: "-1" }, name);
  /** @type {string[]} */
  const addresses = [];
  /** @type {(Subject & { templates: Template[] }) | null} */
  let subject = null;
  const forms = session.may("enrol") ? el("div", { class: "row" }, renaming(), merging(), expiring()) : null;
  const erase = session.may("erase")
    ? el("button", { type: "button", class: "danger", onclick: eraseSubject }, say("subject.erase"))
    : null;
  attempt(said, read);
  return {
    element: el(
      "section",
      { class: "note" },
      title,
      about,
      said,
      forms,
      templates,
      el("div", { class: "row" }, erase, el("button", { type: "button", onclick: leave }, say("subject.close"))),
    ),
    leave: forget,
  };

  function forget() {
    for (const address of addresses.splice(0)) URL.revokeObjectURL(address);
  }

  function leave() {
    forget();
    close();
  }

  async function read() {
    subject = await session.api.json("GET", galleryPath(gallery, "subjects", name));
    fill(title, say("subject.title", { name }));
    fill(
      about,
      say("subject.facts", {
        created: moment(subject?.created ?? null),
        expires: moment(subject?.expires ?? null, say("subject.never")),
      }),
    );
    const rows = (subject?.templates ?? []).map((template) => [
      template.template,
      template.quality === null ? say("photo.no_quality") : plain(Math.round(template.quality)),
      moment(template.created),
      moment(template.expires),
      crop(template),
      session.may("erase") && eraseButton(template),
    ]);
    const columns = [
      say("column.number"),
      say("column.quality"),
      say("column.created"),
      say("column.expires"),
      say("column.crop"),
      "",
    ];
    fill(templates, table(say("subject.templates"), columns, rows, new Set([0, 1])));
  }

  /** @param {Template} template */
  function crop(template) {
    if (!template.crop) return "–";
    const place = el("span");
    const show = el("button", { type: "button" }, say("subject.show_crop"));
    show.addEventListener("click", () =>
      attempt(said, async () => {
        const response = await session.api.send(
          "GET",
          galleryPath(gallery, "subjects", name, "templates", template.template, "crop"),
        );
        const content = await response.blob();
        if (!place.isConnected) return; // the panel was closed meanwhile
        const address = URL.createObjectURL(content);
        addresses.push(address);
        fill(
          place,
          el("img", {
            class: "crop",
            src: address,
            alt: say("subject.crop_alt", { number: template.template }),
          }),
        );
      }),
    );
    fill(place, show);
    return place;
  }

  /** @param {Template} template */
  function eraseButton({ template: number, created }) {
    const text = say("subject.erase_template", { number });
    const question = () => say("subject.erase_template_sure", { number, name, created: moment(created) });
    const button = el("button", { type: "button", class: "danger" }, text);
    button.addEventListener("click", async () => {
      if (!(await confirm(question(), text))) return;
      await attempt(said, async () => {
        const receipt = await session.api.json("DELETE", galleryPath(gallery, "subjects", name, "templates", number));
        await read();
        fill(said, receiptOf(receipt));
        await changed();
      });
    });
    return button;
  }

  async function eraseSubject() {
    const question = say("subject.erase_sure", {
      name,
      count: subject?.template_count ?? 0,
    });
    if (!(await confirm(question, say("subject.erase")))) return;
    await attempt(said, async () => {
      const receipt = await session.api.json("DELETE", galleryPath(gallery, "subjects", name));
      forget();
      for (const place of [templates, about]) fill(place);
      forms?.remove();
      erase?.remove();
      fill(said, receiptOf(receipt));
      await changed();
    });
  }

  /**
   * @param {HTMLInputElement} input
   * @param {string} label
   * @param {string} action
   * @param {() => Promise<void>} work
   */
  function form(input, label, action, work) {
    const element = el("form", { class: "row" }, field(label, input), el("button", { type: "submit" }, action));
    element.addEventListener("submit", async (event) => {
      event.preventDefault();
      const isDone = await attempt(said, async () => {
        await work();
        await read();
        await changed();
        fill(said, el("p", { class: "good" }, say("subject.done")));
      });
      if (isDone) element.reset();
    });
    return element;
  }

  function renaming() {
    const input = el("input", { type: "text", required: true });
    return form(input, say("subject.rename"), say("subject.rename_do"), async () => {
      const renamed = await session.api.json("PATCH", galleryPath(gallery, "subjects", name), {
        json: { subject: input.value },
      });
      name = renamed.subject;
    });
  }

  function merging() {
    const input = el("input", { type: "text", required: true });
    return form(input, say("subject.merge"), say("subject.merge_do"), async () => {
      await session.api.json("POST", galleryPath(gallery, "subjects", name, "merge"), {
        json: { subject: input.value },
      });
    });
  }

  function expiring() {
    const input = el("input", { type: "date", required: true });
    const set = form(input, say("subject.expiry"), say("subject.expiry_do"), () =>
      expire(new Date(`${input.value}T23:59:59`).toISOString()),
    );
    const never = el("button", { type: "button" }, say("subject.expiry_never"));
    never.addEventListener("click", () =>
      attempt(said, async () => {
        await expire("never");
        await read();
        await changed();
      }),
    );
    set.append(never);
    return set;
  }

  /** @param {string} expires */
  async function expire(expires) {
    await session.api.json("PATCH", galleryPath(gallery, "subjects", name), {
      json: { expires },
    });
  }
}
