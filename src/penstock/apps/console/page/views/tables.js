// The tables: all of them, and each by its rows, page by page as they are scrolled to.

import { html, useEffect, useMemo, useState } from "../html.js";
import * as api from "../api.js";
import { Dialog } from "../parts/dialog.js";
import { Facts } from "../parts/facts.js";
import { bytes, number, visible } from "../parts/format.js";
import { Empty, Notice, Pill } from "../parts/notice.js";
import { DataTable, Table } from "../parts/table.js";
import { Schema } from "../parts/schema.js";
import { cell, isNumber, quoted } from "../parts/values.js";
import { link, refine } from "../route.js";

const ROOT = "api/platform/v1/tables";
const PAGE = 200;
const MAX_LISTED = 300;
const OPERATIONS = [["eq", "is"], ["ne", "is not"], ["contains", "contains"], ["starts", "begins with"], ["gt", "is more than"], ["ge", "is at least"], ["lt", "is less than"], ["le", "is at most"], ["null", "is empty"], ["notnull", "is not empty"]];
const FORMATS = [["csv", "CSV"], ["json", "JSON"], ["jsonl", "JSON Lines"], ["parquet", "Parquet"]];

export const view = {
  title: "Tables",
  async open({ path, query, signal }) {
    const [place, table] = path;
    if (table === undefined) return html`<${List} listing=${await listed(query, signal)} filter=${query.filter ?? ""} />`;
    const { data } = await api.get(api.path`api/platform/v1/tables/${place}/schema`, { table }, signal);
    return html`<${Browse} key=${`${place}/${table}`} schema=${data} query=${query} />`;
  },
};

const list = { data: null, filter: "" };

/** Return all tables; while a name is typed, those that are there already. */
async function listed(query, signal) {
  const filter = query.filter ?? "";
  if (!list.data || filter === list.filter) list.data = (await api.get(ROOT, {}, signal)).data;
  list.filter = filter;
  return list.data;
}

