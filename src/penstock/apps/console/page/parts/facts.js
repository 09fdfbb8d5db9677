// A list of names and values: pairs without a value are left out.

import { classes, html } from "../html.js";

export const Facts = ({ pairs, wide = false }) => html`<dl class=${classes("facts", wide && "wide")}>
  ${pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

/** Figures side by side: [{name, value, hint, kind, href}]. */
export const Figures = ({ figures }) => html`<ul class="figures">${figures.map(({ name, value, hint, kind, href }) => html`<li class=${classes(kind)}>
  <span class="name">${href ? html`<a href=${href}>${name}</a>` : name}</span><span class="value">${value}</span>${hint && html`<span class="hint">${hint}</span>`}</li>`)}</ul>`;
