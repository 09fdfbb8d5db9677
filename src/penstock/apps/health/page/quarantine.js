// Points that could not be stored: what was sent, why it was not stored, and another try.

import * as api from "./api.js";
import { button, facts, h, note } from "./dom.js";
import { count, instant, pretty, words } from "./format.js";
import { outcome, sentence } from "./counts.js";
import { act, paged, pause } from "./view.js";

const PATIENCE = 120_000;

export async function open({ signal, session }) {
  const may = session.scopes.includes("ingest");
  const also = h("input", { type: "checkbox", id: "resolved" });
  const place = h("div");
  const show = async () => {
    const pages = paged(async (cursor) => {
      const answer = await api.get("quarantine", { limit: 25, cursor, open: also.checked ? "false" : "true" }, signal);
      return { nodes: grouped(answer.data, also.checked, { signal, may }), next: answer.next_cursor };
    }, signal, "quarantined points");
    place.replaceChildren(pages.element);
    await pages.show();
  };
  also.addEventListener("change", show);
  await show();
  return [
    h("p", { class: "lead" }, "Points that could not be stored are kept here, as they were sent."),
    h("p", { class: "field check" }, also, h("label", { for: "resolved" }, "Also show what could be stored later")),
    may ? null : note("To try again, sign in with a key that may send data."),
    place,
  ].filter(Boolean);
}

function grouped(rows, all, view) {
  if (!rows.length) return note(all ? "Nothing was ever quarantined." : "Nothing is quarantined. Every point that arrived is stored.");
  const groups = new Map();
  for (const row of rows) groups.set(row.ingest, [...(groups.get(row.ingest) ?? []), row]);
  return [...groups].map(([ingest, points]) => group(ingest, points, view));
}

function group(ingest, points, { signal, may }) {
  const told = h("div", { class: "told", role: "status" });
  const where = api.path`ingest/${ingest}/reprocess`;
  const retry = button("Retry all of this arrival", (event) => act(event.currentTarget, told, async () => {
    const now = await again(where, ingest, told, signal);
    told.replaceChildren(note(`Done, attempt ${now.attempt}: ${sentence(now.counts)}.`));
    articles.forEach(({ row, settle }) => settle(found(now, row), now));
  }));
  const articles = points.map((row) => article(row, ingest, { signal, may }));
  return h("section", { class: "group", "aria-label": `Arrived ${instant(points[0].created_at)}` },
    h("header", {}, h("h3", {}, `Arrived ${instant(points[0].created_at)}`), may && points.some((row) => !row.resolved_at) ? retry : null),
    told,
    articles.map(({ element }) => element));
}

function article(row, ingest, { signal, may }) {
  const told = h("div", { class: "told", role: "status" });
  const retry = button("Retry", (event) => act(event.currentTarget, told, async () => {
    const now = await again(api.path`quarantine/${row.id}/retry`, ingest, told, signal);
    settle(found(now, row), now);
  }), { "aria-label": `Retry ${words(row.type)}, ${row.path}` });
  const settle = (still, now) => {
    if (still) told.replaceChildren(note(`Still not stored: ${still.reason}`));
    else if (now.state === "failed") told.replaceChildren(note(`Nothing could be read: ${now.message ?? "no reason is known"}`));
    else if (now.counts.quarantined > now.quarantined.length) told.replaceChildren(note(`Done: ${sentence(now.counts)}. Open this view again to see whether this point is among them.`));
    else {
      told.replaceChildren(h("p", { class: "good" }, "It is stored now."));
      retry.remove();
    }
  };
  const element = h("article", { class: "quarantined-point", "aria-label": `${words(row.type)}, ${row.path}` },
    h("h4", {}, words(row.type), row.resolved_at ? h("span", { class: "tag" }, `stored ${instant(row.resolved_at)}`) : null),
    h("p", { class: "reason" }, row.reason),
    facts([["Where", h("code", {}, row.path)], ["Place in its list", Number.isFinite(row.index) ? count(row.index) : null]]),
    h("details", { class: "sent" }, h("summary", {}, "What was sent"), h("pre", {}, pretty(row.payload))),
    row.resolved_at || !may ? null : h("p", { class: "actions" }, retry),
    told);
  return { element, row, settle };
}

const found = (now, row) => now.quarantined.find((one) => one.path === row.path && one.type === row.type);

/** Have it processed again, and wait until that is done; returns the outcome. */
async function again(where, ingest, told, signal) {
  const status = api.path`ingest/${ingest}`;
  const before = outcome(await api.get(status, {}, signal));
  await api.send("POST", where, undefined, signal);
  told.replaceChildren(note("It is being processed again …"));
  const until = Date.now() + PATIENCE;
  for (let wait = 250; Date.now() < until; wait = Math.min(wait * 1.5, 5000)) {
    await pause(wait, signal);
    const now = outcome(await api.get(status, {}, signal));
    if (now.attempt > before.attempt && (now.state === "processed" || now.state === "failed")) return now;
  }
  throw new api.Problem(202, "slow", "This takes longer than expected. It goes on without this page; come back in a while.");
}
