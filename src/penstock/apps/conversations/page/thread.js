// One session as it was spoken: prompts and answers, tools folded with what they answered, sub-agents below their calls.

import { h, time } from "../keys/dom.js";
import { get } from "./api.js";
import { counted } from "./lists.js";
import { clean, markdown, plain } from "./text.js";

const LOOK_INTERVAL = 2000;
const WHO = { prompt: "You", answer: "Agent", command: "Program", result: "Tool", event: "Event" };
const IMAGE = /^image\/(?:png|jpeg|gif|webp)$/;

/** Show a session; `at` is the line to begin with. What the agent writes meanwhile is added. */
export async function thread(view, id, at, isCurrent) {
  const path = `sessions/${encodeURIComponent(id)}`;
  const list = h("ol", { class: "thread" });
  const about = (await get(path)).data;
  const head = h("div", { class: "session-head" });
  view.replaceChildren(head, list);
  document.title = `${about.title ?? id} – Conversations`;
  let shown = 0;
  const update = async (session) => {
    const found = (await get(`${path}/thread`)).data;
    if (!isCurrent()) return;
    head.replaceChildren(h("h2", {}, clean(session.title ?? id)), facts(session));
    const focused = document.activeElement?.closest?.(".entry")?.id;
    list.replaceChildren(...entries(found.entries, found.agents));
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    shown = session.lines;
  };
  await update(about);
  (document.getElementById(at ?? "") ?? view).scrollIntoView({ block: at ? "center" : "nearest" });
  document.getElementById(at ?? "")?.focus();
  while (isCurrent()) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL));
    if (!isCurrent() || document.hidden) continue;
    const session = await get(path).then((answer) => answer.data, () => about);
    if (session.lines > shown) await update(session);
  }
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
