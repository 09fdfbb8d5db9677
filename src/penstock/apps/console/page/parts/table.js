// Tables: Table for a few rows, each a card on a phone; DataTable for any number of rows and columns, of which only those in sight are drawn.

import { classes, html, useEffect, useLayoutEffect, useReducer, useRef, useState } from "../html.js";

const ROW = 36;
const AHEAD = 8;
const PAGE = 200;
const MAX_PIXELS = 8e6; // browsers cannot scroll over more; beyond it the scrollbar is scaled

/** {caption, columns: [{title, cell: (row) => vnode, number, main, short, isTitled}], rows, empty}: one that is not titled says what it has to readers of screens only. */
export function Table({ caption, columns, rows, empty = "Nothing here.", keyOf }) {
  if (!rows.length) return html`<p class="soft">${empty}</p>`;
  const kind = (column) => classes(column.number && "number", column.main && "main", column.short && "short");
  return html`<table class="table" role="table"><caption class="hidden-text">${caption}</caption>
    <thead role="rowgroup"><tr role="row">${columns.map((column) => html`<th role="columnheader" scope="col" class=${kind(column)}>${column.isTitled === false ? html`<span class="hidden-text">${column.title}</span>` : column.title}</th>`)}</tr></thead>
    <tbody role="rowgroup">${rows.map((row, index) => html`<tr role="row" key=${keyOf ? keyOf(row) : index}>
      ${columns.map((column) => html`<td role="cell" class=${kind(column)} data-title=${column.isTitled === false ? undefined : column.title}><div>${column.cell(row)}</div></td>`)}</tr>`)}</tbody></table>`;
}

/**
 * {caption, columns: [{key, title, width, number, cell: (row, index) => vnode, sortable}], rows} for rows that are here, or
 * {count, load: (offset, limit) => Promise of rows, version} for rows that are asked for by the page; a new `version` forgets them.
 * `sort: {key, descending}` and `onSort(key)`, `onRow(row, index)`, `height` in pixels. Arrow keys move, Enter opens a row.
 */
export function DataTable({ caption, columns, rows, count, load, version, sort, onSort, onRow, height = 480 }) {
  const place = useRef(null);
  const [view, setView] = useState({ top: 0, left: 0, width: 800, height });
  const [active, setActive] = useState(0);
  const total = rows ? rows.length : count ?? 0;
  const row = usePages(rows, load, version, total);
  const lefts = columns.reduce((sums, column) => [...sums, sums.at(-1) + (column.width ?? 160)], [0]);
  const natural = lefts.at(-1);
  const spare = Math.max(0, view.width - natural) / Math.max(1, columns.length); // short rows fill the place
  const left = (index) => lefts[index] + spare * index;
  const width = (index) => (columns[index].width ?? 160) + spare;
  const pixels = Math.min(total * ROW, MAX_PIXELS);
  const scale = total * ROW > MAX_PIXELS ? (total * ROW - view.height) / (MAX_PIXELS - view.height) : 1;
  const top = view.top * scale;
  const first = Math.max(0, Math.floor(top / ROW) - AHEAD);
  const last = Math.min(total, Math.ceil((top + view.height) / ROW) + AHEAD);
  const from = Math.max(0, columns.findIndex((_, index) => left(index) + width(index) >= view.left - 200));
  const until = columns.findLastIndex((_, index) => left(index) <= view.left + view.width + 200) + 1;

  useLayoutEffect(() => {
    const look = () => {
      const { scrollTop, scrollLeft, clientWidth, clientHeight } = place.current;
      setView({ top: scrollTop, left: scrollLeft, width: clientWidth, height: clientHeight - ROW });
    };
    const sized = new ResizeObserver(look);
    sized.observe(place.current);
    place.current.addEventListener("scroll", look, { passive: true });
    return () => sized.disconnect();
  }, []);
  useLayoutEffect(() => { // other rows are looked at from the first one on
    setActive(0);
    place.current.scrollTop = 0;
  }, [version]);
  const reveal = (index) => {
    const [begin, end] = [index * ROW, (index + 1) * ROW];
    if (begin < top) place.current.scrollTop = begin / scale;
    else if (end > top + view.height) place.current.scrollTop = (end - view.height) / scale;
  };
  const pressed = (event) => {
    const page = Math.max(1, Math.floor(view.height / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -total, End: total };
    if (event.target !== place.current) return;
    if (event.key in steps && !(event.key === "Home" && event.shiftKey)) {
      event.preventDefault();
      const next = Math.max(0, Math.min(total - 1, active + steps[event.key]));
      setActive(next);
      reveal(next);
    } else if (event.key === "Enter" && onRow && row(active)) onRow(row(active), active);
  };
  const cells = (of, index) => columns.slice(from, until).map((column, offset) => {
    const at = from + offset;
    return html`<div role="cell" key=${column.key} aria-colindex=${at + 1} class=${classes(column.number && "number")} style=${{ left: `${left(at)}px`, width: `${width(at)}px` }}>${of ? (column.cell ? column.cell(of, index) : of[column.key]) : ""}</div>`;
  });
  const header = (column, at) => html`<div role="columnheader" key=${column.key} aria-colindex=${at + 1} aria-sort=${sort?.key === column.key ? (sort.descending ? "descending" : "ascending") : undefined}
    class=${classes(column.number && "number")} style=${{ left: `${left(at)}px`, width: `${width(at)}px` }}>
    ${column.sortable && onSort ? html`<button type="button" class="plain" onClick=${() => onSort(column.key)}>${column.title}<span aria-hidden="true">${sort?.key === column.key ? (sort.descending ? " ↓" : " ↑") : ""}</span></button>` : column.title}</div>`;
  const lines = [];
  for (let index = first; index < last; index += 1) {
    const of = row(index);
    lines.push(html`<div role="row" key=${index} aria-rowindex=${index + 2} class=${classes(index === active && "active", onRow && "opens", !of && "absent")}
      style=${{ transform: `translateY(${index * ROW - top + view.top}px)` }} onClick=${() => { setActive(index); if (of && onRow) onRow(of, index); }}>${cells(of, index)}</div>`);
  }
  return html`<div class="data-table" ref=${place} style=${{ maxHeight: `${height}px` }} tabindex="0" role="table" aria-label=${caption} aria-rowcount=${total + 1} aria-colcount=${columns.length} onKeyDown=${pressed}>
    <div role="rowgroup" class="data-head" style=${{ width: `${Math.max(natural, view.width)}px` }}><div role="row" aria-rowindex="1">${columns.slice(from, until).map((column, offset) => header(column, from + offset))}</div></div>
    <div role="rowgroup" class="data-body" style=${{ width: `${Math.max(natural, view.width)}px`, height: `${pixels}px` }}>${lines}</div></div>`;
}

/** Return what gives the row at a place: from those that are here, or asked for by the page when they are first in sight. */
function usePages(rows, load, version, total) {
  const pages = useRef(new Map());
  const known = useRef(version);
  const [, redraw] = useReducer((count) => count + 1, 0);
  if (known.current !== version) {
    pages.current = new Map();
    known.current = version;
  }
  useEffect(() => () => {
    known.current = Symbol("gone");
  }, []);
  if (rows) return (index) => rows[index];
  return (index) => {
    const page = Math.floor(index / PAGE);
    const found = pages.current.get(page);
    if (found === undefined && index < total) {
      const asked = pages.current;
      asked.set(page, []);
      load(page * PAGE, PAGE).then((loaded) => {
        if (pages.current !== asked) return;
        asked.set(page, loaded);
        redraw();
      }, () => asked.delete(page));
    }
    return found?.[index - page * PAGE];
  };
}
