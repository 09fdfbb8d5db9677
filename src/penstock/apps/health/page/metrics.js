// All metrics there are, to be searched.

import * as api from "./api.js";
import { button, h, note, table } from "./dom.js";
import { count, day, instant, number, words } from "./format.js";

const PAGE = 50;

export async function open({ signal }) {
  const { data } = await api.get("metrics", {}, signal);
  const search = h("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false" });
  const place = h("div");
  const told = h("p", { class: "note", "aria-live": "polite" });
  const rows = [...data].sort((one, other) => label(one).localeCompare(label(other)));
  let page = 0;
  const show = () => {
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter((row) => wanted.every((word) => `${row.name} ${label(row)} ${row.unit ?? ""}`.toLowerCase().includes(word)));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(page, pages - 1);
    told.textContent = wanted.length ? `${count(found.length)} of ${count(rows.length)} metrics` : `${count(rows.length)} metrics`;
    place.replaceChildren(list(found.slice(page * PAGE, (page + 1) * PAGE), rows.length), ...turning(pages));
  };
  const turning = (pages) => {
    if (pages < 2) return [];
    const go = (step) => () => {
      page += step;
      show();
    };
    const [back, on] = [button("Previous", go(-1)), button("Next", go(1))];
    [back.disabled, on.disabled] = [page === 0, page === pages - 1];
    return [h("nav", { class: "pager", "aria-label": "Pages of metrics" }, back, h("span", {}, `Page ${page + 1} of ${pages}`), on)];
  };
  search.addEventListener("input", () => {
    page = 0;
    show();
  });
  show();
  if (!rows.length) return note("There are no points yet. Once your phone sends, its metrics show here.");
  return [h("p", { class: "field search" }, h("label", { for: "search" }, "Search"), search), told, place];
}

export const label = (row) => row.label || words(row.name);

function list(rows, all) {
  return table({
    caption: "Metrics",
    rows,
    empty: all ? "No metric is called so." : "",
    columns: [
      { title: "Metric", main: true, cell: (row) => [h("a", { href: `#/metrics/${encodeURIComponent(row.name)}` }, label(row)), h("code", { class: "name" }, row.name)] },
      { title: "Unit", cell: (row) => row.unit ?? "" },
      { title: "Points", number: true, cell: (row) => count(row.count) },
      { title: "Latest value or day", number: true, cell: (row) => (row.latest && Number.isFinite(row.latest.value) ? number(row.latest.value) : "") },
      { title: "Latest at", date: true, cell: (row) => instant(row.latest?.time ?? row.last) },
      { title: "First", date: true, cell: (row) => day(row.first) },
    ],
  });
}
