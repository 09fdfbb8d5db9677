// What became of the points of an ingest.

import { h } from "./dom.js";
import { count } from "./format.js";

export const STATES = { accepted: "Waiting", processing: "Being stored", processed: "Stored", failed: "Unreadable" };

/** The five numbers as a table over types, or null if there are none. */
export function perType(types) {
  return Object.entries(types ?? {})
    .map(([type, counts]) => ({ type, ...counts }))
    .sort((one, other) => other.received - one.received || one.type.localeCompare(other.type));
}

const some = (value) => (value ? count(value) : h("span", { class: "zero" }, count(value)));

export const COLUMNS = [
  { title: "Received", number: true, cell: (row) => count(row.received) },
  { title: "Stored", number: true, cell: (row) => some(row.stored) },
  { title: "Updated", number: true, cell: (row) => some(row.updated) },
  { title: "Unchanged", number: true, cell: (row) => some(row.unchanged) },
  { title: "Quarantined", number: true, cell: (row) => (row.quarantined ? h("strong", { class: "bad" }, count(row.quarantined)) : some(row.quarantined)) },
];

/** For example: 12 received: 10 stored, 2 quarantined. */
export function sentence(counts) {
  const parts = ["stored", "updated", "unchanged", "quarantined"].filter((name) => counts?.[name]).map((name) => `${count(counts[name])} ${name}`);
  return `${count(counts?.received ?? 0)} received${parts.length ? `: ${parts.join(", ")}` : ""}`;
}

export const state = (ingest) => h("span", { class: `state ${ingest.state in STATES ? ingest.state : ""}` }, STATES[ingest.state] ?? ingest.state);

/** How far an ingest is, of the answer that says so. */
export function outcome(answer) {
  const { state, attempt, message, received, stored, updated, unchanged, quarantined, quarantined_points } = answer;
  return { state, attempt, message, counts: { received, stored, updated, unchanged, quarantined }, quarantined: quarantined_points ?? [] };
}
