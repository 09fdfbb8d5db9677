// Who did what: the audit, page by page.

import * as api from "./api.js";
import { act, button, h, table, time } from "./dom.js";

export async function audit(told) {
  const [list, problem] = [h("div"), h("p", { class: "problem", role: "alert" })];
  const rows = [];
  let cursor = null;
  const more = button("Show older", (event) => act(event.currentTarget, problem, next));
  const next = async () => {
    const page = await api.get("audit", { limit: "50", cursor }).catch((error) => { told(error); throw error; });
    rows.push(...page.data);
    cursor = page.next_cursor;
    more.hidden = !cursor;
    list.replaceChildren(table("Audit", [
      { title: "What", main: true, cell: (row) => [row.action.replaceAll("_", " "), row.outcome === "success" ? null : h("span", { class: "tag bad" }, row.outcome)] },
      { title: "When", cell: (row) => time(row.time) },
      { title: "On", cell: (row) => (row.resource ? h("code", {}, row.resource) : "") },
      { title: "From", cell: (row) => h("span", { class: "whole" }, row.address) },
      { title: "More", cell: (row) => details(row.details) },
    ], rows, "Nothing was done yet."));
  };
  await next();
  return h("section", { "aria-labelledby": "audit-title" }, h("h2", { id: "audit-title" }, "Audit"),
    h("p", { class: "note" }, "What was done and tried with keys and sessions, the newest first."), problem, list, h("p", {}, more));
}

const details = (found) => Object.entries(found ?? {}).filter(([name, value]) => name !== "session" && value !== null && !(name === "times" && value === 1))
  .map(([name, value]) => `${name.replaceAll("_", " ")}: ${Array.isArray(value) ? value.join(", ") : value}`).join("; ");
