// One metric: its chart, the table beneath it, single points, and files.

import * as api from "./api.js";
import { chart } from "./chart.js";
import { button, facts, h, note, table } from "./dom.js";
import { DAY, ZONE, addDays, clock, count, day, instant, isoDay, midnight, number, pretty, quantity, second } from "./format.js";
import { label } from "./metrics.js";
import { deletingPoint, deletingRange } from "./owning.js";
import { priority } from "./priority.js";
import { act, load, paged } from "./view.js";

const RANGES = [["day", "Day", 1], ["week", "Week", 7], ["month", "Month", 30], ["year", "Year", 365], ["all", "All", 0]];
const WIDTH = { hour: DAY / 24, day: DAY, week: 7 * DAY };
const NAMES = { hour: "hour", day: "day", week: "week" };
const LINES = 4;

export async function open({ id, signal, title, session }) {
  const found = (await api.get("metrics", {}, signal)).data.find((row) => row.name === id);
  if (!found) return [back(), note("There are no points of this metric.")];
  title.textContent = label(found);
  const place = h("div", { class: "shown" });
  const view = { metric: found, signal, session, source: undefined, from: null, to: null };
  const refresh = () => load(place, () => shown(view), signal);
  const controls = ranges(view, refresh);
  const files = h("div", {});
  await refresh();
  return [
    back(),
    facts([
      ["Points", count(found.count)], ["Unit", found.unit], ["First", day(found.first)], ["Last", instant(found.last)],
      [found.aggregation === "sum" ? "Latest day" : "Latest", Number.isFinite(found.latest?.value) ? quantity(found.latest.value, found.unit) : null], ["Name", h("code", {}, found.name)],
    ]),
    controls, place, downloads(view, files), files, priority(found, signal, refresh), points(view),
  ];
}

const back = () => h("p", {}, h("a", { href: "#/metrics" }, "All metrics"));

/** Buttons and dates that say which days are shown. */
function ranges(view, refresh) {
  const [first, last] = [view.metric.first, view.metric.last].map((time) => isoDay(time ?? Date.now()));
  const from = h("input", { type: "date", max: last });
  const to = h("input", { type: "date" });
  const buttons = RANGES.map(([, text, length]) => button(text, (event) => {
    choose(length);
    press(event.currentTarget);
    refresh();
  }, { "aria-pressed": "false" }));
  const press = (pressed) => buttons.forEach((one) => one.setAttribute("aria-pressed", String(one === pressed)));
  const choose = (length) => {
    to.value = last;
    from.value = length ? isoDay(addDays(midnight(last), 1 - length)) : first;
    take();
  };
  const take = () => {
    [view.from, view.to] = [midnight(from.value), addDays(midnight(to.value), 1)];
  };
  for (const input of [from, to]) {
    input.addEventListener("change", () => {
      if (!from.value || !to.value) return;
      if (from.value > to.value) (input === from ? to : from).value = input.value;
      press(null);
      take();
      refresh();
    });
  }
  choose(30);
  press(buttons[2]);
  [from.id, to.id] = ["from", "to"];
  return h("div", { class: "controls" },
    h("div", { class: "choices", role: "group", "aria-label": "Range" }, buttons),
    h("p", { class: "field" }, h("label", { for: "from" }, "From"), from),
    h("p", { class: "field" }, h("label", { for: "to" }, "To"), to));
}

function bucket({ from, to }) {
  const length = (to - from) / DAY;
  return length <= 8 ? "hour" : length <= 400 ? "day" : "week";
}

async function shown(view) {
  const { metric, from, to, signal } = view;
  const by = bucket(view);
  const query = { by, timezone: ZONE, start: from.toISOString(), end: to.toISOString() };
  const where = api.path`metrics/${metric.name}/aggregate`;
  const answer = await api.get(where, query, signal);
  const unit = answer.unit ?? metric.unit ?? "";
  const kind = answer.aggregation ?? metric.aggregation;
  let series = [{ name: label(metric), points: buckets(answer.data, by, kind) }];
  let shownUnit = kind === "event" ? "" : unit;
  if (answer.data.length && !answer.data.some((row) => Number.isFinite(row.mean) || Number.isFinite(row.sum))) {
    const names = kind === "event" ? [] : await numericFields(view);
    if (names.length) {
      const answers = await Promise.all(names.map((field) => api.get(where, { ...query, field }, signal)));
      series = answers.map((one, index) => ({ name: words(names[index]), points: buckets(one.data, by, "mean") }));
    } else {
      series = [{ name: "Number", points: buckets(answer.data, by, "event") }];
      shownUnit = "";
    }
  }
  if (!series.some((one) => one.points.length)) return note("There are no points in this range.");
  const counted = kind === "event" || series[0].name === "Number";
  const bars = kind === "sum" || counted;
  const read = (point) => reading(point, shownUnit, counted);
  const what = counted ? "how many" : kind === "sum" ? "sum" : "mean";
  return [
    chart({ label: `${label(metric)}, ${what} by ${NAMES[by]}`, series, bars, whole: counted, from: from.getTime(), to: to.getTime(), gap: kind === "last" ? Infinity : 3.5 * WIDTH[by], read }),
    h("p", { class: "note" }, `${counted ? "Number" : kind === "sum" ? "Sum" : "Mean"} by ${NAMES[by]}${shownUnit ? ` in ${shownUnit}` : ""}${bars ? "" : "; the band is from the lowest to the highest"}.`),
    h("details", { class: "values" }, h("summary", {}, "The values as a table"), aggregated(series, by, kind, counted, shownUnit)),
  ];
}

const words = (name) => name.replaceAll("_", " ");