function List({ listing, filter }) {
  const tables = listing.tables.filter((one) => `${one.place}.${one.name}`.toLowerCase().includes(filter.toLowerCase()));
  const of = (place) => tables.filter((one) => one.place === place.name);
  const troubles = listing.places.filter((one) => one.trouble);
  return html`<header class="head"><h1>Tables</h1>
      <input type="search" aria-label="Find a table" placeholder="Find a table" value=${filter} onInput=${(event) => refine({ filter: event.target.value })} />
      <a class="button" href=${link(["sql"])}>Query with SQL</a></header>
    ${troubles.map((one) => html`<${Notice} kind="bad" title=${`${one.name} does not answer`}>${one.trouble}<//>`)}
    ${listing.tables.length === 0 ? html`<${Empty} title="There are no tables yet">They are made with the first row: send one, or drop a file.<//>` : listing.places.filter((place) => of(place).length).map((place) => html`<section class="panel" key=${place.name}>
      <header><h2>${place.name}</h2><span class="soft">${place.engine}${place.bytes ? `, ${bytes(place.bytes)}` : ""}</span></header>
      <${Table} caption=${`Tables of ${place.name}`} keyOf=${(row) => row.name} rows=${of(place).slice(0, MAX_LISTED)} columns=${[
        { title: "Table", main: true, cell: (row) => html`<a href=${link(["tables", row.place, row.name])}>${visible(row.name)}</a>${row.kind === "view" && html` <span class="soft">view</span>`}` },
        { title: "Rows", number: true, cell: (row) => (row.rows === null ? "–" : `${row.is_exact ? "" : "about "}${number(row.rows)}`) },
        { title: "Columns", number: true, cell: (row) => number(row.columns) },
        { title: "Size", number: true, cell: (row) => (row.bytes === null ? "–" : bytes(row.bytes)) },
        { title: "Written by", cell: (row) => row.writers.map((id) => html`<a href=${link(["streams", id])}>${id}</a> `) },
      ]} />
      ${of(place).length > MAX_LISTED && html`<p class="soft">The first ${number(MAX_LISTED)} of ${number(of(place).length)} tables: find others by their names.</p>`}</section>`)}
    ${listing.tables.length > 0 && tables.length === 0 && html`<${Empty} title="No table is called like this">Another part of its name may find it.<//>`}`;
}

/** What asks for the rows of one question, a page behind the other. */
class Pager {
  constructor(place, query, told) {
    this.place = place;
    this.query = query;
    this.told = told;
    this.cursors = [undefined];
    this.count = PAGE;
    this.isEmpty = false;
  }

  async load(offset) {
    const page = offset / PAGE;
    if (page > 0 && !this.cursors[page]) return [];
    try {
      const { data, next_cursor: next } = await api.get(api.path`api/platform/v1/tables/${this.place}/rows`, { ...this.query, limit: PAGE, cursor: this.cursors[page] });
      const cut = new Set(data.cut.map(([row, column]) => `${row}/${column}`));
      this.cursors[page + 1] = next;
      this.count = offset + data.rows.length + (next ? PAGE : 0);
      this.isEmpty = this.count === 0;
      this.told({ note: data.note, problem: null });
      return data.rows.map((cells, row) => ({ cells, key: data.keys?.[row], isCut: (column) => cut.has(`${row}/${column}`) }));
    } catch (problem) {
      this.count = offset;
      this.told({ note: null, problem: problem.message });
      throw problem;
    }
  }
}

function Browse({ schema, query }) {
  const { place, name } = schema;
  const where = read(query.where);
  const question = { table: name, where: where.length ? JSON.stringify(where) : undefined, search: query.search };
  const chosen = read(query.columns);
  const asked = { ...question, sort: query.sort, descending: query.descending, columns: chosen.length ? JSON.stringify(chosen) : undefined };
  const version = JSON.stringify(asked);
  const [said, told] = useState({});
  const pager = useMemo(() => new Pager(place, asked, told), [version]);
  const columns = chosen.length ? schema.columns.filter((one) => chosen.includes(one.name)) : schema.columns.slice(0, PAGE);
  const tab = query.tab ?? "rows";
  const from = schema.engine === "sqlite" || schema.engine === "postgres" ? `${place === "rows" ? "" : `${quoted(place)}.`}${quoted(name)}` : quoted(name);
  const sort = (key) => refine(query.sort !== key ? { sort: key, descending: null } : query.descending ? { sort: null, descending: null } : { descending: "true" });
  const filter = (added) => refine({ where: JSON.stringify([...where, added]), row: null });
  return html`<header class="head"><p class="crumb"><a href=${link(["tables"])}>Tables</a> / ${place}</p><h1>${visible(name)}</h1>
      <${Pill}>${schema.rows === null ? schema.kind : `${schema.is_exact ? "" : "about "}${number(schema.rows)} row${schema.rows === 1 ? "" : "s"}`}<//>
      <a class="button" href=${link(["sql"], { sql: `SELECT * FROM ${from} LIMIT 1000`, place, as: "chart" })}>Chart</a>
      <a class="button" href=${link(["sql"], { sql: `SELECT * FROM ${from} LIMIT 100`, place })}>SQL</a>
      <span class="actions" role="group" aria-label="Download">${FORMATS.map(([format, title]) => html`<a class="chip" download href=${api.address(api.path`api/platform/v1/tables/${place}/download`, { ...question, format })}>${title}</a>`)}</span></header>
    <nav class="tabs" aria-label="Views of the table"><a href=${link(["tables", place, name], { ...query, tab: null })} aria-current=${tab === "rows" ? "page" : undefined}>Rows</a><a href=${link(["tables", place, name], { ...query, tab: "schema" })} aria-current=${tab === "schema" ? "page" : undefined}>Schema</a></nav>
    ${tab === "schema" ? html`<${Schema} schema=${schema} />` : html`
      <${Conditions} schema=${schema} where=${where} query=${query} add=${filter} />
      ${said.problem && html`<${Notice} kind="bad" title="These rows cannot be shown">${said.problem}<//>`}
      ${said.note && html`<${Notice} kind="warn">${said.note}<//>`}
      ${schema.columns.length > columns.length && html`<${Notice}>${number(columns.length)} of ${number(schema.columns.length)} columns are shown. <a href=${link(["tables", place, name], { tab: "schema" })}>Choose others</a>, or open a row.<//>`}
      ${query.facet && html`<${FacetPanel} schema=${schema} question=${question} column=${query.facet} add=${filter} />`}
      ${pager.isEmpty ? html`<${Empty} title="No rows">${where.length || query.search ? "No row fits these conditions." : "Nothing was written yet."}<//>` : html`<${DataTable} caption=${`Rows of ${name}`} height=${600} version=${version} count=${pager.count} load=${(offset) => pager.load(offset)}
        sort=${query.sort ? { key: query.sort, descending: Boolean(query.descending) } : undefined} onSort=${sort} onRow=${(row) => row.key && refine({ row: row.key })}
        columns=${columns.map((column, index) => ({ key: column.name, title: visible(column.name), sortable: true, number: isNumber(column.type), cell: (row) => cell(row.cells[index], row.isCut(index)) }))} />`}
      ${query.row && html`<${Row} schema=${schema} id=${query.row} />`}`}`;
}

function Conditions({ schema, where, query, add }) {
  const [operation, setOperation] = useState("eq");
  const hasValue = !["null", "notnull"].includes(operation);
  const submit = (event) => {
    event.preventDefault();
    const { column, value } = Object.fromEntries(new FormData(event.target));
    add(hasValue ? [column, operation, value] : [column, operation]);
  };
  const search = (event) => {
    event.preventDefault();
    refine({ search: new FormData(event.target).get("search"), row: null });
  };
  const without = (index) => refine({ where: where.length > 1 ? JSON.stringify(where.filter((_, at) => at !== index)) : null });
  const names = schema.columns.slice(0, 2000);
  return html`<div class="table-tools"><form class="row" role="search" onSubmit=${search}><input type="search" name="search" aria-label="Search the rows" placeholder=${schema.is_searched ? "Words" : "Text in any column"} value=${query.search ?? ""} /><button type="submit">Search</button></form>
      <form class="row wrap" aria-label="Add a condition" onSubmit=${submit}>
        <select name="column" aria-label="Column">${names.map((one) => html`<option value=${one.name}>${visible(one.name)}</option>`)}</select>
        <select aria-label="Comparison" value=${operation} onChange=${(event) => setOperation(event.target.value)}>${OPERATIONS.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select>
        ${hasValue && html`<input name="value" aria-label="Value" placeholder="value" />`}<button type="submit">Filter</button></form>
      <label class="row">Values of <select aria-label="Count the values of" value=${query.facet ?? ""} onChange=${(event) => refine({ facet: event.target.value })}><option value="">–</option>${names.map((one) => html`<option value=${one.name}>${visible(one.name)}</option>`)}</select></label></div>
    ${where.length > 0 && html`<ul class="conditions" aria-label="Conditions">${where.map(([column, how, value], index) => html`<li><span>${visible(column)} ${OPERATIONS.find(([one]) => one === how)?.[1] ?? how} ${value === undefined ? "" : html`<b>${visible(value)}</b>`}</span>
      <button type="button" class="plain" aria-label=${`Remove the condition on ${column}`} onClick=${() => without(index)}>×</button></li>`)}</ul>`}`;
}

function FacetPanel({ schema, question, column, add }) {
  const [facet, setFacet] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const gone = new AbortController();
    setFacet(null);
    setProblem("");
    api.get(api.path`api/platform/v1/tables/${schema.place}/facet`, { ...question, column }, gone.signal).then(({ data }) => setFacet(data), (error) => error.name !== "AbortError" && setProblem(error.message));
    return () => gone.abort();
  }, [column, JSON.stringify(question)]);
  const most = Math.max(1, ...(facet?.values ?? []).map((one) => one.count));
  return html`<section class="panel" aria-label=${`Values of ${column}`}><header><h2>${visible(column)}</h2>${facet && html`<span class="soft">${facet.is_sample ? "of the first " : "of "}${number(facet.rows)} rows</span>`}
      <button type="button" class="plain" aria-label="Close" onClick=${() => refine({ facet: null })}>×</button></header>
    ${problem && html`<${Notice} kind="bad">${problem}<//>`}
    ${facet && html`<ul class="bars">${facet.values.map((one) => html`<li><button type="button" class="plain" disabled=${one.is_cut} onClick=${() => add(one.value === null ? [column, "null"] : [column, "eq", one.value])}>${cell(one.value, one.is_cut)}</button>
      <span class="bar" style=${{ width: `${(100 * one.count) / most}%` }}></span><span class="number">${number(one.count)}</span></li>`)}</ul>`}</section>`;
}

function Row({ schema, id }) {
  const [row, setRow] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const gone = new AbortController();
    api.get(api.path`api/platform/v1/tables/${schema.place}/row`, { table: schema.name, key: id }, gone.signal).then(({ data }) => setRow(data), (error) => error.name !== "AbortError" && setProblem(error.message));
    return () => gone.abort();
  }, [id]);
  const value = (content, index) => (content === null ? html`<span class="soft">null</span>` : html`<span class="whole">${visible(content)}${row.cut.includes(index) ? "…" : ""}</span>`);
  return html`<${Dialog} title="Row" wide close=${() => refine({ row: null })}>
    ${problem && html`<${Notice} kind="bad">${problem}<//>`}
    ${row && html`<${Facts} wide pairs=${row.columns.map((column, index) => [html`${visible(column.name)} <span class="soft">${column.type}</span>`, value(row.cells[index], index)])} />
      <h3>Where it came from</h3>
      <${Facts} pairs=${[...Object.entries(row.origin).map(([name, content]) => [name.replace("__meta_", ""), content === null ? null : visible(content)]), ["written by", row.writers.length ? row.writers.map((one) => html`<a href=${link(["streams", one])}>${one}</a> `) : "no stream that runs here"]]} />`}
    <p class="actions end"><button type="button" onClick=${(event) => event.target.closest("dialog").close()}>Close</button></p><//>`;
}

function read(text) {
  try {
    const found = JSON.parse(text ?? "[]");
    return Array.isArray(found) ? found : [];
  } catch {
    return [];
  }
}

