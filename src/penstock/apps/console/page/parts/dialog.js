// Dialogs: ask({title, text, verb, danger, fields}) resolves to the values of the fields, or to null for no.

import { html, render, useEffect, useId, useRef } from "../html.js";

/** A dialog that is open while it is there; Escape and a click beside it close it. */
export function Dialog({ title, close, wide = false, children }) {
  const element = useRef(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${element} class=${wide ? "wide" : undefined} aria-labelledby=${id} onClose=${close} onClick=${(event) => event.target === element.current && element.current.close()}>
    <div class="dialog-body"><h2 id=${id}>${title}</h2>${children}</div></dialog>`;
}

/** Ask whether to do something. A field is {name, label, value, type, options: [[value, text]], hint, required}. */
export function ask({ title, text = "", verb = "OK", danger = false, fields = [] }) {
  return new Promise((resolve) => {
    const place = document.createElement("div");
    let answer = null;
    const close = () => {
      render(null, place);
      place.remove();
      resolve(answer);
    };
    const submit = (event) => {
      event.preventDefault();
      answer = Object.fromEntries(new FormData(event.target));
      event.target.closest("dialog").close();
    };
    document.body.append(place);
    render(html`<${Dialog} title=${title} close=${close}><form onSubmit=${submit} autocomplete="off">
      <div class="dialog-text">${text}</div>
      ${fields.map((field) => html`<${Field} ...${field} />`)}
      <p class="actions end"><button type="button" onClick=${(event) => event.target.closest("dialog").close()}>Cancel</button>
        <button type="submit" class=${danger ? "primary danger" : "primary"}>${verb}</button></p></form><//>`, place);
  });
}

/** A labelled control of a form. */
export function Field({ name, label, hint, options, type = "text", ...rest }) {
  const id = useId();
  const described = hint ? `${id}-hint` : undefined;
  const control = options
    ? html`<select id=${id} name=${name} aria-describedby=${described} ...${rest}>${options.map(([value, text]) => html`<option value=${value} selected=${value === rest.value}>${text}</option>`)}</select>`
    : type === "textarea"
      ? html`<textarea id=${id} name=${name} aria-describedby=${described} rows="4" ...${rest}></textarea>`
      : html`<input id=${id} name=${name} type=${type} aria-describedby=${described} autocomplete="off" ...${rest} />`;
  return html`<p class="field"><label for=${id}>${label}</label>${control}${hint && html`<span class="soft" id=${described}>${hint}</span>`}</p>`;
}
