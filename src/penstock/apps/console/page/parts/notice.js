// What a person should know: {kind: "", "good", "warn" or "bad", title, actions}.

import { classes, html } from "../html.js";

export const Notice = ({ kind = "", title, actions, children }) => html`<div class=${classes("notice", kind)} role=${kind === "bad" ? "alert" : "note"}>
  ${title && html`<p class="notice-title">${title}</p>`}<div>${children}</div>${actions && html`<p class="actions">${actions}</p>`}</div>`;

/** What a list says that is empty. */
export const Empty = ({ title, children }) => html`<div class="empty"><p class="empty-title">${title}</p><div class="soft">${children}</div></div>`;

/** A state in one word, with its colour: kind as of a notice. */
export const Pill = ({ kind = "", children }) => html`<span class=${classes("pill", kind)}>${children}</span>`;
