// What arrived when: the ingests, newest first, and how many points came on each day.

import * as api from "./api.js";
import { button, facts, h, note, s, table, unique } from "./dom.js";
import { addDays, ago, bytes, count, day, instant, isoDay, midnight, pretty, second, words } from "./format.js";
import { COLUMNS, perType, sentence, state } from "./counts.js";
import { paged } from "./view.js";

const PAGE = 100;
const DAYS = 60;

export async function open({ signal }) {
  const seen = new Map();
  const strip = h("div");
  const summary = h("div");
  let complete = false;
  const pages = paged(async (cursor) => {
    const answer = await api.get("ingests", { limit: PAGE, cursor }, signal);
    for (const ingest of answer.data) seen.set(ingest.id, ingest);
    complete ||= !answer.next_cursor;
    if (!cursor) summary.replaceChildren(latest(answer.data[0]));
    strip.replaceChildren(...days([...seen.values()], complete));
    return { nodes: list(answer.data, cursor), next: answer.next_cursor };
  }, signal, "arrivals");
  await pages.show();
  return [summary, strip, pages.element];
}

function latest(ingest) {
  if (!ingest) return note("Nothing has arrived yet. Once your phone sends, it shows here.");
  return h("p", { class: "lead" }, "The last data arrived ", h("strong", { title: second(ingest.received_at) }, ago(ingest.received_at)), `: ${sentence(ingest.counts)}.`);
}

function list(rows, cursor) {
  return table({
    caption: "What arrived, newest first",
    rows,
    empty: cursor ? "There is nothing older." : "",
    columns: [
      { title: "Arrived", main: true, cell: (row) => arrived(row) },
      { title: "Automation", cell: (row) => automation(row) ?? "" },
      { title: "Size", number: true, cell: (row) => bytes(row.bytes) },
      { title: "State", cell: (row) => [state(row), row.duplicate ? h("span", { class: "tag", title: "The same bytes had arrived before" }, "duplicate") : null].filter(Boolean) },
      ...COLUMNS,
    ].map((column) => ({ ...column, cell: (row) => column.cell(column.number && row.counts ? { ...row, ...row.counts } : row) })),
    after: (row, line) => {
      const node = h("div", { id: unique("details") });
      const opener = line.querySelector("button");
      opener.setAttribute("aria-controls", node.id);
      opener.addEventListener("click", () => {
        const below = node.closest("tr");
        below.hidden = !below.hidden;
        opener.setAttribute("aria-expanded", String(!below.hidden));
        if (!node.childElementCount) node.append(...details(row));
      });
      return { node, hidden: true };
    },
  });
}

const arrived = (row) => button(instant(row.received_at), () => {}, { class: "link opener", "aria-expanded": "false" });

const automation = (row) => Object.entries(row.headers ?? {}).find(([name]) => name.toLowerCase() === "automation-name")?.[1];

function details(row) {
  const types = perType(row.types);
  return [
    row.error ? h("p", { class: "problem" }, `Nothing of this could be read: ${row.error}`) : null,
    table({ caption: "What became of the points, by type", rows: types, empty: "No points were found in it.", columns: [{ title: "Type", main: true, cell: ({ type }) => words(type) }, ...COLUMNS] }),
    facts([
      ["Stored at", row.completed_at ? second(row.completed_at) : null],
      ["Format", row.format],
      ["Attempt", row.attempt > 1 ? count(row.attempt) : null],
      ...Object.entries(row.headers ?? {}).map(([name, value]) => [words(name.replaceAll("-", "_")), typeof value === "string" ? value : pretty(value)]),
      ["SHA-256", h("code", {}, row.sha256)],
      ["Id", h("code", {}, row.id)],
    ]),
    row.counts?.quarantined ? h("p", {}, h("a", { href: "#/quarantine" }, "See what was quarantined and why")) : null,
  ].filter(Boolean);
}

/** A bar for each day: what was new, what was known already, and what could not be stored. */
function days(ingests, complete) {
  if (!ingests.length) return [];
  const sums = new Map();
  for (const { received_at, counts } of ingests) {
    const key = isoDay(received_at);
    const sum = sums.get(key) ?? { received: 0, news: 0, known: 0, quarantined: 0, ingests: 0 };
    sum.ingests += 1;
    sum.received += counts?.received ?? 0;
    sum.news += (counts?.stored ?? 0) + (counts?.updated ?? 0);
    sum.known += counts?.unchanged ?? 0;
    sum.quarantined += counts?.quarantined ?? 0;
    sums.set(key, sum);
  }
  const oldest = [...sums.keys()].sort()[0];
  const shown = [];
  for (let back = 0; back < DAYS; back += 1) {
    const key = isoDay(addDays(new Date(), -back));
    if (key < oldest && shown.length >= 14) break;
    shown.unshift([key, sums.get(key), key < oldest && !complete]);
  }
  const most = Math.max(1, ...shown.map(([, sum]) => sum?.received ?? 0));
  const bars = shown.map(([key, sum, unknown], index) => {
    let at = 100;
    const stacked = ["news", "known", "quarantined"].map((kind) => {
      const tall = ((sum?.[kind] ?? 0) / most) * 96;
      at -= tall;
      return tall ? s("rect", { class: kind, x: index * 10 + 1, y: at, width: 8, height: Math.max(tall, 1) }) : null;
    });
    const said = sum ? `${day(midnight(key))}: ${count(sum.received)} points in ${count(sum.ingests)} ${sum.ingests === 1 ? "arrival" : "arrivals"}, ${count(sum.news)} new or changed, ${count(sum.known)} unchanged, ${count(sum.quarantined)} quarantined` : `${day(midnight(key))}: nothing${unknown ? " looked at yet" : " arrived"}`;
    return s("g", {}, s("title", {}, said), s("rect", { class: unknown ? "slot unknown" : "slot", x: index * 10, y: 0, width: 10, height: 100 }), stacked, sum ? null : s("rect", { class: "none", x: index * 10 + 1, y: 98.5, width: 8, height: 1.5 }));
  });
  const total = shown.filter(([, sum]) => sum);
  const label = `Points by day of arrival. ${count(total.length)} of ${count(shown.length)} days have arrivals; the most points on one day are ${count(most)}.`;
  return [h("figure", { class: "strip" },
    h("h3", {}, "Points by day of arrival"),
    s("svg", { viewBox: `0 0 ${shown.length * 10} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label }, bars),
    h("p", { class: "ends" }, h("span", {}, day(midnight(shown[0][0]))), h("span", {}, `at most ${count(most)}`), h("span", {}, "today")),
    h("figcaption", { class: "legend" }, h("span", { class: "key news" }, "new or changed"), h("span", { class: "key known" }, "unchanged"), h("span", { class: "key quarantined" }, "quarantined"), complete ? null : h("span", {}, "Older days show with the older pages.")))];
}
