/**
 * Charts as small pictures (SVG), drawn by hand: a chart has a sentence that says the same.
 * @module
 */

/** @import { Distribution, Point } from "./types.js" */
import { el, svg } from "./dom.js";
import { centres } from "./statistics.js";
import { say } from "./strings.js";

const WIDTH = Math.max(320, Math.min(640, window.innerWidth - 60)); // texts keep their size on a narrow screen
const HEIGHT = 260;
const LEFT = 58;
const RIGHT = 14;
const TOP = 18;
const BOTTOM = 44;
const COLOURS = 5;
const X_SPACE = 40; // least distance of the texts of an axis
const Y_SPACE = 16;

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {ReadonlyArray<number>} x
 * @property {ReadonlyArray<number>} y
 */

/**
 * @typedef {object} LineChart
 * @property {string} title
 * @property {string} xLabel
 * @property {string} yLabel
 * @property {ReadonlyArray<Series>} series
 * @property {boolean} [logX]
 * @property {boolean} [logY]
 * @property {ReadonlyArray<readonly [x: number, y: number, label: string]>} [marks]
 */

/**
 * Return where a similarity lies among those of the calibration.
 * @param {Distribution} distribution
 * @param {Point | null} point
 * @param {number | null} similarity
 * @param {string} sentence What the picture shows.
 * @returns {HTMLElement}
 */
export function similarityChart(distribution, point, similarity, sentence) {
  const [low, high] = [-0.4, 1];
  /** @param {number} value */
  const x = (value) => LEFT + ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const bottom = HEIGHT - BOTTOM;
  /** @param {ReadonlyArray<number>} counts @param {string} kind */
  const area = (counts, kind) => {
    const most = Math.max(...counts);
    const middles = centres(counts);
    const top = middles.map(
      (at, bin) => `${x(at).toFixed(1)},${(bottom - ((counts[bin] ?? 0) / most) * (bottom - TOP)).toFixed(1)}`,
    );
    return svg("polygon", {
      class: kind,
      points: `${x(low)},${bottom} ${top.join(" ")} ${x(high)},${bottom}`,
    });
  };
  const children = [area(distribution.non_mated, "other"), area(distribution.mated, "mated")];
  if (point) {
    const [from, to] = [point.threshold_interval[0] ?? 0, point.threshold_interval[1] ?? 0];
    children.push(
      svg("rect", {
        class: "band",
        x: x(from),
        y: TOP,
        width: x(to) - x(from),
        height: bottom - TOP,
      }),
    );
    children.push(line("limit", x(point.threshold), TOP, x(point.threshold), bottom));
    children.push(
      text(x(point.threshold) + 4, TOP + 10, say("chart.threshold", { value: point.threshold.toFixed(3) })),
    );
  }
  if (similarity !== null) {
    children.push(line("here", x(similarity), TOP + 16, x(similarity), bottom));
    const anchor = x(similarity) > WIDTH - 150 ? "end" : "start";
    children.push(
      text(
        x(similarity) + (anchor === "end" ? -5 : 5),
        TOP + 30,
        say("chart.here", { value: similarity.toFixed(3) }),
        anchor,
      ),
    );
  }
  children.push(line("axis", LEFT, bottom, WIDTH - RIGHT, bottom));
  const ticks = Array.from({ length: 8 }, (_, at) => low + at * 0.2);
  children.push(...spaced(ticks, x, X_SPACE).map((tick) => text(x(tick), bottom + 16, tick.toFixed(1), "middle")));
  children.push(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, say("chart.similarity"), "middle"));
  const legend = el(
    "ul",
    { class: "legend" },
    el("li", {}, el("span", { class: "swatch mated" }), say("chart.mated")),
    el("li", {}, el("span", { class: "swatch other" }), say("chart.non_mated")),
  );
  return el(
    "figure",
    { class: "card" },
    picture(sentence, children),
    legend,
    el("figcaption", { class: "soft" }, sentence),
  );
}

/**
 * Return lines over axes.
 * @param {LineChart} chart
 * @returns {HTMLElement}
 */
