// The sessions, and what was found in them.

import { button, h, time } from "../keys/dom.js";
import { get } from "./api.js";
import { clean } from "./text.js";

export const PAGE_SIZE = 50;

/** An address within this page. */
export const address = (parameters, fragment = "") => {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  return `conversations${query ? `?${query}` : ""}${fragment}`;
};

/** A number and what it counts. */
export const counted = (number, what) => `${number.toLocaleString()} ${what}${number === 1 ? "" : "s"}`;

const FILES = { jsonl: "JSON Lines", csv: "CSV", parquet: "Parquet", markdown: "Markdown", html: "HTML" };

/** Links to what is shown as files, without secrets. */
export function downloads(asked) {
  const link = ([format, title]) => {
    const query = new URLSearchParams(Object.entries({ format, ...asked }).filter(([, value]) => value)).toString();
    return h("a", { href: `api/conversations/download?${query}`, download: true }, title);
  };
  return h("p", { class: "actions note" }, "Download as ", Object.entries(FILES).map(link));
}

/** Show sessions, that of the latest line first. */
export async function sessions(view, project, isCurrent) {
  const list = h("ol", { class: "results" });
  const add = await paged(list, (cursor) => get("sessions", { project, limit: PAGE_SIZE, cursor }), (one) =>
    h("li", {}, h("a", { href: address({ session: one.id }) }, clean(one.title ?? one.id)),
      h("p", { class: "note" }, time(one.last_at), ` · ${counted(one.prompts, "prompt")} · `, h("span", { class: "tag" }, clean(one.project)))));
  if (!isCurrent()) return;
  const empty = h("p", { class: "note" }, "Nothing is stored yet. Lines that agents write below ~/.claude/projects show here by themselves; other folders are added with ", h("code", {}, "penstock conversations import"), ".");
  view.replaceChildren(h("h2", {}, "Sessions"), list.childElementCount ? list : empty, add, downloads({ project }));
}

/** Show the lines in which something was found. */
export async function results(view, { q, project, start, end, timezone }, signal, isCurrent) {
  const list = h("ol", { class: "results" });
  const asked = project ? `${q} project:"${project}"` : q;
  const add = await paged(list, (cursor) => get("search", { q: asked, start, end, timezone, limit: PAGE_SIZE, cursor }, signal), (hit) =>
    h("li", {}, h("a", { href: address({ session: hit.session, q, project }, `#line-${hit.id}`) }, clean(hit.title ?? hit.session ?? "A line of no session")),
      h("p", { class: "snippet" }, hit.snippet.map((piece, place) => (place % 2 ? h("mark", {}, clean(piece)) : clean(piece)))),
      h("p", { class: "note" }, time(hit.at), ` · ${hit.kind} · `, h("span", { class: "tag" }, clean(hit.project)))));
  if (!isCurrent()) return;
  view.replaceChildren(h("h2", {}, "Found"), list.childElementCount ? list : h("p", { class: "note" }, "Nothing was found."), add, downloads({ q, project, start, end, timezone }));
}

/** Fill a list with its first page; returns a button for the next ones, or nothing. */
async function paged(list, read, item) {
  let cursor;
  const next = async () => {
    const page = await read(cursor);
    list.append(...page.data.map(item));
    cursor = page.next_cursor;
    more.hidden = !cursor;
  };
  const more = button("More", next);
  await next();
  return more;
}
