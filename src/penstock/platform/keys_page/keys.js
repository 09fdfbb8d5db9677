// All keys that may be seen: made, rotated, revoked.

import * as api from "./api.js";
import { act, button, check, confirmed, field, h, table, time } from "./dom.js";

const OVERLAPS = [["24h", "a day"], ["168h", "a week"], ["1h", "an hour"], ["0s", "not at all"]];
const LIFETIMES = [["", "until it is revoked"], ["30d", "30 days"], ["90d", "90 days"], ["365d", "a year"]];

export async function keys(me, isOperator, told) {
  const [list, made] = [h("div"), h("div", { role: "status" })];
  const problem = h("p", { class: "problem", role: "alert" });
  const view = { list, made, problem, me, told, isOperator, showsAll: false };
  const scopes = (await api.get("scopes")).data;
  await refresh(view);
  const old = check("Show keys that do not work any more", h("input", { type: "checkbox", on: { change: (event) => {
    view.showsAll = event.target.checked;
    guarded(view, () => refresh(view));
  } } }));
  return h("section", { "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keys"),
    h("p", { class: "note" }, "A key lets a device or a program send or read. Only a hash of it is kept, so it is shown once."),
    made, problem, list, old, form(view, scopes));
}

async function guarded(view, work) {
  try {
    return await work();
  } catch (error) {
    view.told(error);
    throw error;
  }
}

async function refresh(view) {
  const rows = (await api.get("keys")).data.filter((row) => view.showsAll || row.state === "active");
  view.list.replaceChildren(table("Keys", [
    { title: "Name", main: true, cell: (row) => row.name },
    view.isOperator ? { title: "User", cell: (row) => row.user_name } : null,
    { title: "Begins with", cell: (row) => h("code", { class: "whole" }, row.prefix) },
    { title: "May", cell: (row) => row.scopes.map((scope) => h("span", { class: "tag" }, scope)) },
    { title: "Last used", cell: (row) => time(row.last_used_at) ?? "never" },
    { title: "State", cell: state },
    { title: "", cell: (row) => (row.state === "active" ? h("span", { class: "actions" }, row.replaced_by ? null : rotating(row, view), revoking(row, view)) : "") },
  ].filter(Boolean), rows, "There are no keys that work."));
}

function state(row) {
  if (row.state === "revoked") return h("span", {}, "revoked ", time(row.revoked_at));
  if (row.state === "expired") return h("span", {}, "expired ", time(row.expires_at));
  return row.expires_at ? h("span", {}, row.replaced_by ? "replaced, works until " : "until ", time(row.expires_at)) : "works";
}

const rotating = (row, view) => button("Rotate", async ({ currentTarget }) => {
  const overlap = h("select", {}, OVERLAPS.map(([value, text]) => h("option", { value }, text)));
  if (!(await confirmed(`Rotate the key “${row.name}”?`, "A new key takes its place. Whatever uses the old one needs the new one.", "Rotate", field("The old one goes on to work for", overlap)))) return;
  await act(currentTarget, view.problem, async () => {
    const { data } = await guarded(view, () => api.send("POST", `keys/${row.id}/rotate`, { overlap: overlap.value }));
    reveal(view, data);
    await refresh(view);
  });
}, { "aria-label": `Rotate ${row.name}` });

const revoking = (row, view) => button("Revoke", async ({ currentTarget }) => {
  const isOwn = row.id === view.me.key ? " You signed in with it: you will be signed out." : "";
  if (!(await confirmed(`Revoke the key “${row.name}”?`, `It stops working at once, and for good.${isOwn}`, "Revoke"))) return;
  await act(currentTarget, view.problem, async () => {
    await guarded(view, () => api.send("DELETE", `keys/${row.id}`));
    await guarded(view, () => refresh(view));
  });
}, { class: "danger", "aria-label": `Revoke ${row.name}` });

function form(view, scopes) {
  const name = h("input", { type: "text", required: true, maxlength: 100, autocomplete: "off" });
  const user = h("input", { type: "text", maxlength: 100, autocomplete: "off", value: view.me.user_name, required: true });
  const lasts = h("select", {}, LIFETIMES.map(([value, text]) => h("option", { value }, text)));
  const boxes = scopes.filter((scope) => scope.may_grant).map((scope) => {
    const box = h("input", { type: "checkbox", value: scope.name });
    box.checked = box.defaultChecked = scope.is_default;
    return [box, check(h("code", {}, scope.name), box, scope.description)];
  });
  const problem = h("p", { class: "problem", role: "alert" });
  const submit = h("button", { type: "submit" }, "Make a key");
  const element = h("form", { autocomplete: "off" }, h("h3", {}, "A new key"),
    h("div", { class: "fields" }, field("Name", name, "What it is for: phone, kitchen sensor."), view.isOperator ? field("User", user, "Whose data it gives access to.") : null, field("Works", lasts)),
    h("fieldset", {}, h("legend", {}, "It may"), h("div", { class: "scopes" }, boxes.map(([, labelled]) => labelled))),
    problem, h("p", {}, submit));
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    act(submit, problem, async () => {
      const wanted = boxes.filter(([box]) => box.checked).map(([box]) => box.value);
      if (!wanted.length) throw new Error("Choose what the key may do.");
      const body = { name: name.value.trim(), scopes: wanted };
      if (view.isOperator) body.user = user.value.trim();
      if (lasts.value) body.expires = lasts.value;
      const { data } = await guarded(view, () => api.send("POST", "keys", body));
      element.reset();
      reveal(view, data);
      await refresh(view);
    });
  });
  return element;
}

/** The only time that a key is seen. */
function reveal(view, data) {
  const told = h("span", { class: "note" });
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(data.key);
      told.textContent = "Copied.";
    } catch {
      told.textContent = "Select it and copy it by hand.";
    }
  });
  const done = button("Done", () => view.made.replaceChildren());
  view.made.replaceChildren(h("div", { class: "secret" }, h("p", {}, "This is the new key “", h("strong", {}, data.name), "”. It is shown this once."),
    h("p", {}, h("code", { class: "key" }, data.key)), h("p", { class: "actions" }, copy, done, told)));
  view.made.scrollIntoView({ block: "nearest" });
}
