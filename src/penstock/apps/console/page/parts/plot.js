// A result as a chart: over time where a column is one, else as bars.

import { html } from "../html.js";
import { Chart } from "./chart.js";
import { Notice } from "./notice.js";
import { cell } from "./values.js";
import { refine } from "../route.js";

const COLOURS = ["accent", "good", "warn", "bad", "soft"];
const MAX_BARS = 100;
const DATE = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|[+-]\d\d(:?\d\d)?))?)?$/;

const moment = (value) => (typeof value === "string" && DATE.test(value) ? Date.parse(value.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00")) / 1000 : NaN);

/** Return the columns that hold numbers, and the one that is drawn to the right. */
function axes({ columns, rows }, query) {
  const all = columns.map((_, index) => index);
  const filled = (index) => rows.map((row) => row[index]).filter((value) => value !== null);
  const are = (index, test) => filled(index).length > 0 && filled(index).every(test);
  const times = all.filter((index) => are(index, (value) => Number.isFinite(moment(value))));
  const numbers = all.filter((index) => are(index, (value) => typeof value === "number"));
  const asked = columns.indexOf(query.x ?? "");
  const right = asked >= 0 ? asked : times[0] ?? all.find((index) => !numbers.includes(index)) ?? -1;
  const wanted = columns.indexOf(query.y ?? "");
  const values = numbers.filter((index) => index !== right);
  return { right, isTime: times.includes(right), values, up: values.includes(wanted) ? [wanted] : values.slice(0, COLOURS.length) };
}

export function Plot({ result, query }) {
  const { right, isTime, values, up } = axes(result, query);
  if (!values.length) return html`<${Notice} kind="warn" title="There is nothing to draw">A chart needs a column of numbers.<//>`;
  const choose = (label, name, options, value) => html`<label class="row">${label} <select aria-label=${label} value=${value} onChange=${(event) => refine({ [name]: event.target.value })}>${options.map(([one, title]) => html`<option value=${one}>${title}</option>`)}</select></label>`;
  return html`<section class="panel"><div class="actions">
      ${choose("Draw", "y", [["", "all numbers"], ...values.map((index) => [result.columns[index], result.columns[index]])], query.y ?? "")}
      ${choose("by", "x", [["", right < 0 ? "row" : result.columns[right]], ...result.columns.map((name) => [name, name])], query.x ?? "")}</div>
    ${isTime ? html`<${Timeline} result=${result} right=${right} up=${up} />` : html`<${Bars} result=${result} right=${right} up=${up[0]} />`}</section>`;
}

function Timeline({ result, right, up }) {
  const rows = result.rows.filter((row) => row[right] !== null).sort((a, b) => moment(a[right]) - moment(b[right]));
  const data = [rows.map((row) => moment(row[right])), ...up.map((index) => rows.map((row) => row[index]))];
  return html`<${Chart} label=${`${up.map((index) => result.columns[index]).join(", ")} over ${result.columns[right]}`} height=${320} data=${data} series=${up.map((index, at) => ({ label: result.columns[index], color: COLOURS[at] }))} />`;
}

function Bars({ result, right, up }) {
  const rows = result.rows.slice(0, MAX_BARS);
  const most = Math.max(...rows.map((row) => Math.abs(row[up] ?? 0)), 1e-12);
  return html`<ul class="bars" aria-label=${`${result.columns[up]} by ${right < 0 ? "row" : result.columns[right]}`}>${rows.map((row, at) => html`<li><span>${right < 0 ? at + 1 : cell(row[right])}</span>
    <span class="bar" style=${{ width: `${(100 * Math.abs(row[up] ?? 0)) / most}%` }}></span><span class="number">${cell(row[up])}</span></li>`)}</ul>
    ${result.rows.length > MAX_BARS && html`<p class="soft">The first ${MAX_BARS} rows.</p>`}`;
}
