// A chart of how much was said: bars, chosen by dragging or by keys.

import { h, time } from "../keys/dom.js";
import { get } from "./api.js";
import { counted } from "./lists.js";

const STEPS = { hour: "Hour", day: "Day", week: "Week", month: "Month" };
const WIDTH = 1000;
const HEIGHT = 120;
const MAX_BARS = 400;
export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

function shape(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}

/** Show a chart of what is asked for; `choose` is called with the first and the last moment of what was dragged over. */
export async function activity(asked, choose) {
  const step = STEPS[asked.step] ? asked.step : "day";
  const zone = asked.timezone || ZONE;
  const found = (await get("activity", { step, timezone: zone, q: asked.q, project: asked.project, start: asked.start, end: asked.end })).data.slice(-MAX_BARS);
  const steps = h("select", { "aria-label": "Length of a period", on: { change: () => choose({ step: steps.value }) } },
    Object.entries(STEPS).map(([key, title]) => h("option", { value: key, selected: key === step }, title)));
  const zones = h("input", { value: zone, "aria-label": "Time zone", list: "zones", spellcheck: "false", on: { change: () => choose({ timezone: zones.value.trim() }) } });
  const names = h("datalist", { id: "zones" }, (Intl.supportedValuesOf?.("timeZone") ?? []).map((name) => h("option", { value: name })));
  const clear = asked.start || asked.end ? h("button", { type: "button", on: { click: () => choose({ start: "", end: "" }) } }, "Show all times") : null;
  const controls = h("p", { class: "actions chart-controls" }, steps, zones, names, clear);
  if (!found.length) return h("section", { class: "activity", "aria-label": "Activity" }, controls, h("p", { class: "note" }, "Nothing was said in this time."));
  return h("section", { class: "activity", "aria-label": "Activity" }, bars(found, step, choose), controls);
}

function bars(found, step, choose) {
  const most = Math.max(...found.map((one) => one.prompts + one.answers + one.results));
  const width = WIDTH / found.length;
  const chart = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", class: "bars",
    "aria-label": `${counted(found.reduce((sum, one) => sum + one.prompts, 0), "prompt")} in ${counted(found.length, step)}` });
  const chosen = shape("rect", { y: 0, height: HEIGHT, width: 0, x: 0, class: "chosen" });
  found.forEach((one, place) => {
    let top = HEIGHT;
    for (const kind of ["results", "answers", "prompts"]) {
      const height = (one[kind] / most) * HEIGHT;
      top -= height;
      if (height) chart.append(shape("rect", { x: place * width + width * 0.1, width: width * 0.8, y: top, height, class: kind }));
    }
  });
  chart.append(chosen);
  const about = h("p", { class: "note", "aria-live": "off" }, time(found[0].start), " – ", time(found.at(-1).start));
  const placeOf = (event) => {
    const box = chart.getBoundingClientRect();
    return Math.max(0, Math.min(found.length - 1, Math.floor(((event.clientX - box.left) / box.width) * found.length)));
  };
  let from = null;
  const mark = (a, b) => {
    chosen.setAttribute("x", Math.min(a, b) * width);
    chosen.setAttribute("width", (Math.abs(a - b) + 1) * width);
  };
  const tell = (place) => {
    const one = found[place];
    about.replaceChildren(time(one.start), ` · ${counted(one.prompts, "prompt")}, ${counted(one.answers, "answer")}, ${counted(one.results, "result")}`);
  };
  const take = (a, b) => choose({ start: found[Math.min(a, b)].start, end: after(new Date(found[Math.max(a, b)].start), step) });
  chart.addEventListener("pointerdown", (event) => {
    from = placeOf(event);
    chart.setPointerCapture(event.pointerId);
    mark(from, from);
  });
  chart.addEventListener("pointermove", (event) => {
    tell(placeOf(event));
    if (from !== null) mark(from, placeOf(event));
  });
  chart.addEventListener("pointerup", (event) => {
    if (from === null) return;
    take(from, placeOf(event));
    from = null;
  });
  chart.addEventListener("pointercancel", () => { from = null; chosen.setAttribute("width", 0); });
  let at = found.length - 1;
  const slider = h("input", { type: "range", min: 0, max: found.length - 1, value: at, class: "chart-keys", "aria-label": "Period; Enter shows it alone",
    on: { input: () => { at = Number(slider.value); tell(at); mark(at, at); }, keydown: (event) => { if (event.key === "Enter") take(at, at); } } });
  return h("div", { class: "chart" }, chart, slider, about);
}

function after(start, step) {
  const end = new Date(start);
  if (step === "hour") end.setTime(end.getTime() + 3_600_000);
  else if (step === "month") end.setMonth(end.getMonth() + 1);
  else end.setDate(end.getDate() + (step === "week" ? 7 : 1));
  return end.toISOString();
}
