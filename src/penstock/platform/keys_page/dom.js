// Builds elements. Texts become text nodes and nothing else: what people name their keys is never markup.

/** Make an element: h("p", {class: "note"}, "text", child). `on` has its listeners. */
export function h(tag, { on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const button = (text, click, attributes = {}) => h("button", { type: "button", on: { click }, ...attributes }, text);

let ids = 0;
/** A labelled control, and what explains it. */
export function field(label, control, hint) {
  control.id ||= `control-${(ids += 1)}`;
  if (!hint) return h("p", { class: "field" }, h("label", { for: control.id }, label), control);
  control.setAttribute("aria-describedby", `${control.id}-hint`);
  return h("p", { class: "field" }, h("label", { for: control.id }, label), control, h("span", { class: "note", id: `${control.id}-hint` }, hint));
}

/** A checkbox and its label. */
export function check(label, box, hint) {
  box.id ||= `control-${(ids += 1)}`;
  return h("p", { class: "check" }, box, h("label", { for: box.id }, label, hint ? h("span", { class: "note" }, hint) : null));
}

/** A table: columns are {title, cell: (row) => text or node}. On a phone each row is a card. */
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "note" }, empty);
  const cells = (row) => columns.map(({ title, cell, main }) =>
    h("td", { role: "cell", class: main ? "main" : null, "data-title": title || null }, h("div", {}, cell(row) ?? "")));
  return h("table", { role: "table" },
    h("caption", { class: "hidden-text" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(({ title }) => h("th", { role: "columnheader", scope: "col" }, title)))),
    h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, cells(row)))));
}

const SHOWN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A time as a person reads it, with the exact one behind it. */
export const time = (text) => (text ? h("time", { datetime: text, title: text }, SHOWN.format(new Date(text))) : null);

/** Ask whether to do something: resolves to whether it was confirmed. Escape and Cancel do not. */
export function confirmed(title, text, verb, ...controls) {
  return new Promise((resolve) => {
    const id = `dialog-${(ids += 1)}`;
    const dialog = h("dialog", { "aria-labelledby": id },
      h("h3", { id }, title), h("p", {}, text), controls,
      h("p", { class: "actions" }, button(verb, () => dialog.close("yes"), { class: "primary" }), button("Cancel", () => dialog.close())));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Do something that a button asks for: it is off meanwhile, and what goes wrong is said in `problem`. */
export async function act(control, problem, work) {
  problem.textContent = "";
  control.disabled = true;
  try {
    await work();
  } catch (error) {
    problem.textContent = error.message;
  } finally {
    control.disabled = false;
  }
}
