// Tokens and costs, added up by what is chosen.

import { h, table, time } from "../keys/dom.js";
import { get } from "./api.js";
import { address } from "./lists.js";
import { clean } from "./text.js";

const WAYS = { daily: "Day", monthly: "Month", model: "Model", project: "Project", session: "Session", blocks: "Five hours" };
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const DOLLARS = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD" });

/** Show what was used. */
export async function usage(view, by, project, isCurrent) {
  const way = WAYS[by] ? by : "daily";
  const found = (await get("usage", { by: way, project, timezone: ZONE })).data;
  if (!isCurrent()) return;
  const rows = way === "daily" || way === "monthly" || way === "blocks" ? found.reverse() : found.sort((a, b) => b.cost_usd - a.cost_usd);
  const number = (read) => (row) => read(row).toLocaleString();
  const columns = [
    { title: WAYS[way], main: true, cell: (row) => name(way, row) },
    { title: "Input", cell: number((row) => row.tokens.input) },
    { title: "Output", cell: number((row) => row.tokens.output) },
    { title: "Cache written", cell: number((row) => row.tokens.cache_write_5m + row.tokens.cache_write_1h) },
    { title: "Cache read", cell: number((row) => row.tokens.cache_read) },
    { title: "Responses", cell: number((row) => row.responses) },
    { title: "Cost", cell: (row) => DOLLARS.format(row.cost_usd) + (row.unpriced.length ? " +" : "") },
  ];
  const total = found.reduce((sum, row) => sum + row.cost_usd, 0);
  const unpriced = [...new Set(found.flatMap((row) => row.unpriced))];
  view.replaceChildren(
    h("h2", {}, `${DOLLARS.format(total)} in all`),
    h("p", { class: "actions" }, Object.entries(WAYS).map(([key, title]) =>
      h("a", { href: address({ view: "usage", by: key, project }), "aria-current": key === way ? "true" : null }, title))),
    unpriced.length ? h("p", { class: "note" }, `+ without the price of ${unpriced.map(clean).join(", ")}: the option prices adds it.`) : "",
    table("Tokens and costs", columns, rows, "No tokens were counted yet."));
}

function name(way, row) {
  if (way === "session") return h("a", { href: address({ session: row.key }) }, clean(row.key || "none"));
  return way === "blocks" ? time(row.key) : clean(row.key || "unknown");
}
