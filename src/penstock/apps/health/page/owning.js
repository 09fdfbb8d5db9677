// What a person may do with data of their own: take all of it home, and delete a point, a range, or everything.

import * as api from "./api.js";
import { button, field, h, note } from "./dom.js";
import { day, isoDay, addDays, second } from "./format.js";
import { act, confirmed } from "./view.js";

const BACK = "It comes back if the phone sends it again. The upload in which it came is kept.";

const may = (session, scope) => (session.scopes ?? []).includes(scope);
const again = () => dispatchEvent(new HashChangeEvent("hashchange"));

/** A button that deletes one point; null for who may not. */
export function deletingPoint(metric, row, { session, signal, told }) {
  if (!may(session, "admin")) return null;
  const query = { start: row.time, end: row.time, source: row.source, kind: row.kind };
  return button("Delete", async ({ currentTarget }) => {
    if (!(await confirmed(`Delete the point of ${second(row.time)}?`, BACK, "Delete"))) return;
    await act(currentTarget, told, async () => {
      await api.send("DELETE", api.path`metrics/${metric.name}`, undefined, signal, query);
      again();
    });
  }, { class: "danger", "aria-label": `Delete the point of ${second(row.time)}` });
}

/** A button that deletes the points of the days shown; null for who may not. */
export function deletingRange(view, told) {
  if (!may(view.session, "admin")) return null;
  return button("Delete this range", async ({ currentTarget }) => {
    const [first, last] = [day(view.from), day(addDays(view.to, -1))];
    if (!(await confirmed(`Delete all points from ${first} to ${last}?`, BACK, "Delete"))) return;
    await act(currentTarget, told, async () => {
      const query = { start: view.from.toISOString(), end: view.to.toISOString() };
      await api.send("DELETE", api.path`metrics/${view.metric.name}`, undefined, view.signal, query);
      again();
    });
  }, { class: "danger" });
}

/** Everything of a person: as a file, and the end of it. */
export function everything(session, signal) {
  const told = h("div", { role: "status" });
  const home = button("Take everything home", (event) => act(event.currentTarget, told, async () => {
    api.save(await api.file("takeout", {}, signal), `health_data_${isoDay(new Date())}.zip`);
  }));
  const buttons = [may(session, "export") ? home : null, may(session, "admin") ? erasing(signal, told) : null].filter(Boolean);
  if (!buttons.length) return null;
  return h("section", { class: "part", "aria-label": "Your data" }, h("h3", {}, "Your data"),
    note("One file with every upload as it was received, and all that was made of it."),
    h("p", { class: "actions" }, buttons), told);
}

const erasing = (signal, told) => button("Delete everything", async ({ currentTarget }) => {
  const typed = h("input", { type: "text", autocomplete: "off" });
  const sure = await confirmed("Delete everything?", "All points, their history and every upload are deleted, for good. Keys stay until they are revoked.", "Delete everything", field("Type “everything” to confirm", typed));
  if (!sure) return;
  if (typed.value.trim().toLowerCase() !== "everything") {
    told.replaceChildren(h("p", { class: "problem", role: "alert" }, "Nothing was deleted: the word was not typed."));
    return;
  }
  await act(currentTarget, told, async () => {
    const { data } = await api.send("DELETE", "user/data", undefined, signal, { confirm: "everything" });
    told.replaceChildren(note(`Deleted: ${Object.values(data).reduce((sum, each) => sum + each, 0).toLocaleString()} rows.`));
  });
}, { class: "danger" });
