// Sleep: the stages of each night, and how long each took.

import * as api from "./api.js";
import { button, facts, h, narrow, note, s, table } from "./dom.js";
import { ZONE, addDays, clock, day, isoDay, midnight, minutes, weekday } from "./format.js";
import { timeTicks } from "./ticks.js";
import { load } from "./view.js";

const NIGHTS = 14;
const STAGES = { awake: "Awake", rem: "REM", core: "Core", deep: "Deep", asleep: "Asleep", unspecified: "Asleep, stage unknown", in_bed: "In bed" };
const LANES = { awake: 0, rem: 1, core: 2, asleep: 2, unspecified: 2, deep: 3, in_bed: 4 };
const [LANE, LEFT, TOP] = [18, 58, 4];

export async function open({ signal }) {
  const metric = (await api.get("metrics", {}, signal)).data.find(({ name }) => name === "sleep_analysis");
  if (!metric) return note("No sleep has been recorded yet.");
  const newest = addDays(midnight(isoDay(metric.last)), 1);
  const until = h("input", { type: "date", id: "until" });
  until.value = isoDay(newest);
  const place = h("div", { class: "nights" });
  const later = button("Later", () => step(NIGHTS));
  const show = () => {
    later.disabled = midnight(until.value) >= newest;
    return load(place, () => nights(midnight(until.value), signal), signal);
  };
  const step = (by) => {
    const to = addDays(midnight(until.value), by);
    until.value = isoDay(to > newest ? newest : to);
    show();
  };
  until.addEventListener("change", () => until.value && show());
  await show();
  return [
    h("div", { class: "controls" }, button("Earlier", () => step(-NIGHTS)), later, h("p", { class: "field" }, h("label", { for: "until" }, "Nights until"), until)),
    h("p", { class: "legend" }, ["awake", "rem", "core", "deep", "in_bed"].map((stage) => h("span", { class: `key stage-${stage}` }, STAGES[stage]))),
    place,
  ];
}

async function nights(until, signal) {
  const query = { start: isoDay(addDays(until, 1 - NIGHTS)), end: isoDay(addDays(until, 1)), timezone: ZONE };
  const { data } = await api.get("sleep/nights", query, signal);
  if (!data.length) return note(`No sleep was recorded from ${day(midnight(query.start))} to ${day(until)}.`);
  return [...data].sort((one, other) => other.night.localeCompare(one.night)).map(night);
}

function night(one) {
  const totals = one.totals ?? {};
  const asleep = slept(totals);
  const stages = (one.stages ?? []).filter(({ start, end }) => start && end);
  const sources = [...new Set(stages.map(({ source }) => source ?? ""))];
  const title = weekday(midnight(one.night));
  const pictures = sources.map((source) => h("div", { class: "picture" },
    sources.length > 1 ? h("p", { class: "note" }, source || "No source named") : null,
    hypnogram(one, stages.filter((stage) => (stage.source ?? "") === source), title)));
  return h("article", { class: "night", "aria-label": `Night to ${title}` },
    h("h3", {}, title, h("span", { class: "amount" }, Number.isFinite(asleep) ? ` ${minutes(asleep)} asleep` : "")),
    h("p", { class: "note" }, [one.start && one.end ? `${clock(one.start)} to ${clock(one.end)}` : null, (one.sources ?? []).filter(Boolean).join(", ")].filter(Boolean).join(", ")),
    pictures.length ? pictures : proportions(totals, title),
    facts(["awake", "rem", "core", "deep", "unspecified", "in_bed"].filter((name) => totals[name] > 0).map((name) => [STAGES[name], minutes(totals[name])]), { class: "facts totals" }),
    stages.length ? h("details", { class: "values" }, h("summary", {}, "The stages as a table"), asTable(stages, sources.length > 1)) : null);
}

