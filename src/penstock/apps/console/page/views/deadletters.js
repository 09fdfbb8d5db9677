// The dead letters of all streams: grouped by reason, searched, mended, tried, sent again or dropped.

import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { Dialog, Field, ask } from "../parts/dialog.js";
import { Facts } from "../parts/facts.js";
import { Time, number, rows, visible } from "../parts/format.js";
import { Empty, Notice, Pill } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { toast } from "../parts/toast.js";
import { Replay } from "../parts/replay.js";
import { cell } from "../parts/values.js";
import { link, refine, reload } from "../route.js";

const ROOT = "api/platform/v1/dead-letters";

const chosen = ({ stream, stage, reason, search }) => Object.fromEntries(Object.entries({ stream, stage, reason, search }).filter(([, value]) => value));

export const view = {
  title: "Dead letters",
  async open({ query, signal }) {
    const [groups, letters, elsewhere] = await Promise.all([api.get(`${ROOT}/groups`, {}, signal), api.get(ROOT, chosen(query), signal), api.get(`${ROOT}/elsewhere`, {}, signal)]);
    return html`<${Letters} groups=${groups.data} total=${groups.total} first=${letters} elsewhere=${elsewhere.data} query=${query} />`;
  },
};

function Letters({ groups, total, first, elsewhere, query }) {
  const wanted = chosen(query);
  const [more, setMore] = useState({ of: first, rows: [], next: first.next_cursor });
  const [letter, setLetter] = useState(null);
  const [replay, setReplay] = useState(null);
  useEffect(() => setMore({ of: first, rows: [], next: first.next_cursor }), [first]);
  const shown = more.of === first ? [...first.data, ...more.rows] : first.data;
  const next = more.of === first ? more.next : first.next_cursor;
  const load = async () => {
    const page = await api.get(ROOT, { ...wanted, cursor: next });
    setMore({ of: first, rows: [...more.rows, ...page.data], next: page.next_cursor });
  };
  const search = (event) => {
    event.preventDefault();
    refine({ search: new FormData(event.target).get("search") });
  };
  const counted = groups.reduce((sum, one) => sum + one.count, 0);
  const isOne = (one) => one.stream === query.stream && one.stage === query.stage && one.reason === query.reason;
  return html`<header class="head"><h1>Dead letters</h1><${Pill} kind=${total ? "warn" : "good"}>${rows(total)}<//>
      <p class="lead">Rows that a stream could not take, as they came, each with the reason. Mend them and send them again, or drop them.</p></header>
    ${elsewhere.map((one) => html`<${Notice} key=${one.stream} title=${`Those of ${one.stream} are elsewhere`}>${one.reason}<//>`)}
    ${total === 0 ? html`<${Empty} title="Nothing was refused">A row that does not fit is shown here, with what is wrong with it.<//>` : html`
      <section class="panel"><header><h2>Reasons</h2>${counted < total && html`<span class="soft">the ${number(groups.length)} most frequent; ${rows(total - counted)} with others</span>`}</header>
        <${Table} caption="Groups of dead letters" rows=${groups} keyOf=${(row) => `${row.stream}/${row.stage}/${row.reason}`} columns=${[
          { title: "Rows", number: true, cell: (row) => number(row.count) },
          { title: "Reason", main: true, cell: (row) => html`<a aria-current=${isOne(row) ? "true" : undefined} href=${link(["dead-letters"], isOne(row) ? {} : { stream: row.stream, stage: row.stage, reason: row.reason })}>${visible(row.reason)}</a>` },
          { title: "Stage", cell: (row) => row.stage },
          { title: "Stream", cell: (row) => html`<a href=${link(["streams", row.stream])}>${row.stream}</a>` },
          { title: "Last", cell: (row) => html`<${Time} at=${row.last} relative />` },
        ]} /></section>
      <section class="panel"><header><h2>${Object.keys(wanted).length ? "Rows of this choice" : "Rows"}</h2>
          <form class="row" role="search" onSubmit=${search}><input type="search" name="search" aria-label="Search reasons and payloads" placeholder="Text in reason or payload" value=${query.search ?? ""} /><button type="submit">Search</button></form>
          ${Object.keys(wanted).length > 0 && html`<a class="chip" href=${link(["dead-letters"])}>Show all</a>`}</header>
        <p class="actions"><button type="button" onClick=${() => setReplay({})}>Mend and send all…</button><button type="button" class="danger" onClick=${() => drop(wanted, setReplay)}>Drop all…</button></p>
        <${Table} caption="Dead letters" rows=${shown} keyOf=${(row) => row.id} empty="No dead letter fits." columns=${[
          { title: "Payload", main: true, cell: (row) => html`<button type="button" class="plain payload" onClick=${() => setLetter(row)}><code>${row.payload === null ? "no payload" : visible(row.payload.slice(0, 160))}${row.payload?.length > 160 ? "…" : ""}</code></button>` },
          { title: "Reason", cell: (row) => visible(row.reason.slice(0, 200)) },
          { title: "Stream", cell: (row) => row.stream },
          { title: "Refused", cell: (row) => html`<${Time} at=${row.time} relative />` },
        ]} />
        ${next && html`<p class="actions"><button type="button" onClick=${load}>Show more</button></p>`}</section>`}
    ${letter && html`<${Letter} key=${letter.id} letter=${letter} close=${() => setLetter(null)} />`}
    ${replay && html`<${Replay} wanted=${wanted} run=${replay.run} close=${() => { setReplay(null); reload(); }} />`}`;
}

async function drop(wanted, setReplay) {
  const given = await ask({ title: "Drop all of these rows?", text: "They are deleted for good. The audit says by whom, and why.", verb: "Drop", danger: true, fields: [{ name: "reason", label: "Why", required: true, maxlength: 500 }] });
  if (!given) return;
  try {
    const { data } = await api.send("POST", `${ROOT}/replays`, { action: "drop", wanted, reason: given.reason });
    setReplay({ run: data });
  } catch (problem) {
    toast(problem.message, "bad");
  }
}

function Letter({ letter, close }) {
  const [payload, setPayload] = useState(letter.payload ?? "");
  const [original, setOriginal] = useState(letter.is_cut ? null : letter.payload ?? "");
  const [said, setSaid] = useState({});
  const isText = letter.encoding !== "base64";
  useEffect(() => {
    if (letter.is_cut) api.get(api.path`api/platform/v1/dead-letters/${letter.id}`).then(({ data }) => { setOriginal(data.payload); setPayload(data.payload); }, (problem) => setSaid({ problem: problem.message }));
  }, []);
  const body = () => (payload === original ? {} : { payload });
  const act = (work) => async () => {
    setSaid({ isBusy: true });
    try {
      await work();
    } catch (problem) {
      setSaid({ problem: problem.message });
    }
  };
  const attempt = act(async () => setSaid({ tried: (await api.send("POST", api.path`api/platform/v1/dead-letters/${letter.id}/try`, body())).data }));
  const send = act(async () => {
    await api.send("POST", api.path`api/platform/v1/dead-letters/${letter.id}/retry`, body());
    toast("The row is written", "good");
    close();
    reload();
  });
  const remove = act(async () => {
    const given = await ask({ title: "Drop this row?", text: "It is deleted for good.", verb: "Drop", danger: true, fields: [{ name: "reason", label: "Why", required: true, maxlength: 500 }] });
    setSaid({});
    if (!given) return;
    await api.send("POST", api.path`api/platform/v1/dead-letters/${letter.id}/drop`, given);
    toast("The row is dropped");
    close();
    reload();
  });
  const origin = Object.entries(letter.metadata ?? {}).filter(([, value]) => value !== null && value !== "");
  return html`<${Dialog} title="A row that was refused" wide close=${close}>
    <${Notice} kind="bad" title=${`Refused by ${letter.stage}`}>${visible(letter.reason)}<//>
    <${Field} type="textarea" label=${isText ? "Payload" : "Payload (base64)"} rows="8" spellcheck=${false} value=${payload} disabled=${original === null || !isText} onInput=${(event) => setPayload(event.target.value)} hint=${isText ? "Change it as it should have been." : "Bytes that are not text are sent as they are."} />
    <h3>Where it came from</h3>
    <${Facts} pairs=${[["stream", letter.stream], ["refused", html`<${Time} at=${letter.time} />`], ...origin.map(([name, value]) => [name, visible(typeof value === "object" ? JSON.stringify(value) : value)])]} />
    ${said.problem && html`<${Notice} kind="bad" title="It is refused once more">${visible(said.problem)}<//>`}
    ${said.tried && html`<${Notice} kind="good" title=${said.tried.rows.length ? "It passes: this goes to the output, which may still refuse it" : "It passes, and nothing would be written"}>${said.tried.rows.length > 0 && html`<${Table} caption="What would be written" rows=${said.tried.rows} columns=${said.tried.columns.map((name, index) => ({ title: visible(name), cell: (row) => cell(row[index]) }))} />`}<//>`}
    <p class="actions end"><button type="button" class="danger" onClick=${remove} disabled=${said.isBusy}>Drop…</button><button type="button" onClick=${attempt} disabled=${said.isBusy || original === null}>Try without writing</button>
      <button type="button" class="primary" onClick=${send} disabled=${said.isBusy || original === null}>Send again</button></p><//>`;
}
