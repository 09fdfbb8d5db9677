// How the first data gets in: each step shows what to do, and is ticked as soon as something has arrived that way.

import { classes, html, useState } from "../html.js";
import * as api from "../api.js";
import { link } from "../route.js";
import { number } from "./format.js";
import { toast } from "./toast.js";

const ROW = `'{"sensor": "kitchen", "celsius": 21.5}'`;
const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
const ROOT = new URL("../../", import.meta.url).href.replace(/\/$/, "");

export function Guide({ streams, session }) {
  const find = (id) => streams.find((one) => one.id === id || one.id.startsWith(id));
  const [ingest, inbox, health] = [find("ingest"), find("inbox"), find("health")];
  const agents = streams.filter((one) => one.application === "conversations");
  return html`<ol class="guide">
    ${ingest && html`<${Step} title="Send a row" streams=${[ingest]}>
      <p>A table is made for the rows as they come. This works in a terminal as it stands:</p><${SendRow} session=${session} /><//>`}
    ${inbox && html`<${Step} title="Drop a file" streams=${[inbox]}>
      <p>Put a <code>.csv</code>, <code>.json</code>, <code>.jsonl</code>, <code>.parquet</code>, <code>.avro</code> or <code>.arrow</code> file into a folder with the name of a table:</p>
      <${Command} text="mkdir -p inbox/readings && cp my.csv inbox/readings/" /><p class="soft">The folder <code>inbox</code> is where Penstock was started.</p><//>`}
    ${health && html`<${Step} title="Connect a phone" streams=${[health]}>
      <p>The app <em>Health Auto Export</em> sends what the iPhone knows of you. Make an automation of the type REST API, with this address and key:</p>
      <${Facts} /><${MakeKey} name="phone" scope="health.ingest" text="Make a key for the phone" session=${session} />
      <p class="soft">Choose JSON, export version 2, and the grouping “minutes”. ${isLocal ? "The phone needs an address of this machine in your network: start Penstock with --address 0.0.0.0:8080." : ""}</p><//>`}
    ${agents.length > 0 && html`<${Step} title="Watch agents" streams=${agents}>
      <p>What coding agents write down on this machine is kept, line by line, before they delete it after a month. There is nothing to do: it begins with the first session.</p>
      <p>${agents.map((one) => html`<a href=${link(["streams", one.id])}>${one.id}</a> `)}</p><//>`}
  </ol>`;
}

function Step({ title, streams, children }) {
  const rows = streams.reduce((sum, one) => sum + one.rows_in, 0);
  return html`<li class=${classes("panel", rows > 0 && "done")}><header><h2>${title}</h2>
    ${rows > 0 ? html`<span class="pill good">${number(rows)} arrived</span>` : html`<span class="pill">waiting</span>`}</header>${children}
    ${rows > 0 && html`<p><a href=${link(["streams", streams[0].id])}>See how it goes</a></p>`}</li>`;
}

export function Command({ text }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied.");
    } catch {
      toast("Select it and copy it by hand.", "bad");
    }
  };
  return html`<div class="command"><pre>${text}</pre><button type="button" onClick=${copy} aria-label="Copy the command">Copy</button></div>`;
}

function SendRow({ session }) {
  const [key, setKey] = useState("");
  const header = key ? ` -H "Authorization: Bearer ${key}"` : isLocal ? "" : ` -H "Authorization: Bearer $KEY"`;
  return html`<${Command} text=${`curl ${ROOT}/ingest/readings${header} -d ${ROW}`} />
    ${!isLocal && !key && html`<${MakeKey} name="sensor" scope="inbox.send" text="Make a key for it" session=${session} made=${setKey} />`}`;
}

const Facts = () => html`<dl class="facts"><div><dt>URL</dt><dd><code>${ROOT}/api/v1/ingest</code></dd></div><div><dt>Header</dt><dd><code>Authorization</code>: <code>Bearer</code> and the key</dd></div></dl>`;

/** A button that makes a key which may send and nothing else; the key is shown this once. */
function MakeKey({ name, scope, text, session, made }) {
  const [key, setKey] = useState("");
  const make = async () => {
    try {
      const { data } = await api.send("POST", "api/platform/v1/keys", { name, scopes: [scope], user: session.user_name });
      setKey(data.key);
      made?.(data.key);
    } catch (error) {
      toast(error.message, "bad");
    }
  };
  if (key) return html`<div class="notice good"><p class="notice-title">This is the key. It is shown this once.</p><p><code class="secret">${key}</code></p></div>`;
  return html`<p><button type="button" onClick=${make}>${text}</button></p>`;
}
