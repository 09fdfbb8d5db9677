// A result as a map: its rows where two columns say where they are, coloured by a column of numbers.

import { html } from "../html.js";
import { number } from "./format.js";
import { Map } from "./map.js";
import { refine } from "../route.js";

const MAX_POINTS = 10_000;
const LATITUDE = /^(lat|latitude)$|[_ .](lat|latitude)$|Lat(itude)?$/;
const LONGITUDE = /^(lon|lng|long|longitude)$|[_ .](lon|lng|long|longitude)$|(Lon|Lng|Long|Longitude)$/;
/** From little to much, as tokens. */
const STEPS = ["accent", "good", "warn", "bad"];

/** Return the columns that say where a row is; null where none do. */
export function coordinates({ columns, rows }) {
  const find = (named, most) => columns.findIndex((name, index) => named.test(name) && rows.some((row) => typeof row[index] === "number") && rows.every((row) => row[index] === null || Math.abs(row[index]) <= most));
  const [latitude, longitude] = [find(LATITUDE, 90), find(LONGITUDE, 360)];
  return latitude >= 0 && longitude >= 0 ? { latitude, longitude } : null;
}

export function Places({ result, query }) {
  const { latitude, longitude } = coordinates(result);
  const there = result.rows.filter((row) => typeof row[latitude] === "number" && typeof row[longitude] === "number");
  const shown = there.slice(0, MAX_POINTS);
  const numbers = result.columns.map((_, index) => index).filter((index) => index !== latitude && index !== longitude && shown.some((row) => typeof row[index] === "number"));
  const by = numbers.find((index) => result.columns[index] === query.by) ?? -1;
  const values = by < 0 ? [] : shown.map((row) => row[by]).filter((value) => typeof value === "number");
  const [least, most] = [values.reduce((one, other) => Math.min(one, other), Infinity), values.reduce((one, other) => Math.max(one, other), -Infinity)];
  const step = (value) => (typeof value !== "number" ? "soft" : STEPS[Math.min(STEPS.length - 1, Math.floor(((value - least) / (most - least || 1)) * STEPS.length))]);
  const title = (row) => result.columns.map((name, index) => `${name}: ${String(row[index] ?? "null").slice(0, 60)}`).slice(0, 6).join("\n");
  const points = shown.map((row) => ({ latitude: row[latitude], longitude: row[longitude], title: title(row), color: by < 0 ? "accent" : step(row[by]) }));
  return html`<section class="panel"><div class="actions">
      <label class="row">Colour by <select aria-label="Colour by" value=${query.by ?? ""} onChange=${(event) => refine({ by: event.target.value })}><option value="">nothing</option>${numbers.map((index) => html`<option value=${result.columns[index]}>${result.columns[index]}</option>`)}</select></label>
      ${by >= 0 && html`<span class="soft">from ${number(least)} to ${number(most)}:</span>${STEPS.map((name, index) => html`<span class="map-key" key=${name}><i class=${name} aria-hidden="true"></i>${index === 0 ? "least" : index === STEPS.length - 1 ? "most" : ""}</span>`)}`}</div>
    <${Map} label=${`${number(points.length)} rows by ${result.columns[latitude]} and ${result.columns[longitude]}`} points=${points} height=${460} version=${`${result.id}/${query.by ?? ""}`} />
    ${there.length > shown.length && html`<p class="soft">The first ${number(MAX_POINTS)} of ${number(there.length)} rows that say where they are.</p>`}</section>`;
}
