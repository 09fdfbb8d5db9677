// The overview: what arrived today and from where, what is behind, what is wrong and what to do about it, and what room it takes.

import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { link } from "../route.js";
import { Chart } from "../parts/chart.js";
import { bytes, number, rate, short, visible } from "../parts/format.js";
import { Figures } from "../parts/facts.js";
import { Guide } from "../parts/guide.js";
import { condition, useStreams } from "../parts/live.js";
import { Notice, Pill } from "../parts/notice.js";
import { Table } from "../parts/table.js";

const DAYS = 7;
const MIN_BEHIND = 1000;
/** The streams that penstock keeps for itself say nothing of what a person sent. */
const OWN = new Set(["platform-audit"]);

const midnight = (days = 0) => {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - days);
};

export const view = {
  title: "Overview",
  async open({ query, signal, session }) {
    if (!session.scopes.includes("operator")) return html`<${Pages} session=${session} />`;
    const asked = { since: midnight(DAYS - 1).toISOString() };
    const [overview, streams] = await Promise.all([api.get("api/console/overview", asked, signal), api.get("api/platform/v1/streams", {}, signal)]);
    return html`<${Overview} opened=${overview.data} initial=${streams.data} session=${session} guide=${query.guide} />`;
  },
};

/** What somebody sees who may not look at streams. */
const Pages = ({ session }) => html`<header class="head"><h1>Overview</h1></header>
  <ul class="cards">${session.pages.filter((page) => page.listed && page.path !== "/").map((page) => html`<li><a class="panel" href=${page.module ? `./#${page.path}` : page.path.slice(1)}><strong>${page.title}</strong></a></li>`)}</ul>`;

function Overview({ opened, initial, session, guide }) {
  const { streams, isLive } = useStreams(initial);
  const [overview, setOverview] = useState(opened);
  useEffect(() => {
    const running = new AbortController();
    const look = () => !document.hidden && api.get("api/console/overview", { since: midnight(DAYS - 1).toISOString() }, running.signal).then(({ data }) => setOverview(data), () => {});
    const timer = setInterval(look, 60000);
    return () => {
      running.abort();
      clearInterval(timer);
    };
  }, []);
  const all = [...streams.values()].filter((one) => !OWN.has(one.id));
  const hours = overview.hours.filter((one) => !OWN.has(one.stream));
  const isEmpty = hours.length === 0 && all.every((one) => one.rows_in === 0);
  if (isEmpty || guide) return html`<header class="head"><h1>${isEmpty ? "Welcome to Penstock" : "Bring data in"}</h1>
    <p class="lead">${isEmpty ? "It runs, and waits for the first row. What it has accepted is never lost." : "Each of these works at any time."}</p></header>
    <${Problems} streams=${all} /><${Guide} streams=${all} session=${session} />`;

  const today = hours.filter((one) => new Date(one.hour) >= midnight());
  const sum = (rows, name) => rows.reduce((total, one) => total + one[name], 0);
  const behind = all.filter((one) => (one.lag ?? 0) > 0).sort((one, other) => other.lag - one.lag);
  const size = overview.storage.reduce((total, one) => total + one.bytes, 0);
  const grown = overview.storage.reduce((total, one) => total + one.bytes - one.before, 0);
  const now = all.reduce((total, one) => total + one.rates.rows_in, 0);
  const refused = sum(today, "rows_refused");
  return html`<header class="head"><h1>Overview</h1>${!isLive && html`<${Pill} kind="warn">not connected, trying again<//>`}
      <a class="button" href=${link([], { guide: "1" })}>Bring data in</a></header>
    <${Problems} streams=${all} free=${overview.free} size=${size} />
    <${Figures} figures=${[
      { name: "Arrived today", value: short(sum(today, "rows_in")), hint: `rows; ${rate(now)} a second now` },
      { name: "Behind", value: short(behind.reduce((total, one) => total + one.lag, 0)), hint: behind.length ? `most in ${behind[0].id}` : "nothing waits", kind: behind.some((one) => one.lag >= MIN_BEHIND) ? "warn" : "" },
      { name: "Refused today", value: short(refused), hint: refused ? "as dead letters, with reasons" : "every row was taken", kind: refused ? "warn" : "", href: refused ? link(["dead-letters"]) : undefined },
      { name: "Stored", value: bytes(size), hint: grown > 0 ? `${bytes(grown)} more ${since(overview)}` : overview.free === null ? "" : `${bytes(overview.free)} free` },
    ]} />
    <section class="panel"><header><h2>Rows by the hour</h2><span class="soft">the last ${DAYS} days</span></header><${Hours} hours=${hours} /></section>
    <div class="grid">
      <section class="panel"><header><h2>From where, today</h2><a href=${link(["streams"])}>All streams</a></header><${Sources} today=${today} streams=${all} /></section>
      <section class="panel"><header><h2>Storage</h2><span class="soft">${overview.free === null ? "" : `${bytes(overview.free)} free`}</span></header><${Storage} overview=${overview} /></section>
    </div>`;
}

const since = (overview) => {
  const [first] = overview.storage;
  return first?.since ? `since ${new Date(first.since).toLocaleDateString(undefined, { month: "short", day: "numeric" })}` : "";
};

/** What is wrong, in words, and what to do about it. */
function Problems({ streams, free, size }) {
  const found = streams.filter((one) => ["bad", "warn"].includes(condition(one)[1])).map((one) => {
    const [word, kind] = condition(one);
    const open = html`<a class="button" href=${link(["streams", one.id])}>Look at the stream</a>`;
    const letters = one.rows_refused > 0 && html`<a class="button" href=${link(["dead-letters"], { stream: one.id })}>See what was refused</a>`;
    if (word === "failed") return html`<${Notice} kind="bad" title=${`${one.id} has failed`} actions=${open}>${visible(one.trouble ?? "")} It is not started again by itself: mend what is said here, and restart Penstock.<//>`;
    if (word === "unwell") return html`<${Notice} kind="bad" title=${`${one.id} cannot go on`} actions=${[open, letters]}>${visible(one.trouble)}. It tries again by itself; nothing is lost meanwhile.<//>`;
    if (word === "restarting") return html`<${Notice} kind="warn" title=${`${one.id} is starting again`} actions=${open}>${visible(one.trouble ?? "It failed a moment ago.")}<//>`;
    if (word === "paused") return html`<${Notice} kind="warn" title=${`${one.id} is paused`} actions=${open}>Somebody paused it. It goes on once it is resumed.<//>`;
    return html`<${Notice} kind="warn" title=${`${one.id} runs, but`} actions=${[open, letters]}>${visible(one.note)}<//>`;
  });
  if (free !== null && free !== undefined && free < Math.max(1e9, size * 0.1)) found.unshift(html`<${Notice} kind="bad" title="The disk is nearly full">Only ${bytes(free)} are free where the data is. Make room: streams stop taking rows when it is full, and go on when it is not.<//>`);
  if (!found.length) return null;
  return html`<section class="stack" aria-label="What is wrong">${found}</section>`;
}

