// Keys, people who are signed in, users, and who did what.

import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { ask } from "../parts/dialog.js";
import { Time, visible } from "../parts/format.js";
import { Notice, Pill } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { toast } from "../parts/toast.js";
import { link, refine, reload } from "../route.js";

const ROOT = "api/platform/v1";
const OVERLAPS = [["24h", "a day"], ["168h", "a week"], ["1h", "an hour"], ["0s", "not at all"]];
const LIFETIMES = [["", "until it is revoked"], ["30d", "30 days"], ["90d", "90 days"], ["365d", "a year"]];

export const view = {
  title: "Keys and audit",
  async open({ query, signal, session }) {
    const isOperator = session.scopes.includes("operator");
    const tabs = [["keys", "Keys", Keys, `${ROOT}/keys`], ...(isOperator ? [["sessions", "Signed in", Sessions, `${ROOT}/sessions`], ["users", "Users", Users, `${ROOT}/users`]] : []), ["audit", "Audit", Audit, `${ROOT}/audit`]];
    const [tab, , Tab, path] = tabs.find(([name]) => name === query.tab) ?? tabs[0];
    const [answer, scopes] = await Promise.all([api.get(path, tab === "audit" ? { ...chosen(query), limit: 100 } : {}, signal), api.get(`${ROOT}/scopes`, {}, signal)]);
    return html`<header class="head"><h1>Keys and audit</h1></header>
      <nav class="tabs" aria-label="Keys and audit">${tabs.map(([name, title]) => html`<a href=${link(["access"], { tab: name })} aria-current=${name === tab ? "page" : undefined}>${title}</a>`)}</nav>
      <${Tab} key=${tab} answer=${answer} scopes=${scopes.data} query=${query} session=${session} isOperator=${isOperator} />`;
  },
};

/** What of the audit is shown: that a session or a key was used, which each view of a page leads to, only where it is asked for. */
const chosen = (query) => (query.action ? { action: query.action } : query.uses ? {} : { without: "authentication_success" });

const guarded = (work) => async () => {
  try {
    await work();
  } catch (problem) {
    toast(problem.message, "bad");
  }
};

