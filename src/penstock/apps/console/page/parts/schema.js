// The schema of a table, with what is in each column as far as it was looked at.

import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { Facts } from "./facts.js";
import { bytes, number, visible } from "./format.js";
import { Notice } from "./notice.js";
import { Table } from "./table.js";
import { cell } from "./values.js";
import { link } from "../route.js";

const AT_ONCE = 50;

export function Schema({ schema }) {
  const { place, name } = schema;
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const gone = new AbortController();
    api.get(api.path`api/platform/v1/tables/${place}/statistics`, { table: name }, gone.signal).then(({ data }) => setFound(new Map(data.map((one) => [one.column, one]))), (error) => error.name !== "AbortError" && setProblem(error.message));
    return () => gone.abort();
  }, []);
  const about = (column) => found?.get(column.name);
  const sample = [...(found?.values() ?? [])].find((one) => one.is_sample);
  return html`<section class="panel"><${Facts} pairs=${[["database", `${place} (${schema.engine})`], ["size", bytes(schema.bytes)], ["key", schema.key?.join(", ") ?? "none: a view"], ["indexes", schema.indexes.map((one) => one.join(", ")).join("; ")], ["words", schema.is_searched ? "found by an index" : ""], ["written by", schema.writers.map((id) => html`<a href=${link(["streams", id])}>${id}</a> `)]]} /></section>
    ${problem && html`<${Notice} kind="warn" title="The values were not looked at">${problem}<//>`}
    ${sample && html`<p class="soft">Of the first ${number(sample.rows)} rows.</p>`}
    ${schema.columns.length > AT_ONCE && html`<p class="soft">The values of the first ${AT_ONCE} columns were looked at.</p>`}
    <section class="panel"><${Table} caption="Columns" rows=${schema.columns} keyOf=${(row) => row.name} columns=${[
      { title: "Column", main: true, cell: (row) => html`<a href=${link(["tables", place, name], { columns: JSON.stringify([row.name]) })}>${visible(row.name)}</a>` },
      { title: "Type", cell: (row) => html`<code>${row.type || "any"}</code>${row.nullable ? "" : " not null"}` },
      { title: "Empty", number: true, cell: (row) => (about(row) ? number(about(row).nulls) : "") },
      { title: "Different", number: true, cell: (row) => (about(row) ? number(about(row).distinct) : "") },
      { title: "Least", cell: (row) => (about(row) ? cell(about(row).minimum) : "") },
      { title: "Most", cell: (row) => (about(row) ? cell(about(row).maximum) : "") },
    ]} /></section>`;
}
