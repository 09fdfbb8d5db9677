// Where the axes of a chart are marked.

import { DAY } from "./format.js";

const HOUR = 3_600_000;
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const month = new Intl.DateTimeFormat(undefined, { month: "short" });

/** Round values from below `low` to above `high`, about `wanted` of them; only whole ones, if so. */
export function valueTicks(low, high, wanted, whole = false) {
  const rough = Math.max((high - low) / wanted, whole ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((part) => part * power).find((part) => part >= rough) ?? 10 * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** Times at which a local hour, day, month or year begins, at most `most` of them, each with its text. */
export function timeTicks(from, to, most) {
  const span = to - from;
  for (const [unit, amount, size] of STEPS) {
    if (span / size > most) continue;
    const found = [];
    for (let at = begin(new Date(from), unit, amount); at.getTime() <= to; at = after(at, unit, amount)) {
      if (at.getTime() >= from) found.push({ time: at.getTime(), text: text(at, unit) });
    }
    if (found.length) return found;
  }
  return [{ time: from, text: date.format(from) }, { time: to, text: date.format(to) }];
}

const STEPS = [
  ["minute", 1, HOUR / 60], ["minute", 5, HOUR / 12], ["minute", 15, HOUR / 4], ["minute", 30, HOUR / 2],
  ["hour", 1, HOUR], ["hour", 3, 3 * HOUR], ["hour", 6, 6 * HOUR], ["hour", 12, 12 * HOUR],
  ["day", 1, DAY], ["day", 2, 2 * DAY], ["day", 7, 7 * DAY], ["day", 14, 14 * DAY],
  ["month", 1, 30.4 * DAY], ["month", 3, 91 * DAY], ["month", 6, 182 * DAY],
  ["year", 1, 365 * DAY], ["year", 2, 730 * DAY], ["year", 5, 1826 * DAY], ["year", 10, 3652 * DAY], ["year", 50, 18_262 * DAY],
];

function begin(at, unit, amount) {
  if (unit === "minute") return new Date(Math.floor(at.getTime() / (amount * 60_000)) * amount * 60_000);
  if (unit === "hour") at.setHours(Math.floor(at.getHours() / amount) * amount, 0, 0, 0);
  else if (unit === "month") at = new Date(at.getFullYear(), Math.floor(at.getMonth() / amount) * amount, 1);
  else if (unit === "year") at = new Date(Math.floor(at.getFullYear() / amount) * amount, 0, 1);
  else at.setHours(0, 0, 0, 0);
  return at;
}

function after(at, unit, amount) {
  const next = new Date(at);
  if (unit === "minute") next.setTime(at.getTime() + amount * 60_000);
  else if (unit === "hour") {
    next.setHours(at.getHours() + amount);
    if (next.getTime() <= at.getTime()) next.setTime(at.getTime() + amount * HOUR); // the hour that comes twice in autumn
  } else if (unit === "day") next.setDate(at.getDate() + amount);
  else if (unit === "month") next.setMonth(at.getMonth() + amount);
  else next.setFullYear(at.getFullYear() + amount);
  return next;
}

function text(at, unit) {
  if (unit === "year" || (unit === "month" && at.getMonth() === 0)) return String(at.getFullYear());
  if (unit === "month") return month.format(at);
  if (unit === "day" || (unit === "hour" && at.getHours() === 0)) return date.format(at);
  return hour.format(at);
}
