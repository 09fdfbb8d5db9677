// Who is signed in, and where.

import * as api from "./api.js";
import { act, button, confirmed, h, table, time } from "./dom.js";

export async function sessions(me, told) {
  const [list, problem] = [h("div"), h("p", { class: "problem", role: "alert" })];
  const refresh = async () => {
    const rows = (await api.get("sessions")).data;
    list.replaceChildren(table("Sessions", [
      { title: "User", main: true, cell: (row) => [row.user_name, row.id === me.session ? h("span", { class: "tag" }, "this one") : null] },
      { title: "Signed in", cell: (row) => time(row.created_at) },
      { title: "Last used", cell: (row) => time(row.last_seen_at) },
      { title: "From", cell: (row) => h("span", { class: "whole" }, row.address) },
      { title: "Browser", cell: (row) => browser(row.user_agent) },
      { title: "", cell: (row) => (row.id === me.session ? "" : h("span", { class: "actions" }, ending(row))) },
    ], rows, "Nobody is signed in."));
  };
  const ending = (row) => button("End", async ({ currentTarget }) => {
    if (!(await confirmed(`End the session of ${row.user_name}?`, `Whoever uses it, from ${row.address}, has to sign in again.`, "End"))) return;
    await act(currentTarget, problem, async () => {
      await api.send("DELETE", `sessions/${row.id}`).catch((error) => { told(error); throw error; });
      await refresh();
    });
  }, { class: "danger", "aria-label": `End the session of ${row.user_name} from ${row.address}` });
  await refresh();
  return h("section", { "aria-labelledby": "sessions-title" }, h("h2", { id: "sessions-title" }, "Sessions"), problem, list);
}

/** The name of a browser and of its system, as far as they tell. */
function browser(agent) {
  const name = ["Firefox", "Edg", "Chrome", "Safari"].find((one) => agent.includes(`${one}/`));
  const system = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].find((one) => agent.includes(one));
  return [name === "Edg" ? "Edge" : name, system].filter(Boolean).join(", ") || agent.slice(0, 40) || "unknown";
}
