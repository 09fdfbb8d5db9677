// Numbers, times and sizes as people write them, in the language and time zone of the browser.

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
export const DAY = 86_400_000;

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const instants = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const days = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const named = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const clocks = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const since = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const digits = new Map();

export const NONE = "–";

export const count = (value) => (Number.isFinite(value) ? whole.format(value) : NONE);

/** Four significant digits are enough to read; more are in the files. */
export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  const places = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  if (!digits.has(places)) digits.set(places, new Intl.NumberFormat(undefined, { maximumFractionDigits: places }));
  return digits.get(places).format(value);
}

export const quantity = (value, unit) => (number(value) === NONE ? NONE : unit ? `${number(value)} ${unit}` : number(value));

const valid = (format, value) => {
  if (value === null || value === undefined || value === "") return NONE;
  const date = value instanceof Date ? value : new Date(value);
  return Number.isNaN(date.getTime()) ? String(value) : format(date);
};
export const instant = (value) => valid((date) => instants.format(date), value);
export const second = (value) => valid((date) => exact.format(date), value);
export const day = (value) => valid((date) => days.format(date), value);
export const weekday = (value) => valid((date) => named.format(date), value);
export const clock = (value) => valid((date) => clocks.format(date), value);

/** A date without a time, for example 2026-02-03, as the local midnight it begins with. */
export function midnight(text) {
  const [year, month, date] = String(text).split("-").map(Number);
  return new Date(year, month - 1, date);
}

/** The local date of a time as the value of a date input. */
export function isoDay(value) {
  const date = new Date(value);
  const two = (part) => String(part).padStart(2, "0");
  return `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export const addDays = (value, amount) => {
  const date = new Date(value);
  date.setDate(date.getDate() + amount);
  return date;
};

export function bytes(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value < 1000) return `${value} B`;
  const units = ["kB", "MB", "GB", "TB"];
  const step = Math.min(units.length, Math.floor(Math.log10(value) / 3));
  return `${number(Number((value / 1000 ** step).toPrecision(3)))} ${units[step - 1]}`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const total = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  if (hours) return `${hours} h ${String(minutes).padStart(2, "0")} min`;
  return minutes ? `${minutes} min${rest && minutes < 10 ? ` ${rest} s` : ""}` : `${rest} s`;
}

export const minutes = (value) => (Number.isFinite(value) ? duration(Math.round(value) * 60) : NONE);

export function distance(metres) {
  if (!Number.isFinite(metres)) return NONE;
  return metres < 1000 ? `${whole.format(metres)} m` : `${number(Number((metres / 1000).toPrecision(4)))} km`;
}

export function ago(value) {
  return valid((date) => {
    const gone = (date.getTime() - Date.now()) / 1000;
    for (const [unit, size] of [["year", 31_557_600], ["month", 2_629_800], ["day", 86_400], ["hour", 3600], ["minute", 60]]) {
      if (Math.abs(gone) >= size) return since.format(Math.trunc(gone / size), unit);
    }
    return "just now";
  }, value);
}

/** A name of the catalogue for people who do not know it: heart_rate becomes Heart rate. */
export function words(name) {
  const text = String(name ?? "").replaceAll("_", " ").trim();
  return text ? text[0].toUpperCase() + text.slice(1) : NONE;
}

export const pretty = (value) => {
  if (typeof value !== "string") return JSON.stringify(value, null, 2) ?? "";
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
};