function slept(totals) {
  if (Number.isFinite(totals.asleep) && totals.asleep > 0) return totals.asleep;
  const parts = [totals.core, totals.deep, totals.rem, totals.unspecified].filter(Number.isFinite);
  return parts.length ? parts.reduce((sum, part) => sum + part, 0) : totals.asleep;
}

function hypnogram(one, stages, title) {
  const wide = narrow() ? 350 : 720;
  const from = Math.min(...stages.map(({ start }) => Date.parse(start)), one.start ? Date.parse(one.start) : Infinity);
  const to = Math.max(...stages.map(({ end }) => Date.parse(end)), one.end ? Date.parse(one.end) : -Infinity);
  const x = (time) => LEFT + ((time - from) / Math.max(to - from, 1)) * (wide - LEFT - 4);
  const lanes = stages.some(({ stage }) => stage === "in_bed") ? 5 : 4;
  const bottom = TOP + lanes * LANE;
  const names = ["Awake", "REM", "Core", "Deep", "In bed"].slice(0, lanes).flatMap((text, lane) => [
    s("line", { class: "grid", x1: LEFT, x2: wide - 4, y1: TOP + (lane + 1) * LANE, y2: TOP + (lane + 1) * LANE }),
    s("text", { class: "tick", x: LEFT - 8, y: TOP + lane * LANE + 13, "text-anchor": "end" }, text)]);
  const ordered = [...stages].sort((a, b) => Date.parse(a.start) - Date.parse(b.start));
  const bars = ordered.map(({ stage, start, end }) => {
    const lane = LANES[stage] ?? 2;
    const [left, right] = [x(Date.parse(start)), x(Date.parse(end))];
    return s("rect", { class: `stage stage-${stage in LANES ? stage : "unspecified"}`, x: left.toFixed(1), y: TOP + lane * LANE + 3, width: Math.max(right - left, 1).toFixed(1), height: LANE - 6, rx: 2 },
      s("title", {}, `${STAGES[stage] ?? stage}, ${clock(start)} to ${clock(end)}`));
  });
  const hours = timeTicks(from, to, wide / 80).map(({ time }) => [
    s("line", { class: "grid", x1: x(time), x2: x(time), y1: TOP, y2: bottom }),
    s("text", { class: "tick", x: Math.min(Math.max(x(time), LEFT + 14), wide - 18), y: bottom + 15, "text-anchor": "middle" }, clock(time))]);
  return h("div", {}, s("svg", { class: "hypnogram", viewBox: `0 0 ${wide} ${bottom + 20}`, role: "img", "aria-label": `Stages of the night to ${title}; the table has them one by one` }, names, hours.flat(), bars));
}

/** A night of which only the totals are known. */
function proportions(totals, title) {
  const known = ["awake", "rem", "core", "deep", "unspecified"].filter((name) => totals[name] > 0);
  const sum = known.reduce((all, name) => all + totals[name], 0);
  if (!sum) return null;
  let at = 0;
  const bars = known.map((name) => {
    const wide = (totals[name] / sum) * 720;
    at += wide;
    return s("rect", { class: `stage stage-${name}`, x: at - wide, y: 0, width: wide, height: 14 }, s("title", {}, `${STAGES[name]}: ${minutes(totals[name])}`));
  });
  return s("svg", { class: "proportions", viewBox: "0 0 720 14", preserveAspectRatio: "none", role: "img", "aria-label": `Parts of the night to ${title}` }, bars);
}

const asTable = (stages, several) => table({
  caption: "Stages",
  rows: [...stages].sort((a, b) => Date.parse(a.start) - Date.parse(b.start)),
  columns: [
    { title: "Stage", main: true, cell: ({ stage }) => STAGES[stage] ?? stage },
    { title: "From", cell: ({ start }) => clock(start) },
    { title: "To", cell: ({ end }) => clock(end) },
    { title: "Minutes", number: true, cell: (row) => minutes(row.minutes) },
    several ? { title: "Source", cell: (row) => row.source ?? "" } : null,
  ].filter(Boolean),
});
