// How much of its limits a key has used.

import { h, note, s } from "./dom.js";
import { bytes, count, words } from "./format.js";

/** Show the limits of each class of requests; a part that is unknown is left out. */
export function usage(data) {
  const classes = Object.entries(data ?? {}).filter(([, one]) => one && typeof one === "object");
  if (!classes.length) return note("No limits are known.");
  return h("ul", { class: "usage" }, classes.map(([name, one]) => h("li", {}, h("h4", {}, words(name)),
    meter("Requests this hour", one.limit, one.remaining, count),
    meter("Bytes this hour", one.bytes_limit, one.bytes_remaining, bytes),
    meter("Requests beyond, this day", one.allowance?.limit, one.allowance?.remaining, count),
    meter("Bytes beyond, this day", one.allowance?.bytes_limit, one.allowance?.bytes_remaining, bytes))));
}

function meter(label, limit, remaining, text) {
  if (!Number.isFinite(limit) || !Number.isFinite(remaining) || limit <= 0) return null;
  const used = limit - remaining;
  const share = Math.min(1, used / limit);
  return h("div", { class: "meter" },
    h("p", {}, h("span", {}, label), h("span", {}, `${text(used)} of ${text(limit)}`)),
    s("svg", { viewBox: "0 0 100 2", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { class: "track", width: 100, height: 2 }), s("rect", { class: share > 0.9 ? "full" : "used", width: 100 * share, height: 2 })));
}
