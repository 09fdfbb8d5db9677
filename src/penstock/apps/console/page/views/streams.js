// The streams: how all of them are, and each as its picture with what can be done about it.

import { html } from "../html.js";
import * as api from "../api.js";
import { Stream } from "./stream.js";
import { bytes, number, rate, short } from "../parts/format.js";
import { condition, useStreams } from "../parts/live.js";
import { Empty, Pill } from "../parts/notice.js";
import { Spark } from "../parts/spark.js";
import { link } from "../route.js";

const ROOT = "api/platform/v1/streams";

export const view = {
  title: "Streams",
  async open({ path, query, signal }) {
    if (path.length) {
      const [detail, log] = await Promise.all([api.get(api.path`api/platform/v1/streams/${path[0]}`, {}, signal), api.get(api.path`api/platform/v1/streams/${path[0]}/log`, {}, signal)]);
      return html`<${Stream} key=${path[0]} detail=${detail.data} log=${log.data} query=${query} />`;
    }
    const { data } = await api.get(ROOT, {}, signal);
    return html`<${List} initial=${data} filter=${query.filter ?? ""} />`;
  },
};

function List({ initial, filter }) {
  const { streams, history, isLive } = useStreams(initial);
  const all = [...streams.values()];
  const counts = all.reduce((sums, one) => ({ ...sums, [condition(one)[0]]: (sums[condition(one)[0]] ?? 0) + 1 }), {});
  const shown = filter ? all.filter((one) => condition(one)[0] === filter) : all;
  return html`<header class="head"><h1>Streams</h1>
      ${!isLive && html`<${Pill} kind="warn">not connected, trying again<//>`}
      <nav class="actions" aria-label="Show">${[["", `All ${all.length}`], ...Object.entries(counts).map(([word, count]) => [word, `${word} ${count}`])].map(([word, text]) =>
        html`<a class="chip" href=${link(["streams"], { filter: word })} aria-current=${word === filter ? "true" : undefined}>${text}</a>`)}</nav></header>
    ${shown.length === 0 ? html`<${Empty} title="There are no streams here">A stream is a few lines of YAML: see <code>penstock init</code>.<//>` : html`<ul class="streams">${shown.map((one) => html`<${Row} key=${one.id} stream=${one} history=${history.get(one.id) ?? []} />`)}</ul>`}`;
}

function Row({ stream, history }) {
  const [word, kind] = condition(stream);
  return html`<li class="stream-row">
    <div class="stream-name"><a href=${link(["streams", stream.id])}>${stream.id}</a><span class="soft">${stream.application || "configuration"}</span></div>
    <${Pill} kind=${kind}>${word}<//>
    <div class="stream-spark"><${Spark} values=${history.map((one) => one.rows_in)} width=${96} height=${26} /></div>
    <dl class="stream-figures">
      <div><dt>in</dt><dd>${rate(stream.rates.rows_in)}/s</dd></div>
      <div><dt>out</dt><dd>${rate(stream.rates.rows_out)}/s</dd></div>
      <div><dt>behind</dt><dd>${stream.lag === null ? "–" : short(stream.lag)}</dd></div>
      <div><dt>written</dt><dd title=${number(stream.rows_out)}>${short(stream.rows_out)}</dd></div>
      <div><dt>refused</dt><dd class=${stream.rows_refused ? "warn" : ""}>${short(stream.rows_refused)}</dd></div>
      <div><dt>log</dt><dd>${stream.log_bytes === null ? "–" : bytes(stream.log_bytes)}</dd></div>
    </dl>
    ${(stream.trouble || stream.note) && html`<p class=${stream.trouble ? "stream-said bad" : "stream-said warn"}>${stream.trouble ?? stream.note}</p>`}
  </li>`;
}
