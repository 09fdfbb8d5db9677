// The keys of the person: what this one may do and has used, and for an administrator all of them.

import * as api from "./api.js";
import { button, facts, field, h, note, table, unique } from "./dom.js";
import { instant, isoDay, addDays, midnight } from "./format.js";
import { everything } from "./owning.js";
import { usage } from "./usage.js";
import { act, confirmed, load } from "./view.js";

const SCOPES = { ingest: "send data", read: "read data", export: "export files", admin: "manage keys" };

const OVERLAPS = [["24h", "a day"], ["168h", "a week"], ["1h", "an hour"], ["0s", "no time at all"]];

export async function open({ signal, session }) {
  const limits = h("div");
  load(limits, async () => usage((await api.get("auth/rate-limit", {}, signal)).data), signal);
  const scopes = [...(session.scopes ?? [])];
  const mine = h("section", { class: "part", "aria-label": "This key" },
    h("h3", {}, "This key"),
    facts([["Name", session.key_name], ["May", scopes.map((scope) => SCOPES[scope] ?? scope).join(", ") || "nothing"], ["User", session.user_name], ["Valid until", session.expires_at ? instant(session.expires_at) : null]]),
    limits);
  if (!scopes.includes("admin")) return [mine, everything(session, signal), note("Keys are managed with a key that has the scope admin, or with ", h("code", {}, "penstock health keys"), ".")].filter(Boolean);
  return [mine, everything(session, signal), all(signal, session)];
}

function all(signal, session) {
  const [list, told, made] = [h("div"), h("div"), h("div", { role: "status" })];
  const refresh = () => load(list, async () => keys((await api.get("auth/keys", {}, signal)).data, { refresh, told, made, session, signal }), signal);
  refresh();
  return h("section", { class: "part", "aria-label": "All keys" }, h("h3", {}, "All keys"),
    note("Who is signed in, what was done, and the keys of other applications are at ", h("a", { href: "keys" }, "the page of keys"), "."), made, told, list, form({ refresh, made, signal }));
}

function keys(rows, view) {
  return table({
    caption: "All keys",
    rows,
    empty: "There are no keys.",
    columns: [
      { title: "Name", main: true, cell: (row) => row.name },
      { title: "Begins with", cell: (row) => h("code", {}, row.prefix) },
      { title: "May", cell: (row) => (row.scopes ?? []).join(", ") },
      { title: "State", cell: (row) => state(row) },
      { title: "Last used", cell: (row) => (row.last_used_at ? instant(row.last_used_at) : "never") },
      { title: "", cell: (row) => (row.revoked_at ? "" : h("span", { class: "actions" }, row.replaced_by ? null : rotating(row, view), revoking(row, view))) },
    ],
  });
}

function state(row) {
  if (row.revoked_at) return `revoked ${instant(row.revoked_at)}`;
  if (!row.expires_at) return "valid";
  return `${Date.parse(row.expires_at) < Date.now() ? "expired" : "valid until"} ${instant(row.expires_at)}`;
}

const rotating = (row, { refresh, told, made, session, signal }) => button("Rotate", (event) => act(event.currentTarget, told, async () => {
  const overlap = h("select", {}, OVERLAPS.map(([value, text]) => h("option", { value }, text)));
  if (!(await confirmed(`Rotate the key ${row.name}?`, "A new key takes its place. Whatever uses the old one needs the new one.", "Rotate", field("The old one works on for", overlap)))) return;
  const { data } = await api.send("POST", api.path`auth/keys/${row.id}/rotate`, { overlap: overlap.value }, signal);
  if (row.id === session.key) { // else this page would be signed out before anybody could read the new key
    api.keep(data.key);
    session.key = data.id;
  }
  made.replaceChildren(secret(data));
  await refresh();
}), { "aria-label": `Rotate ${row.name}` });

const revoking = (row, { refresh, told, signal }) => button("Revoke", (event) => act(event.currentTarget, told, async () => {
  if (!(await confirmed(`Revoke the key ${row.name}?`, "It stops working at once, and for good.", "Revoke"))) return;
  await api.send("DELETE", api.path`auth/keys/${row.id}`, undefined, signal);
  await refresh();
}), { class: "danger", "aria-label": `Revoke ${row.name}` });

function form({ refresh, made, signal }) {
  const name = h("input", { type: "text", required: true, maxlength: 100, autocomplete: "off" });
  const expires = h("input", { type: "date", min: isoDay(addDays(new Date(), 1)) });
  const boxes = Object.entries(SCOPES).map(([scope, text]) => {
    const box = h("input", { type: "checkbox", value: scope, id: unique("scope") });
    box.checked = scope === "ingest";
    return [box, h("p", { class: "field check" }, box, h("label", { for: box.id }, `${scope}: ${text}`))];
  });
  const told = h("div");
  const submit = h("button", { type: "submit" }, "Make a key");
  const element = h("form", { class: "make" }, h("h4", {}, "A new key"), field("Name", name),
    h("fieldset", {}, h("legend", {}, "It may"), boxes.map(([, labelled]) => labelled)), field("Valid until (for ever if empty)", expires), h("p", { class: "actions" }, submit), told);
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    act(submit, told, async () => {
      const scopes = boxes.filter(([box]) => box.checked).map(([box]) => box.value);
      if (!scopes.length) return told.replaceChildren(h("p", { class: "problem", role: "alert" }, "Choose what the key may do."));
      const body = { name: name.value.trim(), scopes };
      if (expires.value) body.expires_at = addDays(midnight(expires.value), 1).toISOString();
      const { data } = await api.send("POST", "auth/keys", body, signal);
      made.replaceChildren(secret(data));
      element.reset();
      boxes.forEach(([box]) => (box.checked = box.value === "ingest"));
      await refresh();
    });
  });
  return element;
}

/** The only time that a key is seen. */
function secret(data) {
  const text = data.key;
  const told = h("span", { role: "status", class: "note" });
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(text);
      told.textContent = "Copied.";
    } catch {
      told.textContent = "Copy it by hand.";
    }
  });
  return h("div", { class: "secret" }, h("p", {}, "Here is the new key. It is shown this once."), h("p", {}, h("code", {}, text)), h("p", { class: "actions" }, copy, told));
}
