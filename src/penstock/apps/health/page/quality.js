// How good the data is: the score of the last look at it, and what was found.

import * as api from "./api.js";
import { facts, h, note, s } from "./dom.js";
import { instant, number, pretty, second, words } from "./format.js";

const SAID = ["finding", "message", "metric"];
const SEVERE = ["silence", "quarantined", "unreadable"];

export async function open({ signal }) {
  const { data } = await api.get("data-quality", {}, signal);
  if (!data || !Number.isFinite(data.score)) return note("The data has not been looked at yet. That happens every hour.");
  const findings = data.findings ?? [];
  return [
    h("div", { class: "score" },
      meter(data.score),
      h("p", {}, h("strong", {}, number(Math.round(data.score))), " of 100"),
      note(`Looked at ${instant(data.time)}.`)),
    h("h3", {}, "Findings"),
    findings.length ? h("ul", { class: "findings" }, findings.map(finding)) : note("Nothing stands out."),
  ];
}

function meter(score) {
  const part = Math.min(Math.max(score, 0), 100);
  const kind = part >= 80 ? "good" : part >= 50 ? "fair" : "poor";
  const around = 2 * Math.PI * 42;
  return s("svg", { class: `ring ${kind}`, viewBox: "0 0 100 100", role: "img", "aria-label": `Score ${number(Math.round(part))} of 100` },
    s("circle", { class: "track", cx: 50, cy: 50, r: 42 }),
    s("circle", { class: "arc", cx: 50, cy: 50, r: 42, "stroke-dasharray": `${(around * part) / 100} ${around}`, transform: "rotate(-90 50 50)" }));
}

/** A finding says what it is in `message`; whatever else it holds is listed. */
function finding(one) {
  const about = one.metric ? [["Metric", h("a", { href: `#/metrics/${encodeURIComponent(one.metric)}` }, words(one.metric))]] : [];
  const rest = Object.entries(one).filter(([name, value]) => !SAID.includes(name) && value !== null).map(([name, value]) => [words(name), shown(name, value)]);
  return h("li", { class: SEVERE.includes(one.finding) ? "severe" : null },
    h("p", {}, h("strong", {}, words(one.finding)), one.message ? `: ${one.message}` : ""),
    facts([...about, ...rest]));
}

function shown(name, value) {
  if (name === "share" && typeof value === "number") return `${number(value * 100)} %`;
  if (typeof value === "number") return number(value);
  if (typeof value === "string") return /^\d{4}-\d\d-\d\dT/.test(value) ? second(value) : value;
  return h("code", {}, pretty(value));
}
