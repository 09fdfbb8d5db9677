// SQL that only reads: an editor, its result as a table or a chart, queries that are kept.

import { html, useEffect, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { ask } from "../parts/dialog.js";
import { Editor } from "../parts/editor.js";
import { duration, number, visible } from "../parts/format.js";
import { Empty, Notice } from "../parts/notice.js";
import { Places, coordinates } from "../parts/places.js";
import { Plot } from "../parts/plot.js";
import { DataTable } from "../parts/table.js";
import { toast } from "../parts/toast.js";
import { cell } from "../parts/values.js";
import { link, refine, reload } from "../route.js";

const FORMATS = [["csv", "CSV"], ["json", "JSON"], ["parquet", "Parquet"]];

export const view = {
  title: "SQL",
  async open({ query, signal }) {
    const [listing, saved] = await Promise.all([api.get("api/platform/v1/tables", {}, signal), api.get("api/platform/v1/queries", {}, signal)]);
    return html`<${Workbench} listing=${listing.data} saved=${saved.data} query=${query} />`;
  },
};

let isLed = false; // whether a query was run here by hand: what a link from elsewhere asks for waits for that

function Workbench({ listing, saved, query }) {
  const places = listing.places.filter((one) => one.is_queried);
  const place = query.place ?? places[0]?.name ?? "rows";
  const first = listing.tables.find((one) => one.place === place);
  const [sql, setSql] = useState(query.sql ?? "");
  const [state, setState] = useState({});
  const [version, setVersion] = useState(0);
  const running = useRef(null);
  const ran = useRef(query.sql);
  useEffect(() => {
    if (query.sql === ran.current) return; // what stands there already, and may have been written on
    setSql(query.sql ?? "");
    setVersion(version + 1);
  }, [query.sql]);
  useEffect(() => {
    if (query.sql && isLed) run(query.sql);
  }, []);
  useEffect(() => () => void stop(), []);

  const stop = async () => {
    const id = running.current;
    while (id && running.current === id) { // asked before it has begun, it would go on
      const { data } = await api.send("POST", api.path`api/platform/v1/sql/${id}/cancel`).catch(() => ({ data: { was_running: true } }));
      if (data.was_running) return;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  const run = async (text) => {
    if (!text.trim() || running.current) return;
    isLed = true;
    const id = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    running.current = id;
    setState({ isRunning: true });
    try {
      const { data } = await api.send("POST", "api/platform/v1/sql", { sql: text, place, id });
      setState({ result: { ...data, id }, of: text });
    } catch (problem) {
      setState({ problem: problem.message });
    } finally {
      running.current = null;
    }
  };
  const start = () => {
    ran.current = sql;
    refine({ sql, place });
    run(sql);
  };
  const keep = async () => {
    const given = await ask({ title: "Keep this query", verb: "Keep", fields: [{ name: "name", label: "Name", required: true, maxlength: 200 }] });
    if (!given) return;
    ran.current = sql;
    await api.send("POST", "api/platform/v1/queries", { name: given.name, sql, place });
    toast("The query is kept");
    refine({ sql, place });
    reload();
  };
  const forget = async (one) => {
    if (!(await ask({ title: `Delete “${one.name}”?`, verb: "Delete", danger: true }))) return;
    await api.send("DELETE", api.path`api/platform/v1/queries/${one.id}`);
    reload();
  };
  const { result } = state;
  const hasPlaces = Boolean(result?.rows.length && coordinates(result));
  const as = query.as === "map" && !hasPlaces ? "table" : query.as ?? "table";
  return html`<header class="head"><h1>SQL</h1><p class="lead">Queries only read. Ctrl Enter runs them.</p></header>
    <section class="panel">
      <${Editor} value=${sql} version=${version} change=${setSql} run=${start} tables=${listing.tables} placeholder=${first ? `SELECT * FROM ${first.name} LIMIT 100` : "SELECT 1"} />
      <div class="actions"><button type="button" class="primary" onClick=${start} disabled=${state.isRunning || !sql.trim()}>Run</button>
        ${state.isRunning && html`<button type="button" onClick=${stop}>Cancel</button><span role="status">Running…</span>`}
        ${places.length > 1 && html`<label class="row">in <select aria-label="Database" value=${place} onChange=${(event) => refine({ place: event.target.value, sql })}>${places.map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select></label>`}
        <button type="button" onClick=${keep} disabled=${!sql.trim()}>Keep</button>
        <span class="actions" role="group" aria-label="Download">${sql.trim() && FORMATS.map(([format, title]) => html`<a class="chip" download href=${api.address("api/platform/v1/sql/download", { sql, place, format })}>${title}</a>`)}</span></div></section>
    ${saved.length > 0 && html`<nav class="actions" aria-label="Queries that are kept">${saved.map((one) => html`<span class="kept" key=${one.id}><a class="chip" href=${link(["sql"], { sql: one.sql, place: one.place })}>${visible(one.name)}</a><button type="button" class="plain" aria-label=${`Delete the query ${one.name}`} onClick=${() => forget(one)}>×</button></span>`)}</nav>`}
    ${state.problem && html`<${Notice} kind="bad" title="The query found nothing">${visible(state.problem)}<//>`}
    ${result && html`<section class="stack" aria-label="Result">
      <nav class="tabs" aria-label="Show the result as">${[["table", "Table"], ["chart", "Chart"], ...(hasPlaces ? [["map", "Map"]] : [])].map(([value, title]) => html`<a href=${link(["sql"], { ...query, as: value })} aria-current=${as === value ? "page" : undefined}>${title}</a>`)}</nav>
      <p class="soft" role="status">${number(result.rows.length)} row${result.rows.length === 1 ? "" : "s"} in ${duration(result.seconds)}${result.is_cut ? "; there is more, which a download has" : ""}</p>
      ${result.rows.length === 0 ? html`<${Empty} title="No rows">The query is fine, and nothing fits it.<//>` : as === "map" ? html`<${Places} result=${result} query=${query} />` : as === "chart" ? html`<${Plot} result=${result} query=${query} />` : html`<${DataTable} caption="Result" height=${560} rows=${result.rows} columns=${result.columns.map((name, index) => ({ key: String(index), title: visible(name), number: typeof result.rows[0][index] === "number", cell: (row) => cell(row[index]) }))} />`}</section>`}`;
}

