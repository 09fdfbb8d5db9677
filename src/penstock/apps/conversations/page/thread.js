// One session as it was spoken: prompts and answers, tools folded with what they answered, sub-agents below their calls.

import { h, time } from "../keys/dom.js";
import { get } from "./api.js";
import { address, counted, downloads } from "./lists.js";
import { watch } from "./live.js";
import { clean, markdown, plain } from "./text.js";

const WORKING = 5 * 60_000;
const WHO = { prompt: "You", answer: "Agent", command: "Program", result: "Tool", event: "Event" };
const IMAGE = /^image\/(?:png|jpeg|gif|webp)$/;

/** Show a session; `at` is the line to begin with. What the agent writes meanwhile is added. */
export async function thread(view, id, at, signal, isCurrent) {
  const path = `sessions/${encodeURIComponent(id)}`;
  const list = h("ol", { class: "thread" });
  const map = h("nav", { class: "minimap", "aria-label": "Places of the session" });
  const head = h("div", { class: "session-head" });
  const about = (await get(path)).data;
  if (!isCurrent()) return;
  view.replaceChildren(head, map, list);
  document.title = `${about.title ?? id} – Conversations`;
  const beside = neighbours(about);
  const update = async (session) => {
    const found = (await get(`${path}/thread`)).data;
    if (!isCurrent()) return;
    head.replaceChildren(h("h2", {}, clean(session.title ?? id)), facts(session), state(found.entries), await beside, downloads({ session: id }));
    const focused = document.activeElement?.closest?.(".entry")?.id;
    list.replaceChildren(...entries(found.entries, found.agents));
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    map.replaceChildren(...marks(found.entries));
  };
  await update(about);
  (document.getElementById(at ?? "") ?? view).scrollIntoView({ block: at ? "center" : "nearest" });
  document.getElementById(at ?? "")?.focus();
  let updating = Promise.resolve();
  let waiting = 0;
  watch(signal, (told) => {
    if (told.session !== id || waiting > 1) return;  // one that waits shows all there is by then
    waiting += 1;
    updating = updating.then(async () => update((await get(path)).data)).catch(() => {}).then(() => { waiting -= 1; });
  });
}

/** Two sessions side by side: what was asked, and how each went on. */
export async function compare(view, left, right, isCurrent) {
  const sides = await Promise.all([left, right].map(async (id) => {
    const path = `sessions/${encodeURIComponent(id)}`;
    const [about, said] = await Promise.all([get(path), get(`${path}/thread`)]);
    return h("section", { class: "side" }, h("h2", {}, h("a", { href: address({ session: id }) }, clean(about.data.title ?? id))), facts(about.data),
      h("ol", { class: "thread" }, entries(said.data.entries, said.data.agents)));
  }));
  if (!isCurrent()) return;
  document.title = "Two sessions – Conversations";
  view.replaceChildren(h("div", { class: "sides" }, sides));
}

/** Links to the sessions before and after this one in its project, and a choice of one to compare it with. */
async function neighbours(about) {
  const found = (await get("sessions", { project: about.project, limit: 200 }).catch(() => ({ data: [] }))).data;
  const place = found.findIndex((one) => one.id === about.id);
  const link = (one, rel, title) => (one ? h("a", { href: address({ session: one.id }), rel }, title) : null);
  const others = found.filter((one) => one.id !== about.id);
  const pick = h("select", { "aria-label": "Compare with" },
    h("option", { value: "" }, "Compare with…"), others.map((one) => h("option", { value: one.id }, clean(one.title ?? one.id).slice(0, 80))));
  const compared = h("a", { hidden: true }, "Compare");
  pick.addEventListener("change", () => {
    compared.href = address({ session: about.id, beside: pick.value });
    compared.click();
  });
  return h("p", { class: "actions" }, link(place < 0 ? null : found[place + 1], "prev", "Earlier session"), link(found[place - 1], "next", "Later session"),
    others.length ? [pick, compared] : null);
}

/** Whether the agent works or waits, as far as the last line tells. */
function state(said) {
  const last = said.at(-1);
  if (!last) return null;
  const isOpen = last.kind !== "answer" || last.parts.some((part) => part.type === "tool" && (part.result === undefined || part.result === null));
  if (!isOpen) return h("p", { class: "note state" }, "Waiting for you");
  return Date.now() - new Date(last.at).getTime() < WORKING ? h("p", { class: "note state" }, "Working") : null;
}

const MAX_MARKS = 300;

