// Values of tables as people read them.

import { html } from "../html.js";
import { visible } from "./format.js";

const NUMBERS = /^(tiny|small|big|huge|u)?int|^integer|^real|^double|^float|^numeric|^decimal|^ubig/i;

/** Tell whether a type of a database is one of numbers. */
export const isNumber = (type) => NUMBERS.test(type ?? "");

/** One cell, as text: what is missing is told apart from what is empty. */
export const cell = (value, isCut = false) => (value === null || value === undefined ? html`<span class="soft">null</span>` : value === "" ? html`<span class="soft">empty</span>` : html`<span>${visible(String(value).slice(0, 500))}${isCut ? "…" : ""}</span>`);

/** A name as it stands in SQL. */
export const quoted = (name) => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`);
