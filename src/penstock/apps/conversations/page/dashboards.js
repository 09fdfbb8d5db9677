// Dashboards over the warehouse of conversations, as a view of the console.

import { html } from "../console/html.js";
import * as api from "../console/api.js";
import { link } from "../console/route.js";
import { Chart } from "../console/parts/chart.js";
import { Figures } from "../console/parts/facts.js";
import { number, visible } from "../console/parts/format.js";
import { Empty } from "../console/parts/notice.js";
import { Table } from "../console/parts/table.js";

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const COLORS = ["accent", "good", "warn", "bad"];
const DOLLARS = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD" });

export const view = {
  title: "Dashboards",
  async open({ path, signal }) {
    const { data } = await api.get("api/conversations/dashboards", {}, signal);
    const names = [...new Set(data.map((one) => one.dashboard))];
    const shown = names.find((name) => name.toLowerCase() === path[0]) ?? names[0];
    const [burn, ...answers] = await Promise.all([
      api.get("api/conversations/burn", { timezone: ZONE }, signal).then((found) => found.data),
      ...data.filter((one) => one.dashboard === shown).map((one) => answerTo(one, signal)),
    ]);
    return html`
      <header class="head"><h1>Dashboards</h1></header>
      <nav class="tabs" aria-label="Dashboards">${names.map((name) => html`
        <a href=${link(["dashboards", name.toLowerCase()])} aria-current=${name === shown ? "page" : undefined}>${name}</a>`)}</nav>
      ${shown === "Costs" && html`<${Figures} figures=${figures(burn)} />`}
      <div class="grid">${answers.map((one) => html`<${Answer} key=${one.question.id} ...${one} />`)}</div>`;
  },
};

const answerTo = (question, signal) => api.get(api.path`api/conversations/questions/${question.id}`, {}, signal)
  .then((found) => found.data, (error) => {
    if (signal.aborted) throw error;
    return { question, problem: error.message };
  });

const figures = (burn) => [
  { name: "This block of five hours", value: burn.started_at ? DOLLARS.format(burn.cost_usd) : "none runs" },
  { name: "Per hour", value: DOLLARS.format(burn.cost_per_hour) },
  { name: "At the end of the block", value: DOLLARS.format(burn.projected_cost_usd) },
  { name: "This month", value: DOLLARS.format(burn.month_cost_usd) },
  { name: "At the end of the month", value: DOLLARS.format(burn.projected_month_cost_usd) },
];

function Answer({ question, columns = [], rows = [], note, problem }) {
  return html`<section class="panel stack" data-question=${question.id} aria-label=${question.title}>
    <h2>${question.title}</h2>
    ${problem || note ? html`<${Empty} title=${problem || note} />` : rows.length ? html`<${Drawn} kind=${question.kind} title=${question.title} columns=${columns} rows=${rows} />` : html`<${Empty} title="Nothing yet" />`}
    <details><summary class="soft">SQL</summary><pre>${question.sql}</pre></details>
    <p class="actions"><a href=${`api/conversations/questions/${encodeURIComponent(question.id)}?format=csv`} download>CSV</a></p>
  </section>`;
}

function Drawn({ kind, title, columns, rows }) {
  if (kind === "figure") return html`<${Figures} figures=${columns.map((name, at) => ({ name: titled(name), value: number(rows[0][at]) }))} />`;
  if (kind === "heatmap") return html`<${Heatmap} title=${title} rows=${rows} />`;
  if (kind === "table" || rows.length < 2) return html`<${Table} caption=${title} columns=${columns.map((name, at) => ({ title: titled(name), cell: (row) => cell(name, row[at]) }))} rows=${rows} keyOf=${(row) => rows.indexOf(row)} />`;
  const data = [rows.map((row) => Date.parse(row[0]) / 1000), ...columns.slice(1).map((_, at) => rows.map((row) => row[at + 1]))];
  const series = columns.slice(1).map((name, at) => ({ label: titled(name), color: COLORS[at] }));
  return html`<${Chart} label=${title} data=${data} series=${series} bars=${kind === "bars"} height=${220} />`;
}

const titled = (name) => name.replaceAll("_", " ");

function cell(name, value) {
  if (value === null || value === undefined) return "–";
  if (name === "session_id") return html`<a href=${`conversations?session=${encodeURIComponent(value)}`}>${visible(value)}</a>`;
  if (name === "project_id") return html`<a href=${`conversations?project=${encodeURIComponent(value)}`}>${visible(value)}</a>`;
  return typeof value === "number" ? number(value) : visible(value);
}

function Heatmap({ title, rows }) {
  const most = Math.max(1, ...rows.map((row) => row[2]));
  const days = [...new Set(rows.map((row) => row[0]))];
  return html`<div style=${{ overflowX: "auto" }} tabindex="0" role="region" aria-label=${title}><table><caption class="hidden-text">${title}</caption>
    <thead><tr><th></th>${Array.from({ length: 24 }, (_, hour) => html`<th scope="col">${hour}</th>`)}</tr></thead>
    <tbody>${days.map((day) => html`<tr><th scope="row">${day}</th>${rows.filter((row) => row[0] === day).map((row) => html`
      <td title=${`${day} ${row[1]}:00, ${row[2]}`} style=${{ background: `color-mix(in srgb, var(--accent) ${Math.round((row[2] / most) * 80)}%, transparent)` }}><span class="hidden-text">${row[2]}</span></td>`)}</tr>`)}</tbody></table></div>`;
}