export function lineChart(chart) {
  const xs = scale(
    chart.series.flatMap((one) => [...one.x]),
    chart.logX ?? false,
    LEFT,
    WIDTH - RIGHT,
  );
  const ys = scale(
    chart.series.flatMap((one) => [...one.y]),
    chart.logY ?? false,
    HEIGHT - BOTTOM,
    TOP,
  );
  const children = [
    ...spaced(xs.ticks, xs.of, X_SPACE).flatMap((at) => [
      line("grid", xs.of(at), TOP, xs.of(at), HEIGHT - BOTTOM),
      text(xs.of(at), HEIGHT - BOTTOM + 16, tickText(at), "middle"),
    ]),
    ...spaced(ys.ticks, ys.of, Y_SPACE).flatMap((at) => [
      line("grid", LEFT, ys.of(at), WIDTH - RIGHT, ys.of(at)),
      text(LEFT - 6, ys.of(at) + 4, tickText(at), "end"),
    ]),
    ...chart.series.map((one, at) => {
      const points = one.x
        .map((value, bin) => [value, one.y[bin] ?? NaN])
        .filter(([px, py]) => xs.has(px ?? NaN) && ys.has(py ?? NaN))
        .map(([px, py]) => `${xs.of(px ?? 0).toFixed(1)},${ys.of(py ?? 0).toFixed(1)}`);
      return svg("polyline", {
        class: `line ${colourOf(at)}`,
        points: points.join(" "),
      });
    }),
    ...(chart.marks ?? [])
      .filter(([px, py]) => xs.has(px) && ys.has(py))
      .flatMap(([px, py, label]) => [
        svg("circle", { class: "mark", cx: xs.of(px), cy: ys.of(py), r: 4 }),
        text(xs.of(px) + 7, ys.of(py) - 6, label),
      ]),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, chart.xLabel, "middle"),
    svg(
      "text",
      {
        transform: `translate(13 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`,
        "text-anchor": "middle",
      },
      chart.yLabel,
    ),
  ];
  const legend = chart.series.some((one) => one.label)
    ? el(
        "ul",
        { class: "legend" },
        ...chart.series.map((one, at) => el("li", {}, el("span", { class: `swatch ${colourOf(at)}` }), one.label)),
      )
    : null;
  return el("figure", { class: "card" }, el("figcaption", {}, chart.title), picture(chart.title, children), legend);
}

/**
 * Return the classes of the colour of a series, and of its dashes.
 * @param {number} at
 * @returns {string}
 */
function colourOf(at) {
  return `c${at % COLOURS}${at < COLOURS ? "" : " dash"}`;
}

/**
 * @param {string} label
 * @param {ReadonlyArray<SVGElement>} children
 * @returns {SVGElement}
 */
function picture(label, children) {
  return svg(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": label,
    },
    ...children,
  );
}

/**
 * @param {string} kind
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 * @returns {SVGElement}
 */
function line(kind, x1, y1, x2, y2) {
  return svg("line", { class: kind, x1, y1, x2, y2 });
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} content
 * @param {string} [anchor]
 * @returns {SVGElement}
 */
function text(x, y, content, anchor = "start") {
  return svg("text", { x, y, "text-anchor": anchor }, content);
}

/**
 * Return the map of values to pixels, and where ticks are.
 * @param {ReadonlyArray<number>} values
 * @param {boolean} isLog
 * @param {number} from
 * @param {number} to
 * @returns {{ of: (value: number) => number, has: (value: number) => boolean, ticks: number[] }}
 */
function scale(values, isLog, from, to) {
  const usable = values.filter((value) => Number.isFinite(value) && (!isLog || value > 0));
  let low = usable.length ? Math.min(...usable) : isLog ? 0.1 : 0;
  let high = usable.length ? Math.max(...usable) : 1;
  if (isLog) {
    low = 10 ** Math.floor(Math.log10(low));
    high = 10 ** Math.ceil(Math.log10(high));
  } else if (low >= 0 && low < high * 0.5) low = 0;
  if (low === high) high = low + 1;
  /** @param {number} value */
  const share = (value) => (isLog ? Math.log10(value / low) / Math.log10(high / low) : (value - low) / (high - low));
  const ticks = [];
  if (isLog) for (let at = low; at <= high * 1.001; at *= 10) ticks.push(at);
  else {
    const rough = (high - low) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) ?? rough;
    for (let at = Math.ceil(low / step) * step; at <= high + step / 1000; at += step) ticks.push(at);
  }
  return {
    of: (value) => from + share(value) * (to - from),
    has: (value) => Number.isFinite(value) && value >= low && value <= high,
    ticks,
  };
}

/**
 * Return those ticks whose texts have room.
 * @param {ReadonlyArray<number>} ticks
 * @param {(value: number) => number} of
 * @param {number} space
 * @returns {number[]}
 */
function spaced(ticks, of, space) {
  /** @type {number[]} */
  const kept = [];
  for (const tick of ticks) {
    const last = kept.at(-1);
    if (last === undefined || Math.abs(of(tick) - of(last)) >= space) kept.push(tick);
  }
  return kept;
}

/**
 * @param {number} value
 * @returns {string}
 */
function tickText(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(0);
  return String(Number(value.toPrecision(3)));
}
