// Which source counts first where several say the same time.

import * as api from "./api.js";
import { button, h, note } from "./dom.js";
import { act, load } from "./view.js";

/** The order of the sources of a metric, asked for when it is opened, and a way to change it. */
export function priority(metric, signal, refresh) {
  const place = h("div");
  const where = api.path`metrics/${metric.name}/priority`;
  const details = h("details", { class: "values" }, h("summary", {}, "Which source counts first"), place);
  details.addEventListener("toggle", () => {
    if (details.open && !place.childElementCount) load(place, async () => editor((await api.get(where, {}, signal)).data), signal);
  });

  function editor({ sources, chosen }) {
    if (sources.length < 2) return note("All of it comes from one source.");
    const order = [...sources];
    const list = h("ol", { class: "order" });
    const told = h("div", { "aria-live": "polite" });
    const move = (index, step) => {
      [order[index], order[index + step]] = [order[index + step], order[index]];
      show();
      list.children[index + step].querySelector("button:not([disabled])")?.focus();
    };
    const show = () => list.replaceChildren(...order.map((name, index) => h("li", {}, h("span", {}, name), " ",
      button("Up", () => move(index, -1), { disabled: index === 0, "aria-label": `${name} up` }), " ",
      button("Down", () => move(index, 1), { disabled: index === order.length - 1, "aria-label": `${name} down` }))));
    const send = (names) => (event) => act(event.currentTarget, told, async () => {
      const { data } = await api.send("PUT", where, { sources: names() }, signal);
      place.replaceChildren(...[editor(data)].flat());
      await refresh();
    });
    show();
    return [
      note("Where several sources say the same time, the first counts; what the others say is kept and not added."), list,
      h("p", { class: "actions" }, button("Save", send(() => order)), chosen ? button("As the phone has it", send(() => [])) : null), told,
    ];
  }

  return details;
}