/** A mark for each place of a session: prompts and failures are seen among what is between them. */
function marks(said) {
  const each = Math.max(1, Math.ceil(said.length / MAX_MARKS));
  return Array.from({ length: Math.ceil(said.length / each) }, (_, place) => {
    const these = said.slice(place * each, (place + 1) * each);
    const shown = these.find((one) => one.kind === "prompt") ?? these[0];
    const isBad = these.some((one) => one.parts.some((part) => part.is_error));
    return h("a", { href: `#line-${shown.id}`, class: `${shown.kind}${isBad ? " bad" : ""}`, "aria-label": `${WHO[shown.kind] ?? shown.kind}, ${new Date(shown.at).toLocaleString()}`, tabindex: "-1" });
  });
}

function facts(session) {
  const told = [session.project, session.cwd, session.branch && `branch ${session.branch}`, session.host, session.version && `version ${session.version}`];
  return h("p", { class: "note" }, time(session.first_at), " – ", time(session.last_at), " · ",
    `${counted(session.prompts, "prompt")}, ${counted(session.answers, "line")} of answers`, " · ", told.filter(Boolean).map((one) => h("span", { class: "tag" }, clean(one))));
}

const entries = (said, agents) => said.map((one, place) => entry(one, agents, follows(one, said[place - 1])));

/** Whether an entry goes on with what the one before began: its head is not said again. */
const follows = (one, before) => before && one.kind === "answer" && before.kind === one.kind && before.model === one.model && before.branch === one.branch;

function entry(one, agents, isFollowing) {
  const link = h("a", { class: "note", href: `#line-${one.id}`, "aria-label": "Link to this line" }, time(one.at));
  return h("li", { class: `entry ${one.kind}${one.branch ? " aside" : ""}${isFollowing ? " following" : ""}`, id: `line-${one.id}`, tabindex: "-1" },
    h("p", { class: "by" }, h("strong", {}, WHO[one.kind] ?? one.kind), one.model ? h("span", { class: "note" }, ` ${one.model}`) : null, " ", link,
      one.branch ? h("span", { class: "tag" }, "taken back") : null),
    one.parts.map((part) => show(part, one, agents)));
}

function show(part, one, agents) {
  switch (part.type) {
    case "text": return text(part.text ?? "", one.kind);
    case "thinking": return folded("Thinking", "", () => [markdown(part.text ?? "")]);
    case "tool": return tool(part, agents);
    case "image": return image(part.input ?? {});
    default: return folded(part.type, "", () => [plain(JSON.stringify(part.input, null, 2))]);
  }
}

function text(given, kind) {
  if (kind === "answer") return markdown(given);
  if (kind === "prompt") return said(given);
  const command = /<command-name>([^<]*)<\/command-name>/.exec(given);
  const words = command ? `${command[1]} ${/<command-args>([^<]*)</.exec(given)?.[1] ?? ""}` : given.replace(/<[^>]*>/g, " ");
  return folded(kind === "event" ? "Told" : "Put in", clean(words).trim().split("\n")[0].slice(0, 160), () => [markdown(given)]);
}

const said = (text) => h("div", { class: "said" }, plain(text));

function tool(part, agents) {
  const input = part.input ?? {};
  const what = input.command ?? input.file_path ?? input.path ?? input.pattern ?? input.query ?? input.url ?? input.description ?? input.prompt ?? "";
  const took = part.seconds === undefined || part.seconds === null ? "" : ` · ${part.seconds < 10 ? part.seconds.toFixed(1) : Math.round(part.seconds)} s`;
  const state = part.result === undefined || part.result === null ? " · no result" : part.is_error ? " · failed" : "";
  const line = `${clean(String(what)).split("\n")[0].slice(0, 160)}${took}${state}`;
  return folded(part.name || "tool", line, () => [
    input.old_string !== undefined || input.new_string !== undefined ? change(input) : plain(JSON.stringify(input, null, 2)),
    part.result ? h("div", { class: part.is_error ? "result bad" : "result" }, plain(part.result)) : null,
    part.agent && agents[part.agent] ? h("ol", { class: "thread nested" }, entries(agents[part.agent], agents)) : null,
  ], part.is_error);
}

const change = (input) => h("div", { class: "change" },
  h("p", {}, h("code", {}, clean(String(input.file_path ?? "")))),
  input.old_string ? h("div", { class: "removed" }, plain(String(input.old_string))) : null,
  input.new_string ? h("div", { class: "added" }, plain(String(input.new_string))) : null);

function image(source) {
  if (source.type !== "base64" || !IMAGE.test(source.media_type ?? "") || typeof source.data !== "string") return h("p", { class: "note" }, "An image that cannot be shown");
  return h("img", { src: `data:${source.media_type};base64,${source.data}`, alt: "Image of the conversation", loading: "lazy" });
}

/** Something to unfold, made when it is. */
function folded(name, line, make, isBad = false) {
  const details = h("details", { class: isBad ? "fold bad" : "fold" }, h("summary", {}, h("strong", {}, clean(name)), line ? h("span", {}, ` ${line}`) : null));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(...make().filter(Boolean));
  });
  return details;
}
