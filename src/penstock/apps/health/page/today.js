// Today, in the console: each figure of a day with its trend against the usual, and a line of the last four weeks.

import { html } from "../console/html.js";
import * as api from "../console/api.js";
import { Empty } from "../console/parts/notice.js";
import { Spark } from "../console/parts/spark.js";

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const DAYS = 29; // today, and four weeks that are the usual
const MIN_USUAL = 5;
const STEADY = 0.03;

const whole = (value) => Intl.NumberFormat(undefined, { maximumFractionDigits: 0 }).format(value);
const one = (value) => Intl.NumberFormat(undefined, { maximumFractionDigits: 1 }).format(value);
const minutes = (value) => (value < 60 ? `${Math.round(value)} min` : `${Math.floor(Math.round(value) / 60)} h ${Math.round(value) % 60} min`);
const plain = (digits) => (value, unit) => [digits(value), unit];

/** What is shown, in this order: the first metric of `names` that there is. `better` is the direction that most people want. */
const FIGURES = [
  { title: "Steps", names: ["step_count"], show: (value) => [whole(value), "steps"] },
  { title: "Active energy", names: ["active_energy", "active_energy_burned"], show: plain(whole) },
  { title: "Exercise", names: ["apple_exercise_time"], show: (value) => [minutes(value), ""] },
  { title: "Stand", names: ["apple_stand_hour", "apple_stand_time"], show: (value, unit) => (unit === "min" ? [minutes(value), ""] : [whole(value), "hours"]) },
  { title: "Walking and running", names: ["walking_running_distance"], show: (value, unit) => (unit === "m" ? [one(value / 1000), "km"] : [one(value), unit]) },
  { title: "Sleep", sleep: true, show: (value) => [minutes(value), ""] },
  { title: "Resting heart rate", names: ["resting_heart_rate"], show: (value) => [whole(value), "beats a minute"] },
  { title: "Heart rate variability", names: ["heart_rate_variability", "heart_rate_variability_sdnn"], show: plain(whole) },
  { title: "Weight", names: ["weight_body_mass", "body_mass"], show: plain(one), isKept: true },
];

export const view = {
  title: "Health",
  async open({ signal }) {
    const { data: metrics } = await api.get("api/v1/metrics", {}, signal);
    const figures = await Promise.all(FIGURES.map((figure) => read(figure, metrics, signal)));
    const known = figures.filter(Boolean);
    return html`<header class="head"><h1>Today</h1><a class="button" href="health-data#/metrics">All metrics</a></header>
      ${known.length === 0 ? html`<${Empty} title="Nothing has arrived from a phone yet"><a href="#/?guide=1">Connect a phone</a>, and today is here within minutes.<//>` : html`<${Cards} figures=${known} />`}`;
  },
};

const two = (part) => String(part).padStart(2, "0");
/** The date of some days ago, here, as 2026-02-03. */
function dayOf(ago) {
  const now = new Date();
  const then = new Date(now.getFullYear(), now.getMonth(), now.getDate() - ago);
  return `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())}`;
}

/** Return a figure with its values by day, the oldest first and null where nothing is known; null for one that nobody sends. */
async function read(figure, metrics, signal) {
  if (figure.sleep) {
    const { data } = await api.get("api/v1/sleep/nights", { start: dayOf(DAYS - 1), timezone: ZONE }, signal);
    if (!data.length) return null;
    return filled({ ...figure, unit: "min", adds: false, href: "health-data#/sleep" }, data.map((night) => [night.night, asleep(night.totals)]));
  }
  const metric = figure.names.map((name) => metrics.find((one) => one.name === name)).find(Boolean);
  if (!metric) return null;
  const { data } = await api.get(api.path`api/v1/metrics/${metric.name}/aggregate`, { by: "day", timezone: ZONE, start: dayOf(DAYS - 1) }, signal);
  const adds = metric.aggregation === "sum";
  const shown = filled({ ...figure, unit: metric.unit, adds, href: `health-data#/metrics/${encodeURIComponent(metric.name)}` },
    data.map((bucket) => [bucket.time.slice(0, 10), adds ? bucket.sum : bucket.mean]));
  return shown ?? { ...figure, unit: metric.unit, adds, href: `health-data#/metrics/${encodeURIComponent(metric.name)}`, last: metric.last, values: [] };
}

/** The minutes of a night in which somebody slept: not those in bed, and none twice. */
function asleep(totals) {
  return totals.asleep > 0 ? totals.asleep : null;
}

function filled(figure, pairs) {
  const known = new Map(pairs.filter(([, value]) => value !== null && value !== undefined));
  if (!known.size) return null;
  const values = [];
  for (let ago = DAYS - 1; ago >= 0; ago -= 1) values.push(known.get(dayOf(ago)) ?? null);
  return { ...figure, values };
}

const Cards = ({ figures }) => html`<ul class="figure-cards">${figures.map((figure) => html`<${Card} key=${figure.title} figure=${figure} />`)}</ul>`;

function Card({ figure }) {
  const at = figure.values.findLastIndex((value) => value !== null);
  if (at < 0) return html`<li class="panel figure-card"><h2><a href=${figure.href}>${figure.title}</a></h2><p class="soft">Nothing in the last four weeks; the last was on ${new Date(figure.last).toLocaleDateString(undefined, { dateStyle: "medium" })}.</p></li>`;
  const ago = figure.values.length - 1 - at;
  const [value, unit] = figure.show(figure.values[at], figure.unit);
  const when = ago === 0 ? (figure.sleep ? "last night" : figure.adds ? "so far today" : "today") : ago === 1 ? "yesterday" : `${ago} days ago`;
  return html`<li class="panel figure-card"><h2><a href=${figure.href}>${figure.title}</a></h2>
    <p class="figure-value"><strong>${value}</strong> <span>${unit}</span></p>
    <p class="soft">${when}${ago > 1 ? ", the newest there is" : ""}</p>
    <${Spark} values=${figure.values} width=${260} height=${44} label=${`${figure.title} of the last four weeks`} />
    <p class="figure-trend">${trend(figure, at, ago)}</p></li>`;
}

/** Say how the last days stand to the usual: the mean of the four weeks before. A day that is not over is not compared. */
function trend(figure, at, ago) {
  const over = figure.adds && ago === 0 ? at - 1 : at;
  const before = figure.values.slice(0, Math.max(0, over)).filter((value) => value !== null);
  const latest = figure.values[over];
  if (before.length < MIN_USUAL || latest === null || latest === undefined) return "Too few days to know what is usual.";
  const usual = before.reduce((sum, value) => sum + value, 0) / before.length;
  const [value, unit] = figure.show(usual, figure.unit);
  const share = usual ? (latest - usual) / Math.abs(usual) : 0;
  const whose = over === at ? "" : "Yesterday ";
  const much = Math.abs(share) < STEADY ? "about as usual" : `${whole(Math.abs(share) * 100)} % ${share > 0 ? "above" : "below"} the usual`;
  return html`<span>${whose ? whose + much : much[0].toUpperCase() + much.slice(1)}</span> <span class="soft">${`${value} ${unit}`.trim()} on average</span>`;
}