function Hours({ hours }) {
  const sums = new Map();
  const [first, last] = [midnight(DAYS - 1).getTime() / 1000, Math.floor(Date.now() / 3600000) * 3600];
  for (const one of hours) sums.set(new Date(one.hour).getTime() / 1000, (sums.get(new Date(one.hour).getTime() / 1000) ?? 0) + one.rows_in);
  const at = [];
  for (let hour = first; hour <= last; hour += 3600) at.push(hour);
  const total = [...sums.values()].reduce((all, one) => all + one, 0);
  return html`<${Chart} label=${`${number(total)} rows in ${DAYS} days`} height=${200} bars=${true} data=${[at, at.map((hour) => sums.get(hour) ?? 0)]} series=${[{ label: "rows" }]} />`;
}

function Sources({ today, streams }) {
  const sums = new Map();
  for (const one of today) {
    const before = sums.get(one.stream) ?? { rows: 0, refused: 0 };
    sums.set(one.stream, { rows: before.rows + one.rows_in, refused: before.refused + one.rows_refused });
  }
  const rows = [...sums].map(([id, sum]) => ({ id, ...sum, stream: streams.find((one) => one.id === id) })).sort((one, other) => other.rows - one.rows);
  return html`<${Table} caption="From where, today" rows=${rows} keyOf=${(row) => row.id} empty="Nothing has arrived today." columns=${[
    { title: "Stream", main: true, cell: (row) => (row.stream ? html`<a href=${link(["streams", row.id])}>${row.id}</a>` : visible(row.id)) },
    { title: "Rows", number: true, cell: (row) => number(row.rows) },
    { title: "Refused", number: true, cell: (row) => (row.refused ? html`<span class="warn">${number(row.refused)}</span>` : "0") },
    { title: "Behind", number: true, cell: (row) => (row.stream?.lag === null || row.stream?.lag === undefined ? "–" : short(row.stream.lag)) },
  ]} />`;
}

function Storage({ overview }) {
  const largest = Math.max(1, ...overview.storage.map((one) => one.bytes));
  const growth = (one) => (one.since === null || one.bytes - one.before === 0 ? "" : `${one.bytes > one.before ? "+" : "−"}${bytes(Math.abs(one.bytes - one.before))}`);
  return html`<ul class="meters">${overview.storage.slice(0, 8).map((one) => html`<li key=${one.place}><span>${one.place}</span><span class="soft">${growth(one)}</span><strong>${bytes(one.bytes)}</strong>
    <i aria-hidden="true"><b style=${{ width: `${Math.max(0.5, (one.bytes / largest) * 100)}%` }}></b></i></li>`)}</ul>
    <p class="soft">In <code>${overview.data}</code>${overview.database.startsWith("sqlite:") ? "" : html`; rows are in <code>${overview.database}</code>`}. ${since(overview) ? `Growth ${since(overview)}.` : ""}</p>`;
}
