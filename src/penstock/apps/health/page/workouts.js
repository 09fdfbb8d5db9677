// The workouts, newest first.

import * as api from "./api.js";
import { h, table } from "./dom.js";
import { distance, duration, instant, quantity } from "./format.js";
import { paged } from "./view.js";

export async function open({ signal }) {
  const pages = paged(async (cursor) => {
    const answer = await api.get("workouts", { limit: 50, cursor }, signal);
    return { nodes: list(answer.data), next: answer.next_cursor };
  }, signal, "workouts");
  await pages.show();
  return pages.element;
}

/** A quantity of a workout: metres and kilometres read as people write them. */
export function measure(part) {
  if (part === null || part === undefined) return "";
  if (typeof part !== "object") return typeof part === "number" ? quantity(part, "") : String(part);
  if (!Number.isFinite(part.value)) return JSON.stringify(part);
  return part.unit === "m" && Math.abs(part.value) >= 1000 ? distance(part.value) : quantity(part.value, part.unit);
}

const list = (rows) => table({
  caption: "Workouts, newest first",
  rows,
  empty: "No workout has been recorded yet.",
  columns: [
    { title: "Workout", main: true, cell: (row) => h("a", { href: `#/workouts/${encodeURIComponent(row.id)}` }, row.name || "Workout") },
    { title: "Started", date: true, cell: (row) => instant(row.start) },
    { title: "Duration", number: true, cell: (row) => duration(row.duration) },
    { title: "Distance", number: true, cell: (row) => measure(row.fields?.distance) },
    { title: "Energy", number: true, cell: (row) => measure(row.fields?.active_energy ?? row.fields?.active_energy_burned) },
    { title: "Source", cell: (row) => row.source ?? "" },
    { title: "", cell: (row) => (row.has_route ? h("span", { class: "tag" }, "route") : "") },
  ],
});