function Keys({ answer, scopes, query, isOperator }) {
  const [made, setMade] = useState(null);
  const rows = answer.data.filter((one) => query.all || one.state === "active");
  const create = guarded(async () => {
    const given = await ask({ title: "Make a key", verb: "Make", text: "A key lets a device or a program send or read. Only a hash of it is kept, so it is shown once.", fields: [
      { name: "name", label: "Name", required: true, maxlength: 100 },
      ...(isOperator ? [{ name: "user", label: "User", hint: "Whose data it is for; yours if it is left empty. A new name is a new user." }] : []),
      { name: "scope", label: "It may", options: [["", "send, as a device does"], ...scopes.filter((one) => one.may_grant).map((one) => [one.name, `${one.name}: ${one.description}`])] },
      { name: "more", label: "And also", options: [["", "nothing else"], ...scopes.filter((one) => one.may_grant).map((one) => [one.name, one.name])] },
      { name: "expires", label: "It works", options: LIFETIMES }] });
    if (!given) return;
    const wanted = [...new Set([given.scope, given.more].filter(Boolean))];
    const { data } = await api.send("POST", `${ROOT}/keys`, { name: given.name, scopes: wanted, ...(given.user ? { user: given.user } : {}), ...(given.expires ? { expires: given.expires } : {}) });
    setMade(data);
    reload();
  });
  const rotate = (row) => guarded(async () => {
    const given = await ask({ title: `Rotate the key “${row.name}”?`, verb: "Rotate", text: "A new key takes its place. Whatever uses the old one needs the new one.", fields: [{ name: "overlap", label: "The old one goes on to work for", options: OVERLAPS }] });
    if (!given) return;
    setMade((await api.send("POST", api.path`api/platform/v1/keys/${row.id}/rotate`, given)).data);
    reload();
  });
  const revoke = (row) => guarded(async () => {
    if (!(await ask({ title: `Revoke the key “${row.name}”?`, verb: "Revoke", danger: true, text: "The next request with it is refused, and sessions that it began end." }))) return;
    await api.send("DELETE", api.path`api/platform/v1/keys/${row.id}`);
    reload();
  });
  return html`${made && html`<${Notice} kind="good" title="The key, shown this once" actions=${html`<button type="button" onClick=${() => navigator.clipboard?.writeText(made.key).then(() => toast("Copied"), () => {})}>Copy</button><button type="button" onClick=${() => setMade(null)}>I have it</button>`}><code class="whole">${made.key}</code><//>`}
    <section class="panel"><header><h2>Keys</h2><label class="row"><input type="checkbox" checked=${Boolean(query.all)} onChange=${(event) => refine({ all: event.target.checked ? "yes" : null })} /> also those that do not work any more</label><button type="button" class="primary" onClick=${create}>Make a key</button></header>
    <${Table} caption="Keys" rows=${rows} keyOf=${(row) => row.id} empty="There are no keys that work." columns=${[
      { title: "Name", main: true, cell: (row) => visible(row.name) },
      { title: "User", cell: (row) => visible(row.user_name) },
      { title: "Begins with", cell: (row) => html`<code>${row.prefix}</code>` },
      { title: "May", cell: (row) => row.scopes.join(", ") },
      { title: "Last used", cell: (row) => (row.last_used_at ? html`<${Time} at=${row.last_used_at} relative />` : "never") },
      { title: "State", cell: (row) => (row.state === "active" ? html`<${Pill} kind="good">${row.expires_at ? html`until <${Time} at=${row.expires_at} />` : "works"}<//>` : html`<${Pill}>${row.state}<//>`) },
      { title: "Actions", isTitled: false, cell: (row) => row.state === "active" && html`<span class="actions">${!row.replaced_by && html`<button type="button" aria-label=${`Rotate ${row.name}`} onClick=${rotate(row)}>Rotate</button>`}<button type="button" class="danger" aria-label=${`Revoke ${row.name}`} onClick=${revoke(row)}>Revoke</button></span>` },
    ]} /></section>
    <section class="panel"><header><h2>What keys may do</h2></header><${Table} caption="Scopes" rows=${scopes} keyOf=${(row) => row.name} columns=${[{ title: "Scope", main: true, cell: (row) => html`<code>${row.name}</code>` }, { title: "It lets", cell: (row) => row.description }, { title: "By default", isTitled: false, cell: (row) => (row.is_default ? "what a new key has" : "") }]} /></section>`;
}

function Sessions({ answer, session }) {
  const end = (row) => guarded(async () => {
    if (!(await ask({ title: `End the session of ${row.user_name}?`, verb: "End it", danger: true }))) return;
    await api.send("DELETE", api.path`api/platform/v1/sessions/${row.id}`);
    reload();
  });
  return html`<section class="panel"><${Table} caption="Sessions" rows=${answer.data} keyOf=${(row) => row.id} columns=${[
    { title: "User", main: true, cell: (row) => html`${visible(row.user_name)}${row.id === session.session ? html` <${Pill} kind="good">this one<//>` : ""}` },
    { title: "Since", cell: (row) => html`<${Time} at=${row.created_at} relative />` },
    { title: "Last seen", cell: (row) => html`<${Time} at=${row.last_seen_at} relative />` },
    { title: "Ends", cell: (row) => html`<${Time} at=${row.expires_at} />` },
    { title: "From", cell: (row) => html`${row.address} <span class="soft">${visible(row.user_agent ?? "")}</span>` },
    { title: "Actions", isTitled: false, cell: (row) => html`<button type="button" class="danger" aria-label=${`End the session of ${row.user_name} from ${row.address}`} onClick=${end(row)}>End</button>` },
  ]} /></section>`;
}

const Users = ({ answer }) => html`<section class="panel"><${Table} caption="Users" rows=${answer.data} keyOf=${(row) => row.id} columns=${[
  { title: "Name", main: true, cell: (row) => visible(row.name) }, { title: "Number", number: true, cell: (row) => row.id }, { title: "Since", cell: (row) => html`<${Time} at=${row.created_at} />` }]} /></section>`;

function Audit({ answer, query }) {
  const [more, setMore] = useState({ rows: [], next: answer.next_cursor });
  useEffect(() => setMore({ rows: [], next: answer.next_cursor }), [answer]);
  const rows = [...answer.data, ...more.rows];
  const load = guarded(async () => {
    const page = await api.get(`${ROOT}/audit`, { ...chosen(query), limit: 100, cursor: more.next });
    setMore({ rows: [...more.rows, ...page.data], next: page.next_cursor });
  });
  return html`<section class="panel"><header><h2>What was done</h2><label class="row"><input type="checkbox" checked=${Boolean(query.uses)} onChange=${(event) => refine({ uses: event.target.checked ? "yes" : null, action: null })} /> also each use of keys and sessions</label></header>
    ${query.action && html`<p><a class="chip" aria-current="true" href=${link(["access"], { tab: "audit" })}>${query.action} ×</a></p>`}
    <${Table} caption="Audit" rows=${rows} keyOf=${(row) => row.id} empty="Nothing was done yet." columns=${[
      { title: "When", short: true, cell: (row) => html`<${Time} at=${row.time} relative />` },
      { title: "What", main: true, short: true, cell: (row) => html`<a href=${link(["access"], { tab: "audit", action: row.action })}>${row.action.replaceAll("_", " ")}</a>` },
      { title: "Outcome", cell: (row) => html`<${Pill} kind=${{ success: "good", refused: "warn" }[row.outcome] ?? "bad"}>${row.outcome}<//>` },
      { title: "Of", cell: (row) => visible(row.resource ?? "") },
      { title: "By", cell: (row) => html`${row.user_id === null ? "nobody known" : `user ${row.user_id}`}${row.address ? html` <span class="soft">${row.address}</span>` : ""}` },
      { title: "Details", cell: (row) => (row.details ? html`<code>${visible(JSON.stringify(row.details)).slice(0, 400)}</code>` : "") },
    ]} />${more.next && html`<p class="actions"><button type="button" onClick=${load}>Show more</button></p>`}</section>`;
}
