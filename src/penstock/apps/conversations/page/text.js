// Shows what agents and tools wrote. All of it is hostile until it is text: nothing here makes markup of it.

import { button, h } from "../keys/dom.js";
import { lexer } from "./marked.js";

const MAX_SHOWN = 20_000;
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const SAFE_LINK = /^(?:https?:|mailto:)/i;

/** A text without what a terminal would obey, and without what turns the order of letters around. */
export const clean = (text) => text.replace(ANSI, "").replace(CONTROLS, "\ufffd");

/** A text as it is, its end only once it is asked for. */
export function plain(text) {
  const shown = clean(text);
  const content = h("pre", {}, shown.slice(0, MAX_SHOWN));
  if (shown.length <= MAX_SHOWN) return content;
  const more = button(`Show all ${shown.length.toLocaleString()} characters`, () => {
    content.textContent = shown;
    more.remove();
  });
  return h("div", {}, content, more);
}

/** A text in Markdown; a very long one is shown as it is. */
export function markdown(text) {
  if (text.length > MAX_SHOWN * 5) return plain(text);
  try {
    return h("div", { class: "markdown" }, blocks(lexer(clean(text))));
  } catch {
    return plain(text);
  }
}

const blocks = (tokens = []) => tokens.map(block);
const inline = (tokens = []) => tokens.map(span);

function block(token) {
  switch (token.type) {
    case "space": case "def": return null;
    case "heading": return h(`h${Math.min(6, token.depth + 2)}`, {}, inline(token.tokens));
    case "paragraph": return h("p", {}, inline(token.tokens));
    case "text": return token.tokens ? h("p", {}, inline(token.tokens)) : h("p", {}, token.text);
    case "code": return h("pre", { "data-language": token.lang || null }, h("code", {}, token.text));
    case "blockquote": return h("blockquote", {}, blocks(token.tokens));
    case "hr": return h("hr");
    case "list": return h(token.ordered ? "ol" : "ul", { start: token.ordered && token.start !== 1 ? token.start : null },
      token.items.map((item) => h("li", {}, item.task ? (item.checked ? "☑ " : "☐ ") : null, parts(item.tokens))));
    case "table": return table(token);
    default: return h("p", {}, token.raw ?? "");
  }
}

/** The parts of an item of a list: a text alone needs no paragraph. */
const parts = (tokens = []) => tokens.map((token) => (token.type === "text" ? (token.tokens ? inline(token.tokens) : token.text) : token.type === "checkbox" ? null : block(token)));

function table(token) {
  const row = (cells, tag) => h("tr", {}, cells.map((cell) => h(tag, {}, inline(cell.tokens))));
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" },
    h("table", {}, h("thead", {}, row(token.header, "th")), h("tbody", {}, token.rows.map((cells) => row(cells, "td")))));
}

function span(token) {
  switch (token.type) {
    case "strong": return h("strong", {}, inline(token.tokens));
    case "em": return h("em", {}, inline(token.tokens));
    case "del": return h("del", {}, inline(token.tokens));
    case "codespan": return h("code", {}, token.text);
    case "br": return h("br");
    case "link": return SAFE_LINK.test(token.href)
      ? h("a", { href: token.href, rel: "noreferrer noopener", target: "_blank" }, inline(token.tokens)) : token.raw;
    case "escape": return token.text;
    case "text": return token.tokens ? inline(token.tokens) : unescaped(token);
    default: return token.raw ?? "";
  }
}

/** What was written: the lexer escapes some texts for HTML, which text nodes need not. */
const unescaped = (token) => token.raw ?? token.text;
