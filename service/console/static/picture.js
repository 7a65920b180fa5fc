/**
 * A photo with the boxes of its faces over it. The address of the photo is given back when it is removed.
 * @module
 */

/** @import { Face } from "./types.js" */
import { el, fill, svg } from "./dom.js";
import { say } from "./strings.js";

/**
 * @typedef {object} Marked
 * @property {Face} face
 * @property {string} [name] Written at the box.
 * @property {boolean} [chosen]
 */

/** A photo on the page. */
export class Picture {
  element = el("div", { class: "photo" });
  #address = "";
  #overlay = svg("svg", { "aria-hidden": "true" });

  /** @param {File} file */
  constructor(file) {
    this.#address = URL.createObjectURL(file);
    const image = el("img", {
      src: this.#address,
      alt: say("photo.alt", { name: file.name }),
    });
    image.addEventListener("error", () => {
      if (!this.#address) return;
      fill(
        this.element,
        el("div", { class: "blank" }),
        this.#overlay,
        el("p", { class: "soft" }, say("photo.not_shown")),
      );
    });
    this.element.append(image, this.#overlay);
  }

  /**
   * Draw boxes and landmarks.
   * @param {number} width Pixels of the upright photo.
   * @param {number} height
   * @param {ReadonlyArray<Marked>} marked
   * @param {(index: number) => void} [pressed]
   */
  draw(width, height, marked, pressed) {
    this.#overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const size = Math.max(width, height);
    const groups = marked.map(({ face, name, chosen }, index) => {
      const [x1 = 0, y1 = 0, x2 = 0, y2 = 0] = face.box;
      const shape = {
        x: x1,
        y: y1,
        width: Math.max(1, x2 - x1),
        height: Math.max(1, y2 - y1),
      };
      const dots = face.landmarks.map(([x, y]) => svg("circle", { class: "dot", cx: x, cy: y, r: size / 220 }));
      const label =
        name === undefined
          ? null
          : svg(
              "text",
              {
                class: "name",
                x: x1,
                y: Math.max(size / 28, y1 - size / 90),
                "font-size": size / 30,
              },
              name,
            );
      const outer = svg("rect", { class: "box", ...shape });
      if (pressed) outer.addEventListener("click", () => pressed(index));
      return svg(
        "g",
        { class: chosen ? "chosen" : "" },
        outer,
        svg("rect", { class: "box-inner", ...shape }),
        ...dots,
        label,
      );
    });
    fill(this.#overlay, ...groups);
  }

  /** Give back the address of the photo. */
  remove() {
    URL.revokeObjectURL(this.#address);
    this.#address = "";
    this.element.remove();
  }
}
