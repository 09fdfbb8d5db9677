// A field for SQL: CodeMirror where it could be loaded, and a text area until then.

import { html, useEffect, useRef } from "../html.js";

let loading;
const load = () => (loading ??= import("../vendor/codemirror.js"));

/** {value, version, change(text), run(), tables: [{name}], placeholder}; a new `version` puts `value` in place of what was written. */
export function Editor({ value, version, change, run, placeholder, tables }) {
  const place = useRef(null);
  const area = useRef(null);
  const editor = useRef(null);
  const kept = useRef({});
  kept.current = { value, change, run };
  useEffect(() => {
    let isGone = false;
    load().then((library) => {
      if (isGone) return;
      area.current.hidden = true;
      editor.current = make(library, place.current, kept, { placeholder, tables });
    }, () => {}); // the text area stays
    return () => {
      isGone = true;
      editor.current?.destroy();
      editor.current = null;
    };
  }, []);
  useEffect(() => {
    const text = editor.current?.state.doc.toString();
    if (text !== undefined && text !== value) editor.current.dispatch({ changes: { from: 0, to: text.length, insert: value } });
  }, [version]);
  const pressed = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    run();
  };
  return html`<div class="sql-editor" ref=${place}></div>
    <textarea ref=${area} aria-label="SQL" rows="6" spellcheck=${false} placeholder=${placeholder} value=${value} onInput=${(event) => change(event.target.value)} onKeyDown=${pressed}></textarea>`;
}

function make(library, place, kept, { placeholder, tables }) {
  const { EditorView, EditorState, HighlightStyle, keymap, tags } = library;
  // In a shadow its styles are adopted sheets, which the policy of the page allows; style elements it does not.
  const root = place.shadowRoot ?? place.attachShadow({ mode: "open" });
  const colours = HighlightStyle.define([
    { tag: tags.keyword, color: "var(--accent)", fontWeight: "600" },
    { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
    { tag: [tags.number, tags.bool, tags.null], color: "var(--warn)" },
    { tag: tags.comment, color: "var(--soft)" },
  ]);
  const theme = EditorView.theme({
    "&": { color: "var(--ink)", backgroundColor: "var(--raised)", border: "1px solid var(--rule)", borderRadius: "7px", fontSize: "0.875rem", minHeight: "8rem", maxHeight: "50vh" },
    "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
    ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55", overflow: "auto" },
    ".cm-content": { padding: "0.625rem 0", caretColor: "var(--ink)" },
    ".cm-placeholder": { color: "var(--soft)" },
    ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--ink)", border: "1px solid var(--rule)" },
    ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  });
  const schema = Object.fromEntries(tables.map((one) => [one.place === "rows" ? one.name : `${one.place}.${one.name}`, []]));
  const runs = { key: "Mod-Enter", run: () => { kept.current.run(); return true; } };
  const told = EditorView.updateListener.of((update) => update.docChanged && kept.current.change(update.state.doc.toString()));
  return new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: kept.current.value,
      extensions: [
        keymap.of([runs, ...library.completionKeymap, ...library.historyKeymap, ...library.defaultKeymap]),
        library.history(), library.bracketMatching(), library.closeBrackets(), library.autocompletion(), library.placeholder(placeholder),
        library.sql({ dialect: library.StandardSQL, schema }), library.syntaxHighlighting(colours), theme, told,
        EditorView.lineWrapping, EditorView.contentAttributes.of({ "aria-label": "SQL" }),
      ],
    }),
  });
}
