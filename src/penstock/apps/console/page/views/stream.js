// One stream: its picture, what it promises, where it is, how it is configured, what it logged, and what can be done.

import { classes, html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { link, refine } from "../route.js";
import { Icon } from "../icons.js";
import { ask } from "../parts/dialog.js";
import { Facts } from "../parts/facts.js";
import { Chart } from "../parts/chart.js";
import { bytes, duration, number, rate, rows, Time, visible } from "../parts/format.js";
import { condition, useStreams } from "../parts/live.js";
import { Notice, Pill } from "../parts/notice.js";
import { Picture } from "../parts/picture.js";
import { Table } from "../parts/table.js";
import { toast } from "../parts/toast.js";
import { yaml } from "../parts/config.js";

const TABS = { now: "Now", positions: "Positions", configuration: "Configuration", log: "Log" };
const LOG_INTERVAL = 3000;

export function Stream({ detail: opened, log: logged, query }) {
  const { streams, history, isLive } = useStreams([opened]);
  const [detail, setDetail] = useState(opened);
  const [log, setLog] = useState(logged);
  const now = streams.get(opened.id) ?? opened;
  const tab = query.tab in TABS ? query.tab : "now";
  useEffect(() => {
    const running = new AbortController();
    const look = async () => {
      if (document.hidden) return;
      try {
        const { data } = await api.get(api.path`api/platform/v1/streams/${opened.id}`, {}, running.signal);
        setDetail(data);
        if (tab === "log") setLog((await api.get(api.path`api/platform/v1/streams/${opened.id}/log`, {}, running.signal)).data);
      } catch {
        // What was shown stays; the bar above says that nothing answers.
      }
    };
    const timer = tab === "positions" || tab === "log" ? setInterval(look, LOG_INTERVAL) : 0;
    return () => {
      running.abort();
      clearInterval(timer);
    };
  }, [tab, opened.id]);
  const [word, kind] = condition(now);
  return html`
    <header class="head"><p class="crumb"><a href=${link(["streams"])}>Streams</a></p>
      <h1>${opened.id}</h1><${Pill} kind=${kind}>${word}<//>${!isLive && html`<${Pill} kind="warn">not connected, trying again<//>`}
      <${Actions} stream=${now} detail=${detail} /></header>
    <${Unwell} stream=${now} />
    <${Picture} detail=${detail} now=${now} />
    <nav class="tabs" aria-label="About the stream">${Object.entries(TABS).map(([name, title]) => html`<a href=${link(["streams", opened.id], { tab: name === "now" ? "" : name })} aria-current=${name === tab ? "page" : undefined}>${title}</a>`)}</nav>
    ${tab === "now" && html`<${Now} now=${now} detail=${detail} history=${history.get(opened.id) ?? []} />`}
    ${tab === "positions" && html`<${Positions} detail=${detail} />`}
    ${tab === "configuration" && html`<${Configuration} detail=${detail} />`}
    ${tab === "log" && html`<${Log} lines=${log} least=${query.level ?? ""} />`}`;
}

/** Why it is unwell, and what to do about it. */
function Unwell({ stream }) {
  const dead = link(["dead-letters"], { stream: stream.id });
  if (stream.state === "failed") return html`<${Notice} kind="bad" title="It has failed, and is not started again by itself">${visible(stream.trouble ?? "")} Mend what the message says, and restart Penstock; nothing that was accepted is lost.<//>`;
  if (stream.trouble && stream.rows_refused > 0 && /rows were all refused/.test(stream.trouble)) return html`<${Notice} kind="bad" title="Nothing gets through: all rows are refused">${visible(stream.trouble)} <a href=${dead}>Look at the dead letters</a><//>`;
  if (stream.trouble) return html`<${Notice} kind="bad" title="Something stands in its way">${visible(stream.trouble)}. It tries again by itself, and goes on where it was.<//>`;
  if (stream.state === "paused") return html`<${Notice} kind="warn" title="It is paused">Nothing is read. Whatever can wait at its source waits there; a pause ends with the process.<//>`;
  if (stream.note) return html`<${Notice} kind="warn" title="It runs, but you should know">${visible(stream.note)}${stream.rows_refused ? html` <a href=${dead}>Look at the dead letters</a>` : ""}<//>`;
  return null;
}

function Actions({ stream, detail }) {
  const [isBusy, setBusy] = useState(false);
  const act = async (name, done, body) => {
    setBusy(true);
    try {
      await api.send("POST", api.path`api/platform/v1/streams/${stream.id}/${name}`, body);
      toast(done);
    } catch (error) {
      toast(error.message, "bad");
    }
    setBusy(false);
  };
  const isPaused = stream.state === "paused";
  const hasEnded = ["finished", "stopped", "failed"].includes(stream.state);
  const pause = async () => (await ask({ title: `Pause ${stream.id}?`, text: "It reads nothing more, and writes what is in flight. It stays so until you resume it, or Penstock starts again.", verb: "Pause" })) && act("pause", "It pauses once what is in flight is written.");
  const restart = async () => (await ask({ title: `Restart ${stream.id}?`, text: "What is in flight is written first. Then everything is opened anew, and it goes on where it was.", verb: "Restart" })) && act("restart", "It restarts.");
  const drain = async () => (await ask({ title: `Drain ${stream.id}?`, text: `It reads nothing more. You are told once all ${stream.in_flight} deliveries in flight are written; then it is paused.`, verb: "Drain" })) && act("drain", "All that was read is written. It is paused.");
  return html`<div class="actions">
    ${isPaused ? html`<button type="button" class="primary" disabled=${isBusy} onClick=${() => act("resume", "It goes on.")}><${Icon} name="play" />Resume</button>`
      : html`<button type="button" disabled=${isBusy || hasEnded} onClick=${pause}><${Icon} name="pause" />Pause</button>
        <button type="button" disabled=${isBusy || hasEnded} onClick=${drain}><${Icon} name="drain" />Drain</button>
        <button type="button" disabled=${isBusy || hasEnded} onClick=${restart}><${Icon} name="restart" />Restart</button>`}
    ${detail.positions.some((one) => one.replays) && html`<button type="button" disabled=${isBusy || hasEnded} onClick=${() => rewind(stream, act)}><${Icon} name="rewind" />Read again</button>`}</div>`;
}

/** Ask from where to read again, and say before what that does to the output. */
async function rewind(stream, act) {
  let found;
  try {
    found = (await api.get(api.path`api/platform/v1/streams/${stream.id}/rewind`)).data;
  } catch (error) {
    toast(error.message, "bad");
    return;
  }
  const options = [["", "All of it, from the beginning"], ...found.positions.map((one, index) => [String(index), one.partition ? `Only ${one.partition}` : "From a position that I write"])];
  const answer = await ask({
    title: `Read ${stream.id} again?`, verb: "Read again", danger: true,
    text: html`<p>What is in flight is written first. Then:</p><ul class="bullets">${found.effects.map((text) => html`<li>${text}</li>`)}</ul>`,
    fields: [
      { name: "partition", label: "Which part", options },
      { name: "position", label: "From the position (JSON)", placeholder: JSON.stringify(found.positions[0]?.read), hint: `Empty for the beginning. It stands at ${JSON.stringify(found.positions[0]?.read)} now. For a single part only.` },
    ],
  });
  if (!answer) return;
  let body = {};
  if (answer.partition !== "") {
    try {
      body = { positions: { [found.positions[Number(answer.partition)].partition]: answer.position.trim() ? JSON.parse(answer.position) : null } };
    } catch {
      toast("The position is not JSON.", "bad");
      return;
    }
  }
  await act("rewind", "It reads again.", body);
}

function Now({ now, detail, history }) {
  const data = [history.map((one) => one.at), history.map((one) => one.rows_in), history.map((one) => one.rows_out), history.map((one) => one.rows_refused)];
  return html`<div class="grid">
    <section class="panel wide-panel"><header><h2>Rows a second</h2></header>
      ${history.length > 1 ? html`<${Chart} label=${`Rows a second: ${rate(now.rates.rows_in)} in, ${rate(now.rates.rows_out)} out`} height=${190} data=${data} series=${[{ label: "in", color: "accent", fill: true }, { label: "out", color: "good" }, { label: "refused", color: "bad" }]} />` : html`<p class="soft">This fills as changes arrive.</p>`}</section>
    <section class="panel"><header><h2>Figures</h2></header>
      <${Facts} pairs=${[
        ["Read", rows(now.rows_in)], ["Written", rows(now.rows_out)], ["Refused", rows(now.rows_refused)],
        ["Left to read", now.lag === null ? "the input does not tell" : number(now.lag)], ["In flight", `${now.in_flight} of ${now.max_in_flight} deliveries`],
        ["Latency", now.latency === null ? "" : `${duration(now.latency)} from read to written`], ["Log", now.log_bytes === null ? "" : bytes(now.log_bytes)],
        ["Restarts", number(now.restarts)], ["Progress", detail.progress && `${number(detail.progress.done)}${detail.progress.total === null ? "" : ` of ${number(detail.progress.total)}`} ${detail.progress.unit}`],
      ]} /></section>
    <section class="panel"><header><h2>What it promises</h2></header><ul class="bullets">${detail.guarantees.map((text) => html`<li>${text}</li>`)}</ul></section>
  </div>`;
}

const position = (value) => (value === null || value === undefined ? html`<span class="soft">–</span>` : html`<code>${visible(typeof value === "string" ? value : JSON.stringify(value))}</code>`);

const Positions = ({ detail }) => html`<section class="panel"><header><h2>Positions</h2><span class="soft">After a crash, reading resumes at what is saved, or later.</span></header>
  <${Table} caption="Positions" keyOf=${(one) => one.partition} rows=${detail.positions} empty="The input has no positions: it is pushed to, or its source keeps them." columns=${[
    { title: "Partition", main: true, cell: (one) => visible(one.partition || "the whole input") },
    { title: "Read", cell: (one) => position(one.read) }, { title: "Settled", cell: (one) => position(one.settled) }, { title: "Saved", cell: (one) => position(one.durable) },
    { title: "Rows", number: true, cell: (one) => number(one.rows) },
  ]} /></section>`;

const Configuration = ({ detail }) => html`<section class="panel"><header><h2>Configuration</h2>
  <span class="soft">${detail.source.application ? `of the application ${detail.source.application}` : ""} ${detail.source.file ? html`<code>${detail.source.file}${detail.source.line ? `, line ${detail.source.line}` : ""}</code>` : ""}</span></header>
  <${Source} text=${yaml(detail.configuration)} />
  <p class="soft">What is not listed has its default. Secrets are never sent to this page.</p></section>`;

const Source = ({ text }) => html`<pre class="source" tabindex="0" role="region" aria-label="Options"><code>${visible(text)}</code></pre>`;

const LEVELS = { "": "Everything", warning: "Warnings and errors" };

function Log({ lines, least }) {
  const shown = least ? lines.filter((one) => one.level === "warning" || one.level === "error" || one.level === "critical") : lines;
  return html`<section class="panel"><header><h2>Log</h2>
    <label class="row"><span class="hidden-text">Show</span><select onChange=${(event) => refine({ level: event.target.value })}>${Object.entries(LEVELS).map(([value, text]) => html`<option value=${value} selected=${value === least}>${text}</option>`)}</select></label></header>
    ${shown.length === 0 ? html`<p class="soft">Nothing was logged since Penstock started.</p>` : html`<ol class="log-lines" tabindex="0" aria-label="Log lines">${[...shown].reverse().map((one) => html`<li class=${classes(one.level)}><${Time} at=${one.at} /><span>${one.level}</span><code>${visible(one.text)}</code></li>`)}</ol>`}</section>`;
}
