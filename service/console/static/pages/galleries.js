/**
 * Galleries: their subjects, and what is done with whole galleries.
 * @module
 */

/** @import { Gallery, Receipt, Subject } from "../types.js" */
/** @import { Found } from "../files.js" */
/** @import { Session } from "../session.js" */
/** @import { Page } from "../app.js" */
import { galleryPath } from "../api.js";
import { el, field, fill, select, table } from "../dom.js";
import { enrolPanel } from "../enrol.js";
import { download, fileButton } from "../files.js";
import { attempt, confirm, moment } from "../notices.js";
import { receiptOf } from "../receipt.js";
import { plain } from "../statistics.js";
import { say } from "../strings.js";
import { subjectPanel } from "../subject.js";

const BYTES_OF_A_NUMBER = 4;
const PAGE = 50;
const MOST = 1000; // of the API, in one page
const MOST_PAGES = 20; // of the API, before people are asked whether to go on
/** @type {Record<string, (subject: Subject) => boolean>} */
const FILTERS = {
  ending: (subject) => subject.expires !== null,
  empty: (subject) => subject.template_count === 0,
};

/**
 * @param {Session} session
 * @returns {Page}
 */
export function galleriesPage(session) {
  const status = el("div", { role: "status" });
  const list = el("div");
  const detail = el("div");
  /** @type {(() => void)[]} */
  let leaving = [];
  attempt(status, listGalleries);
  return {
    element: el(
      "div",
      {},
      el("h1", {}, say("page.galleries")),
      el("p", { class: "lead" }, say("galleries.lead")),
      status,
      list,
      session.may("enrol") ? newGallery() : null,
      detail,
    ),
    leave: close,
  };

  function close() {
    for (const leave of leaving) leave();
    leaving = [];
    fill(detail);
  }

  async function listGalleries() {
    const found = await session.api.json("GET", "v1/galleries", {
      query: { limit: MOST },
    });
    const rows = /** @type {Gallery[]} */ (found.galleries).map((gallery) => [
      el(
        "button",
        {
          type: "button",
          "aria-label": say("galleries.open", { name: gallery.gallery }),
          onclick: () => open(gallery.gallery),
        },
        gallery.gallery,
      ),
      gallery.subject_count,
      gallery.template_count,
      moment(gallery.created),
    ]);
    const columns = [say("column.gallery"), say("column.subjects"), say("column.templates"), say("column.created")];
    fill(list, table(say("galleries.all"), columns, rows, new Set([1, 2])));
  }

  function newGallery() {
    const name = el("input", { type: "text", required: true });
    const crops = el("input", { type: "checkbox" });
    const quality = el("input", {
      type: "number",
      min: 0,
      max: 100,
      step: 1,
      value: 0,
    });
    const retain = el("input", {
      type: "number",
      min: 0,
      max: 36525,
      value: 0,
    });
    const said = el("div");
    const form = el(
      "form",
      {},
      el(
        "div",
        { class: "row" },
        field(say("galleries.name"), name),
        field(say("galleries.min_quality"), quality),
        field(say("galleries.retain"), retain),
      ),
      el("p", {}, el("label", {}, crops, " ", say("galleries.crops"))),
      el("button", { type: "submit", class: "main" }, say("galleries.make")),
      said,
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const wanted = {
        gallery: name.value,
        keep_crops: crops.checked,
        min_quality: Number(quality.value),
        retain_days: Number(retain.value),
      };
      const made = await attempt(said, async () => {
        await session.api.json("POST", "v1/galleries", { json: wanted });
        await listGalleries();
        await open(wanted.gallery);
      });
      if (made) form.reset();
    });
    return el("details", { class: "card" }, el("summary", {}, say("galleries.new")), form);
  }

  /** @param {string} name */
  async function open(name) {
    close();
    const said = el("div", { role: "status" });
    const about = el("p");
    const subjects = el("div");
    const subject = el("div");
    const actions = el("div", { class: "row" });
    fill(detail, el("section", { class: "card" }, el("h2", {}, name), about, actions, said, subjects, subject));
    /** @type {Gallery | null} */
    let gallery = null;

    const refresh = async () => {
      gallery = /** @type {Gallery} */ (await session.api.json("GET", galleryPath(name)));
      fill(
        about,
        say("galleries.facts", {
          subjects: gallery.subject_count,
          templates: gallery.template_count,
          index: gallery.index,
          serving: gallery.serving ?? say("galleries.not_serving"),
          size: plain((gallery.template_count * gallery.dimensions * BYTES_OF_A_NUMBER) / 1e6),
        }),
      );
    };
    let leaveSubject = () => {};
    leaving.push(() => leaveSubject());
    const listed = subjectList(session, name, (chosen) => {
      leaveSubject();
      const panel = subjectPanel(session, name, chosen, changed, () => fill(subject));
      leaveSubject = panel.leave;
      fill(subject, panel.element);
      panel.element.querySelector("h3")?.focus();
    });
    const changed = async () => {
      await attempt(about, refresh);
      await attempt(status, listGalleries);
      await listed.refresh();
    };
    /** @param {Receipt} receipt */
    const erased = async (receipt) => {
      close();
      await attempt(status, listGalleries);
      status.append(receiptOf(receipt));
    };
    if (!(await attempt(about, refresh))) return;
    fill(actions, ...galleryActions(session, name, said, () => gallery?.subject_count ?? 0, changed, erased));
    if (session.may("enrol")) {
      const enrol = enrolPanel(session, name, changed);
      leaving.push(enrol.leave);
      actions.after(enrol.element);
    }
    fill(subjects, listed.element);
    await listed.refresh();
  }
}

