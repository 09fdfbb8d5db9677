// How good the data is: the score of the last look at it, and what was found.

import * as api from "./api.js";
import { facts, h, note, s } from "./dom.js";
import { instant, number, pretty, second, words } from "./format.js";

const SAID = ["severity", "level", "message", "description", "text", "name", "kind", "type", "rule", "check", "finding", "metric", "details", "value"];

export async function open({ signal }) {
  let data;
  try {
    ({ data } = await api.get("data-quality", {}, signal));
  } catch (error) {
    if (error.status !== 404) throw error;
    data = null;
  }
  if (!data || !Number.isFinite(data.score)) return note("The data has not been looked at yet. That happens every hour.");
  const findings = Array.isArray(data.findings) ? data.findings : Object.entries(data.findings ?? {}).map(([name, value]) => ({ name, value }));
  return [
    h("div", { class: "score" },
      meter(data.score),
      h("p", {}, h("strong", {}, number(Math.round(data.score))), " of 100"),
      note(`Looked at ${instant(data.time ?? data.checked_at)}.`)),
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
  if (typeof one !== "object" || one === null) return h("li", {}, String(one));
  const severity = String(one.severity ?? one.level ?? "");
  const subject = one.finding ?? one.name ?? one.kind ?? one.type ?? one.rule ?? one.check;
  const message = one.message ?? one.description ?? one.text;
  const rest = Object.entries(one).filter(([name, value]) => (!SAID.includes(name) || name === "value") && value !== null);
  const [about, details] = [one.metric ? [["Metric", h("a", { href: `#/metrics/${encodeURIComponent(one.metric)}` }, words(one.metric))]] : [], Object.entries(typeof one.details === "object" ? one.details ?? {} : {})];
  return h("li", { class: /crit|err|high|severe/i.test(severity) ? "severe" : /warn|medium/i.test(severity) ? "warning" : null },
    h("p", {}, h("strong", {}, words(subject ?? "finding")), severity ? h("span", { class: "tag" }, severity) : null),
    message ? h("p", {}, message) : null,
    facts([...about, ...[...rest, ...details].map(([name, value]) => [words(name), shown(value)])]));
}

function shown(value) {
  if (typeof value === "number") return number(value);
  if (typeof value === "string") return /^\d{4}-\d\d-\d\dT/.test(value) ? second(value) : value;
  return h("code", {}, pretty(value));
}
