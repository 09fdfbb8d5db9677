// Builds elements. Texts become text nodes and nothing else: what people and phones send is never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: h("p", {class: "note"}, "text", child). `on` has its listeners. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** Make an element of an SVG. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function fill(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on") || name === "style") throw new Error(`the attribute ${name} is not set like this`);
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const button = (text, click, attributes = {}) => h("button", { type: "button", on: { click }, ...attributes }, text);

export const note = (...children) => h("p", { class: "note" }, ...children);

/** A list of names and values; pairs without a value are left out. */
export function facts(pairs, attributes = {}) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts", ...attributes }, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/**
 * Make a table. A column is {title, cell: (row) => text or node, number: true, date: true}; `date` is not broken; `after` may return a node
 * that opens below a row. Roles are said in so many words, because on a phone the rows are laid out as blocks.
 */
export function table({ caption, columns, rows, empty = "Nothing here.", after = null }) {
  if (rows.length === 0) return note(empty);
  const kind = (column) => [column.number ? "number" : "", column.date ? "date" : "", column.main ? "main" : ""].join(" ").trim() || null;
  const body = rows.flatMap((row) => {
    const cells = columns.map((column) =>
      h("td", { role: "cell", class: kind(column), "data-title": column.title || null }, h("div", { class: "cell" }, column.cell(row) ?? "")));
    const line = h("tr", { role: "row" }, cells);
    const below = after?.(row, line);
    return below ? [line, h("tr", { role: "row", class: "below", hidden: below.hidden }, h("td", { role: "cell", colspan: columns.length }, below.node))] : [line];
  });
  const head = h("tr", { role: "row" }, columns.map((column) => h("th", { role: "columnheader", scope: "col", class: kind(column) }, column.title)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", { role: "table" },
      h("caption", { class: "hidden-text" }, caption),
      h("thead", { role: "rowgroup" }, head),
      h("tbody", { role: "rowgroup" }, body)));
}

/** Whether drawings have the width of a phone. */
export const narrow = () => matchMedia("(max-width: 44rem)").matches;

let ids = 0;
/** An id that no other element of this page has. */
export const unique = (prefix) => `${prefix}-${(ids += 1)}`;

/** A labelled control. */
export function field(label, control, attributes = {}) {
  control.id ||= unique("control");
  return h("p", { class: "field", ...attributes }, h("label", { for: control.id }, label), control);
}
