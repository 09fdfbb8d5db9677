// Short messages at the edge of the page: toast("Saved"), toast("Not saved: ...", "bad").

import { classes, html, useEffect, useState } from "../html.js";

const SHOWN_FOR = 6000;
let number = 0;

/** Say something for a few seconds; what went wrong stays until it is closed. */
export const toast = (text, kind = "") => dispatchEvent(new CustomEvent("toast", { detail: { text: String(text), kind, id: (number += 1) } }));

export function Toasts() {
  const [shown, setShown] = useState([]);
  const close = (id) => setShown((before) => before.filter((one) => one.id !== id));
  useEffect(() => {
    const take = ({ detail }) => {
      setShown((before) => [...before.slice(-3), detail]);
      if (detail.kind !== "bad") setTimeout(() => close(detail.id), SHOWN_FOR);
    };
    addEventListener("toast", take);
    return () => removeEventListener("toast", take);
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">${shown.map(({ id, text, kind }) => html`<p key=${id} class=${classes("toast", kind)}>
    <span>${text}</span><button type="button" class="plain" aria-label="Close" onClick=${() => close(id)}>×</button></p>`)}</div>`;
}
