// Many dead letters at once: a rule that mends them, a try, and how far sending them is.

import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { Dialog, Field } from "./dialog.js";
import { number, visible } from "./format.js";
import { Notice } from "./notice.js";

const ROOT = "api/platform/v1/dead-letters/replays";
const POLL = 400;
const KINDS = [["", "as it is"], ["number", "a number"], ["integer", "a whole number"], ["text", "a text"], ["boolean", "true or false"]];

/** Return the rule that the fields of a form say; null for none. Throws what is wrong with a value. */
function ruleOf({ find, replacement, field, kind, rename, value, remove }) {
  const rule = {};
  if (find) rule.replace = [[find, replacement]];
  const name = rename || field;
  if (field && rename) rule.rename = { [field]: rename };
  if (field && kind) rule.convert = { [name]: kind };
  if (field && value) rule.set = { [name]: parsed(value) };
  if (field && remove) rule.remove = [name];
  return Object.keys(rule).length ? rule : null;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export function Replay({ wanted, run: begun, close }) {
  const [run, setRun] = useState(begun ?? null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    if (run?.state !== "running") return undefined;
    const timer = setTimeout(async () => {
      try {
        setRun((await api.get(api.path`api/platform/v1/dead-letters/replays/${run.id}`)).data);
      } catch (error) {
        setProblem(error.message);
      }
    }, POLL);
    return () => clearTimeout(timer);
  }, [run]);
  const start = async (event) => {
    event.preventDefault();
    setProblem("");
    const given = Object.fromEntries(new FormData(event.target));
    try {
      setRun((await api.send("POST", ROOT, { action: event.submitter.value, wanted, rule: ruleOf(given) })).data);
    } catch (error) {
      setProblem(error.message);
    }
  };
  const cancel = async () => setRun((await api.send("POST", api.path`api/platform/v1/dead-letters/replays/${run.id}/cancel`)).data);
  const isRunning = run?.state === "running";
  return html`<${Dialog} title=${begun ? "Dropping" : "Mend and send all"} wide close=${close}>
    ${!begun && html`<form class="stack" onSubmit=${start} autocomplete="off">
      <p class="soft">What is left empty is not changed. Try it first: nothing is written.</p>
      <div class="grid"><${Field} name="find" label="Replace the text" maxlength="500" /><${Field} name="replacement" label="by" /></div>
      <div class="grid"><${Field} name="field" label="The field" hint="of JSON" maxlength="500" /><${Field} name="kind" label="becomes" options=${KINDS} /><${Field} name="rename" label="is called" maxlength="500" /><${Field} name="value" label="is set to" hint="JSON, or a text" /></div>
      <label class="row"><input type="checkbox" name="remove" value="yes" /> Remove it</label>
      <p class="actions end"><button type="submit" value="try" disabled=${isRunning}>Try without writing</button><button type="submit" value="send" class="primary" disabled=${isRunning}>Send all again</button></p></form>`}
    ${problem && html`<${Notice} kind="bad">${visible(problem)}<//>`}
    ${run && html`<section class="stack" aria-label="Progress"><progress max=${Math.max(1, run.total)} value=${run.done} aria-label="Rows done"></progress>
      <p role="status">${sentence(run)}</p>
      ${run.trouble && html`<${Notice} kind="bad" title="It ended early">${visible(run.trouble)}<//>`}
      ${Object.keys(run.reasons).length > 0 && html`<ul class="bullets">${Object.entries(run.reasons).map(([reason, count]) => html`<li>${number(count)} × ${visible(reason)}</li>`)}</ul>`}
      ${isRunning && html`<p class="actions"><button type="button" onClick=${cancel}>Cancel</button></p>`}</section>`}
    <p class="actions end"><button type="button" onClick=${(event) => event.target.closest("dialog").close()}>Close</button></p><//>`;
}

function sentence(run) {
  const word = { try: "would go to the output", send: "written", drop: "dropped" }[run.action];
  const parts = [`${number(run.settled)} ${word}`, run.refused && `${number(run.refused)} refused`, run.gone && `${number(run.gone)} gone already`].filter(Boolean);
  const state = { running: "Running", finished: "Done", cancelled: "Cancelled", failed: "Failed" }[run.state];
  return `${state}: ${number(run.done)} of ${number(run.total)} (${parts.join(", ")}).`;
}