/** The names of the numbers that the points of a metric without a value have, as blood pressure has two. */
async function numericFields(view) {
  const { data } = await api.get(api.path`metrics/${view.metric.name}`, { limit: 20, sort: "desc" }, view.signal);
  const names = new Set();
  for (const { fields } of data) {
    for (const [name, value] of Object.entries(fields ?? {})) if (typeof value === "number") names.add(name);
  }
  return [...names].slice(0, LINES);
}

function buckets(rows, by, kind) {
  return rows.map((row) => {
    const start = new Date(row.time);
    const end = by === "hour" ? start.getTime() + WIDTH.hour : addDays(start, by === "day" ? 1 : 7).getTime();
    const value = kind === "event" ? row.count : kind === "sum" ? row.sum : row.mean;
    return { time: start.getTime(), end, value, minimum: kind === "sum" || kind === "event" ? null : row.minimum, maximum: kind === "sum" || kind === "event" ? null : row.maximum, count: row.count, label: period(start, by) };
  }).filter((point) => Number.isFinite(point.value));
}

function period(start, by) {
  if (by === "hour") return `${day(start)}, ${clock(start)}`;
  return by === "day" ? day(start) : `Week of ${day(start)}`;
}

function reading(point, unit, counted) {
  if (counted) return `${count(point.value)} ${point.value === 1 ? "entry" : "entries"}`;
  const ends = Number.isFinite(point.minimum) && point.minimum !== point.maximum ? ` (${number(point.minimum)} to ${number(point.maximum)})` : "";
  return `${quantity(point.value, unit)}${ends}`;
}

function aggregated(series, by, kind, counted, unit) {
  const several = series.length > 1;
  const rows = series.flatMap((one) => one.points.map((point) => ({ ...point, name: one.name })));
  const heading = by === "hour" ? "Hour" : by === "day" ? "Day" : "Week";
  const ends = kind !== "sum" && !counted;
  rows.sort((one, other) => other.time - one.time);
  return table({
    caption: `The values of the chart${unit ? `, in ${unit}` : ""}`,
    rows,
    columns: [
      { title: heading, main: true, cell: (row) => row.label },
      several ? { title: "Value of", cell: (row) => row.name } : null,
      { title: counted ? "Number" : kind === "sum" ? "Sum" : "Mean", number: true, cell: (row) => number(row.value) },
      ends ? { title: "Lowest", number: true, cell: (row) => number(row.minimum) } : null,
      ends ? { title: "Highest", number: true, cell: (row) => number(row.maximum) } : null,
      counted ? null : { title: "Points", number: true, cell: (row) => count(row.count) },
    ].filter(Boolean),
  });
}

/** Single points, asked for when they are opened. */
function points(view) {
  const [place, told] = [h("div"), h("div", { role: "status" })];
  const details = h("details", { class: "values" }, h("summary", {}, "Single points, newest first"), told, place);
  details.addEventListener("toggle", () => {
    if (!details.open || place.childElementCount) return;
    const pages = paged(async (cursor) => {
      const answer = await api.get(api.path`metrics/${view.metric.name}`, { sort: "desc", limit: 50, cursor }, view.signal);
      return { nodes: single(answer.data, { ...view, told }), next: answer.next_cursor };
    }, view.signal, "points");
    place.append(pages.element);
    pages.show();
  });
  return details;
}

const single = (rows, view) => table({
  caption: "Single points",
  rows,
  columns: [
    { title: "Time", main: true, cell: (row) => (row.end_time && row.end_time !== row.time ? `${second(row.time)} – ${second(row.end_time)}` : second(row.time)) },
    { title: "Value", number: true, cell: (row) => said(row) },
    { title: "Counts", cell: (row) => counts(row.counted) },
    { title: "Kind", cell: (row) => row.kind ?? "" },
    { title: "Source", cell: (row) => row.source ?? "" },
    { title: "As sent", cell: (row) => h("details", { class: "sent" }, h("summary", {}, "Show"), h("pre", {}, pretty(row.original)), row.warnings?.length ? h("pre", {}, pretty(row.warnings)) : null) },
    view.session.scopes?.includes("admin") ? { title: "", cell: (row) => deletingPoint(view.metric, row, view) } : null,
  ].filter(Boolean),
});

function counts(share) {
  if (share === undefined || share === null) return "";
  const words = share > 0 ? `${Math.round(share * 100)} %` : "not added";
  return h("span", { class: "tag", title: "Another source or another grouping says the same time, or the unit is not known" }, words);
}

function said(row) {
  if (Number.isFinite(row.value)) return [quantity(row.value, row.unit), row.warnings?.length ? h("span", { class: "tag", title: "An unusual value; it was kept" }, "unusual") : null];
  const numbers = Object.entries(row.fields ?? {}).filter(([, value]) => typeof value === "number");
  return numbers.map(([name, value]) => `${words(name)} ${number(value)}`).join(", ");
}

function downloads(view, place) {
  const { metric, signal } = view;
  const name = (ending) => `${metric.name}_${isoDay(view.from)}_${isoDay(addDays(view.to, -1))}.${ending}`;
  const range = () => ({ start: view.from.toISOString(), end: view.to.toISOString() });
  const where = api.path`metrics/${metric.name}`;
  const get = (format) => (event) => act(event.currentTarget, place, async () => {
    if (format !== "json") return api.save(await api.file(where, { format, ...range() }, signal), name(format));
    const { rows } = await api.all(where, { ...range(), sort: "asc", limit: 10_000 }, signal, Infinity);
    api.save(new Blob([JSON.stringify(rows)], { type: "application/json" }), name("json"));
  });
  return h("p", { class: "actions" }, h("span", { class: "note" }, "Download this range:"),
    button("CSV", get("csv")), button("Parquet", get("parquet")), button("JSON", get("json")), deletingRange(view, place));
}
