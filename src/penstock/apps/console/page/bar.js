// The bar of the console before a document of its own: `<script type="module" src="console/bar.js">` in its head, and frame.css.

import { html, render } from "./html.js";
import { Frame } from "./frame.js";

/** Return the navigation if somebody has signed in at the console; without a session the document is as it is. */
async function navigation() {
  if (!localStorage.getItem("penstock-session")) return null;
  const response = await fetch(new URL("../api/console/navigation", import.meta.url), { credentials: "same-origin", cache: "no-store" });
  return response.ok ? (await response.json()).data : null;
}

async function show() {
  const session = await navigation().catch(() => null);
  if (!session) return;
  const place = document.createElement("div");
  document.body.prepend(place);
  document.body.classList.add("framed");
  const here = session.pages.find((page) => !page.module && location.pathname.endsWith(page.path));
  render(html`<${Frame} session=${session} current=${here?.path} />`, place);
}

show();