/**
 * @param {Session} session
 * @param {string} name
 * @param {HTMLElement} said
 * @param {() => number} subjects
 * @param {() => Promise<void>} changed
 * @param {(receipt: Receipt) => Promise<void>} erased
 * @returns {HTMLElement[]}
 */
function galleryActions(session, name, said, subjects, changed, erased) {
  /** @param {string} text @param {() => Promise<void>} work @param {string} [kind] */
  const action = (text, work, kind = "") => {
    const button = el("button", { type: "button", class: kind }, text);
    button.addEventListener("click", async () => {
      button.disabled = true;
      await attempt(said, work);
      button.disabled = false;
    });
    return button;
  };
  /** @type {HTMLElement[]} */
  const actions = [];
  if (session.may("admin")) {
    actions.push(
      action(say("galleries.check"), async () => {
        const report = await session.api.json("POST", galleryPath(name, "verify"), { json: {} });
        const text = report.good
          ? say("galleries.checked_good", { count: report.template_count })
          : report.faults.join("; ");
        fill(said, el("p", { class: report.good ? "good" : "alert" }, text));
      }),
    );
  }
  if (session.may("export")) {
    actions.push(
      action(say("galleries.export"), async () => {
        const response = await session.api.send("GET", galleryPath(name, "export"));
        download(await response.blob(), `${name}.ndjson`);
      }),
    );
  }
  if (session.may("enrol")) {
    /** @param {Found[]} found */
    const take = ([found]) =>
      attempt(said, async () => {
        if (!found) return;
        const counts = await session.api.json("POST", galleryPath(name, "import"), {
          body: new Blob([found.file], { type: "application/x-ndjson" }),
        });
        fill(
          said,
          el(
            "p",
            {},
            say("galleries.imported", {
              text: Object.entries(counts)
                .map(([kind, count]) => `${kind} ${count}`)
                .join(", "),
            }),
          ),
        );
        await changed();
      });
    actions.push(fileButton(say("galleries.import"), { accept: ".ndjson,.jsonl" }, take));
  }
  if (session.may("admin")) {
    actions.push(
      action(say("galleries.backup"), async () => {
        await session.api.json("POST", "v1/backup");
        fill(said, el("p", { class: "good" }, say("galleries.backed_up")));
      }),
    );
  }
  if (session.may("erase")) {
    actions.push(
      action(
        say("galleries.erase"),
        async () => {
          const question = say("galleries.erase_sure", {
            name,
            count: subjects(),
          });
          if (!(await confirm(question, say("galleries.erase"), name))) return;
          await erased(await session.api.json("DELETE", galleryPath(name)));
        },
        "danger",
      ),
    );
  }
  return actions;
}

/**
 * @param {Session} session
 * @param {string} name
 * @param {(subject: string) => void} open
 * @returns {{ element: HTMLElement, refresh: () => Promise<boolean> }}
 */
function subjectList(session, name, open) {
  const search = el("input", { type: "search", autocomplete: "off" });
  const rows = el("div");
  const said = el("div", { role: "status" });
  const more = el("button", { type: "button", hidden: true }, say("galleries.more"));
  const filter = select(
    [
      ["all", say("galleries.filter_all")],
      ["ending", say("galleries.filter_ending")],
      ["empty", say("galleries.filter_empty")],
    ],
    "all",
  );
  let searched = "";
  let chosen = "all";
  let reading = new AbortController();
  /** @type {Subject[]} */
  let found = [];
  /** @type {string | null} */
  let next = null;

  /** @param {boolean} anew */
  const read = (anew) =>
    attempt(said, async () => {
      reading.abort();
      reading = new AbortController();
      const { signal } = reading;
      const kept = anew ? [] : [...found];
      const wanted = anew ? Math.min(MOST, Math.max(PAGE, found.length)) : found.length + PAGE;
      let cursor = anew ? null : next;
      // A page of the API may hold few that are searched for, or none, and yet not be the last.
      for (let page = 0; page < MOST_PAGES && (page === 0 || (cursor !== null && kept.length < wanted)); page += 1) {
        const query = { limit: anew ? wanted : PAGE, name: searched, cursor };
        const answer = await session.api.json("GET", galleryPath(name, "subjects"), { query, signal });
        kept.push(.../** @type {Subject[]} */ (answer.subjects).filter(FILTERS[chosen] ?? Boolean));
        cursor = answer.next;
      }
      found = kept;
      next = cursor;
      more.hidden = next === null;
      const cells = found.map((subject) => [
        el("button", { type: "button", onclick: () => open(subject.subject) }, subject.subject),
        subject.template_count,
        moment(subject.created),
        moment(subject.expires),
      ]);
      const columns = [say("column.subject"), say("column.templates"), say("column.created"), say("column.expires")];
      fill(
        rows,
        found.length
          ? table(say("galleries.subjects", { name }), columns, cells, new Set([1]))
          : el("p", { class: "soft" }, say("galleries.empty")),
      );
    });
  more.addEventListener("click", () => read(false));
  const form = el(
    "form",
    { class: "row", role: "search" },
    field(say("galleries.search"), search),
    field(say("galleries.filter"), filter),
    el("button", { type: "submit" }, say("galleries.find")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    found = [];
    searched = search.value;
    chosen = filter.value;
    read(true);
  });
  return { element: el("div", {}, form, said, rows, more), refresh: () => read(true) };
}
