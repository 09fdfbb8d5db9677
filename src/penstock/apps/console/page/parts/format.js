// Values as people read them.

import { html } from "../html.js";

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** 1234567 as "1,234,567". */
export const number = (value) => (value === null || value === undefined ? "" : NUMBER.format(value));

/** How many rows, in words. */
export const rows = (count) => `${number(count)} ${count === 1 ? "row" : "rows"}`;

/** 1234567 as "1.2M". */
export const short = (value) => (value === null || value === undefined ? "" : value < 10000 ? NUMBER.format(value) : SHORT.format(value));

/** A rate: 0.25, 12.5, 1,250. */
export const rate = (value) => (value >= 100 ? short(Math.round(value)) : value >= 10 ? value.toFixed(1) : value === 0 ? "0" : value.toFixed(2));

/** 1536 as "1.5 kB". */
export function bytes(value) {
  if (value === null || value === undefined) return "";
  let [size, unit] = [value, 0];
  while (size >= 1000 && unit < 5) [size, unit] = [size / 1000, unit + 1];
  return `${unit && size < 100 ? size.toFixed(1) : Math.round(size)} ${["bytes", "kB", "MB", "GB", "TB", "PB"][unit]}`;
}

/** 0.0123 as "12 ms". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0.001) return "< 1 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

/** "3 minutes ago". */
export function ago(moment) {
  const seconds = (new Date(moment).getTime() - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ["second", 1];
  return Math.abs(seconds) < 5 ? "just now" : AGO.format(Math.round(seconds / size), unit);
}

/** A moment as a person reads it, with the exact one behind it. */
export const Time = ({ at, relative = false }) => (at ? html`<time datetime=${at} title=${at}>${relative ? ago(at) : DATE.format(new Date(at))}</time>` : null);

/** Text with what would not be seen, or would change how the rest is read, shown as what it is. */
export const visible = (text) => String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
