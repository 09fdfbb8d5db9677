// A chart over time as SVG: bars, or lines with the band between minimum and maximum. One reads it with the pointer,
// or with the arrow keys; the table beneath it says the same.

import { h, s } from "./dom.js";
import { number } from "./format.js";
import { timeTicks, valueTicks } from "./ticks.js";

const HEIGHT = 260;
const EDGE = { top: 12, right: 10, bottom: 30, left: 50 };

/**
 * Make a chart. `series` is [{name, points: [{time, end, value, minimum, maximum, label}]}] with times in milliseconds;
 * `bars` draws from zero; `whole` marks whole numbers only; `gap` is after how long without a point a line is broken; `read(point)` says a point.
 */
export function chart({ label, series, from, to, bars = false, whole = false, gap = Infinity, read }) {
  const svg = s("svg", { class: "plot", "aria-hidden": "true" });
  const tip = h("div", { class: "tip", hidden: true });
  const readout = h("p", { class: "hidden-text", "aria-live": "polite" });
  const frame = h("div", { class: "frame", tabindex: 0, role: "group", "aria-label": `${label}. Read it with the arrow keys; the table below has the same values.` }, svg, tip);
  const element = h("figure", { class: "chart" }, frame, readout, legend(series));
  const times = [...new Set(series.flatMap((one) => one.points.map(middle)))].sort((a, b) => a - b);
  let scale = null;
  let at = -1;

  const draw = () => {
    const width = Math.max(240, frame.clientWidth);
    scale = scales(series, { bars, whole }, from, to, width);
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", HEIGHT);
    svg.replaceChildren(...axes(scale, from, to, width), ...series.flatMap((one, index) => (bars ? columns(one, scale) : line(one, index, scale, gap))), s("line", { class: "cursor" }));
    mark();
  };

  function mark() {
    const cursor = svg.querySelector(".cursor");
    const shown = at >= 0 && scale;
    cursor.setAttribute("visibility", shown ? "visible" : "hidden");
    tip.hidden = !shown;
    if (!shown) return;
    const x = scale.x(times[at]);
    for (const [name, value] of Object.entries({ x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom })) cursor.setAttribute(name, value);
    const found = series.map((one) => [one, one.points.find((point) => middle(point) === times[at])]).filter(([, point]) => point);
    const lines = found.map(([one, point]) => h("span", {}, series.length > 1 ? `${one.name}: ` : "", read(point)));
    tip.replaceChildren(h("strong", {}, found[0][1].label), ...lines);
    const left = Math.min(Math.max(x - tip.offsetWidth / 2, 0), frame.clientWidth - tip.offsetWidth);
    tip.style.transform = `translate(${left}px, 0)`;
  }
  const move = (index) => {
    at = times.length ? Math.min(Math.max(index, 0), times.length - 1) : -1;
    mark();
  };
  frame.addEventListener("pointermove", (event) => {
    if (!scale || !times.length) return;
    move(nearest(times, scale.time(event.clientX - frame.getBoundingClientRect().left)));
  });
  frame.addEventListener("pointerleave", () => {
    at = -1;
    mark();
  });
  frame.addEventListener("blur", () => {
    at = -1;
    mark();
  });
  frame.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: at < 0 ? times.length - 1 : at - 1, ArrowRight: at + 1, Home: 0, End: times.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
    readout.textContent = tip.innerText;
  });
  new ResizeObserver(draw).observe(frame);
  return element;
}

const middle = (point) => (point.end ? (point.time + point.end) / 2 : point.time);

function legend(series) {
  if (series.length < 2) return null;
  return h("figcaption", { class: "legend" }, series.map((one, index) => h("span", { class: `key line-${index}` }, one.name)));
}

function nearest(times, time) {
  let [low, high] = [0, times.length - 1];
  while (low < high) {
    const half = (low + high) >> 1;
    if (times[half] < time) low = half + 1;
    else high = half;
  }
  return low > 0 && time - times[low - 1] < times[low] - time ? low - 1 : low;
}

function scales(series, { bars, whole }, from, to, width) {
  let [low, high] = [Infinity, -Infinity];
  for (const one of series) {
    for (const { value, minimum, maximum } of one.points) {
      for (const part of [value, minimum, maximum]) {
        if (Number.isFinite(part)) [low, high] = [Math.min(low, part), Math.max(high, part)];
      }
    }
  }
  if (low > high) [low, high] = [0, 1];
  if (bars) [low, high] = [Math.min(0, low), Math.max(0, high)];
  if (low === high) [low, high] = bars ? [0, 1] : [low - 1, high + 1];
  const values = valueTicks(low, high, 5, whole);
  [low, high] = [Math.min(low, values[0]), Math.max(high, values.at(-1))];
  const [inner, tall] = [width - EDGE.left - EDGE.right, HEIGHT - EDGE.top - EDGE.bottom];
  return {
    values,
    x: (time) => EDGE.left + ((time - from) / (to - from)) * inner,
    y: (value) => EDGE.top + (1 - (value - low) / (high - low)) * tall,
    time: (x) => from + ((x - EDGE.left) / inner) * (to - from),
  };
}

function axes({ values, x, y }, from, to, width) {
  const across = values.map((value) => [
    s("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
    s("text", { class: "tick", x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)),
  ]);
  const down = timeTicks(from, to, Math.max(2, Math.floor(width / 90))).map(({ time, text }) =>
    s("text", { class: "tick", x: Math.min(Math.max(x(time), EDGE.left), width - 24), y: HEIGHT - 8, "text-anchor": "middle" }, text));
  return [...across.flat(), ...down];
}

function columns(one, { x, y }) {
  return one.points.filter((point) => Number.isFinite(point.value)).map((point) => {
    const [left, right] = [x(point.time), x(point.end ?? point.time)];
    const wide = Math.max(1, right - left - (right - left > 4 ? 1.5 : 0));
    const [top, bottom] = [Math.min(y(point.value), y(0)), Math.max(y(point.value), y(0))];
    return s("rect", { class: "bar", x: left, y: top, width: wide, height: Math.max(bottom - top, point.value ? 1 : 0), rx: wide > 6 ? 1.5 : 0 });
  });
}

function line(one, index, { x, y }, gap) {
  const points = one.points.filter((point) => Number.isFinite(point.value));
  const runs = [];
  for (const point of points) {
    const last = runs.at(-1)?.at(-1);
    if (last && middle(point) - middle(last) <= gap) runs.at(-1).push(point);
    else runs.push([point]);
  }
  const spot = (part) => (point) => `${x(middle(point)).toFixed(1)},${y(point[part] ?? point.value).toFixed(1)}`;
  const drawn = runs.flatMap((run) => {
    const banded = run.some((point) => point.minimum !== point.maximum && Number.isFinite(point.minimum) && Number.isFinite(point.maximum));
    const band = `M${run.map(spot("maximum")).join("L")}L${[...run].reverse().map(spot("minimum")).join("L")}Z`;
    return [
      banded && run.length > 1 ? s("path", { class: `band line-${index}`, d: band }) : null,
      run.length > 1 ? s("path", { class: `line line-${index}`, d: `M${run.map(spot("value")).join("L")}` }) : null,
    ].filter(Boolean);
  });
  const lone = points.length <= 60 ? points : runs.filter((run) => run.length === 1).flat();
  const dots = lone.map((point) => s("circle", { class: `dot line-${index}`, cx: x(middle(point)), cy: y(point.value), r: 2.4 }));
  return [...drawn, ...dots];
}
