// One workout: what it was, its series over time, and where it went.

import * as api from "./api.js";
import { chart } from "./chart.js";
import { button, facts, field, h, note, table } from "./dom.js";
import { clock, count, duration, instant, number, pretty, quantity, second, words } from "./format.js";
import { map } from "./map.js";
import { act, load } from "./view.js";
import { measure } from "./workouts.js";

const ROWS = 500;

export async function open({ id, signal, title }) {
  const { data } = await api.get(api.path`workouts/${id}`, {}, signal);
  title.textContent = data.name || "Workout";
  const [series, route] = [h("div"), h("div")];
  const scalars = Object.entries(data.fields ?? {}).filter(([name, part]) => name !== "duration" && (typeof part !== "object" || Number.isFinite(part?.value)));
  if (data.series?.length) seriesOf(data, series, signal);
  if (data.has_route) load(route, () => routeOf(data, signal), signal);
  return [
    h("p", {}, h("a", { href: "#/workouts" }, "All workouts")),
    facts([["Started", instant(data.start)], ["Ended", instant(data.end)], ["Duration", duration(data.duration)], ["Source", data.source], ...scalars.map(([name, part]) => [words(name), measure(part)])]),
    series,
    data.has_route ? h("section", { class: "part", "aria-label": "Route" }, h("h3", {}, "Route"), route) : note("No route was recorded."),
    data.original ? h("details", { class: "values" }, h("summary", {}, "As it was sent"), h("pre", {}, pretty(data.original))) : null,
  ].filter(Boolean);
}

function seriesOf(workout, place, signal) {
  const names = [...workout.series].sort((one, other) => (other === "heart_rate") - (one === "heart_rate") || one.localeCompare(other));
  const choice = h("select", { id: "series" }, names.map((name) => h("option", { value: name }, words(name))));
  const shown = h("div");
  const show = () => load(shown, () => curve(workout, choice.value, signal), signal);
  choice.addEventListener("change", show);
  place.replaceChildren(h("section", { class: "part", "aria-label": "Over time" }, h("h3", {}, "Over time"), names.length > 1 ? field("Show", choice) : h("p", { class: "note" }, words(names[0])), shown));
  show();
}

async function curve(workout, name, signal) {
  const { rows, complete } = await api.all(api.path`workouts/${workout.id}/series/${name}`, {}, signal);
  const points = rows.map((row) => ({ ...row, time: Date.parse(row.time), label: second(row.time) })).filter(({ value }) => Number.isFinite(value));
  if (!points.length) return note("This series has no values.");
  points.sort((one, other) => one.time - other.time);
  const unit = points[0].unit ?? "";
  const [from, to] = [Math.min(Date.parse(workout.start), points[0].time), Math.max(Date.parse(workout.end), points.at(-1).time)];
  const steps = points.slice(1).map((point, index) => point.time - points[index].time).sort((a, b) => a - b);
  const gap = Math.max(60_000, 8 * (steps[steps.length >> 1] ?? 0));
  const values = points.map(({ value }) => value);
  const read = (point) => `${quantity(point.value, unit)}${Number.isFinite(point.minimum) && point.minimum !== point.maximum ? ` (${number(point.minimum)} to ${number(point.maximum)})` : ""}`;
  return [
    chart({ label: `${words(name)} over the workout`, series: [{ name: words(name), points }], from, to: Math.max(to, from + 1000), gap, read }),
    note(`${count(points.length)} values from ${number(values.reduce((a, b) => Math.min(a, b)))} to ${quantity(values.reduce((a, b) => Math.max(a, b)), unit)}${complete ? "" : "; the series goes on"}.`),
    h("details", { class: "values" }, h("summary", {}, "The values as a table"), table({
      caption: `${words(name)}${unit ? `, in ${unit}` : ""}${points.length > ROWS ? `: the first ${ROWS}` : ""}`,
      rows: points.slice(0, ROWS),
      columns: [
        { title: "Time", main: true, cell: (point) => point.label },
        { title: "Value", number: true, cell: (point) => number(point.value) },
        { title: "Lowest", number: true, cell: (point) => number(point.minimum) },
        { title: "Highest", number: true, cell: (point) => number(point.maximum) },
      ],
    })),
  ];
}

async function routeOf(workout, signal) {
  const where = api.path`workouts/${workout.id}/route`;
  const { rows, complete } = await api.all(where, { format: "json" }, signal, 50);
  const place = h("div");
  const name = (ending) => `${workout.name || "workout"}_${workout.start.slice(0, 10)}.${ending}`;
  const get = (format) => (event) => act(event.currentTarget, place, async () => api.save(await api.file(where, { format }, signal), name(format)));
  const points = rows.map(({ latitude, longitude, altitude, time }) => ({ latitude, longitude, altitude, time }));
  const drawn = map(points, `Route of ${workout.name || "the workout"}`);
  if (!drawn) return note("The route has no points.");
  return [
    drawn.element,
    note(`${drawn.length} from ${clock(points[0].time)} to ${clock(points.at(-1).time)}, ${count(points.length)} points${complete ? "" : "; the route goes on"}.`),
    h("p", { class: "actions" }, h("span", { class: "note" }, "Download:"), button("GPX", get("gpx")), button("GeoJSON", get("geojson"))),
    place,
  ];
}
