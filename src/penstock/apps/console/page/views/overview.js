// The overview: what arrives, what is behind, and what is wrong.

import { html } from "../html.js";

export const view = {
  title: "Overview",
  open: async () => html`<header class="head"><h1>Overview</h1></header>`,
};
