// A stream as its picture: what it is made of, and on the arrows how fast, how far behind and how full.

import { classes, html } from "../html.js";
import { bytes, duration, number, rate, short } from "./format.js";

const NAMES = { input: "Input", log: "Log", buffer: "Buffer", processor: "Stage", temporary: "Table", output: "Output", error_output: "Error output" };

const Part = ({ stage, hint, kind }) => html`<li class=${classes("part", stage.kind, kind)}>
  <span class="part-kind">${NAMES[stage.kind]}${/^\d+$/.test(stage.name) ? ` ${stage.name}` : ""}</span>
  <strong>${stage.type}</strong>
  ${stage.name !== stage.kind && stage.name !== stage.type && stage.kind !== "log" && !/^\d+$/.test(stage.name) && html`<span class="part-name">${stage.name}</span>`}
  ${Object.entries(stage.where).slice(0, 2).map(([name, value]) => html`<code title=${`${name}: ${value}`}>${value}</code>`)}
  ${stage.says && html`<span class="part-says">${stage.says}</span>`}
  ${stage.columns?.length > 0 && html`<span class="part-says">reads ${stage.columns.slice(0, 6).join(", ")}${stage.columns.length > 6 ? ", …" : ""}</span>`}
  ${hint && html`<span class="part-hint">${hint}</span>`}</li>`;

const Arrow = ({ above, below, isFlowing, kind, label }) => html`<div class=${classes("flow", isFlowing && "flowing", kind)} aria-label=${label}>
  <span>${above}</span><i aria-hidden="true"></i><span class="soft">${below}</span></div>`;

/** Draw a stream from its detail, and from its state as it is now. */
export function Picture({ detail, now }) {
  const of = (...kinds) => detail.stages.filter((stage) => kinds.includes(stage.kind));
  const [log] = of("log");
  const [errors] = of("error_output");
  const middle = [...of("buffer"), ...of("processor"), ...of("temporary")];
  const left = now.lag === null ? "" : now.lag === 0 ? "nothing left" : `${short(now.lag)} left`;
  const columns = [];
  const add = (stages, hints = {}) => columns.push(html`<ul class="parts">${stages.map((stage) => html`<${Part} stage=${stage} ...${hints} />`)}</ul>`);
  const arrow = (above, below, flows, label) => columns.push(html`<${Arrow} above=${above} below=${below} isFlowing=${flows} label=${label} />`);
  add(of("input"));
  arrow(`${rate(now.rates.rows_in)}/s`, log ? "" : left, now.rates.rows_in > 0, "from the input");
  if (log) {
    add([log], { hint: bytes(now.log_bytes) });
    arrow(left, `${now.in_flight} of ${now.max_in_flight} in flight`, now.in_flight > 0, "from the log");
  }
  if (middle.length) {
    add(middle);
    arrow(log ? `${rate(now.rates.rows_out)}/s` : `${now.in_flight} of ${now.max_in_flight} in flight`, log ? duration(now.latency) : `${rate(now.rates.rows_out)}/s`, now.rates.rows_out > 0, "to the output");
  } else if (!log) {
    columns.pop();
    arrow(`${rate(now.rates.rows_out)}/s`, [left, `${now.in_flight} of ${now.max_in_flight} in flight`].filter(Boolean).join(" · "), now.rates.rows_out > 0, "to the output");
  }
  add(of("output"));
  return html`<div class="picture" role="group" aria-label="What the stream is made of">
    <div class="picture-row">${columns}</div>
    ${errors ? html`<div class="picture-errors"><${Arrow} kind=${now.rates.rows_refused > 0 ? "bad" : ""} above=${`${number(now.rows_refused)} refused`} below=${now.rates.rows_refused ? `${rate(now.rates.rows_refused)}/s` : ""} isFlowing=${now.rates.rows_refused > 0} label="refused rows" />
      <ul class="parts"><${Part} stage=${errors} /></ul></div>`
    : html`<p class="soft picture-none">No error output: ${detail.guarantees.find((text) => /refused|stops the stream/.test(text))?.toLowerCase() ?? ""}</p>`}
  </div>`;
}
