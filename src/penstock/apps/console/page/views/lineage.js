// Lineage: from where rows come and to where they go. A chosen node shows all that leads to it and from it.

import { classes, html, useLayoutEffect, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { link } from "../route.js";
import { visible } from "../parts/format.js";
import { Empty } from "../parts/notice.js";

const COLUMNS = [["source", "Sources"], ["stream", "Streams"], ["table", "Tables and files"], ["reader", "Read by"]];

export const view = {
  title: "Lineage",
  async open({ path, signal }) {
    const { data } = await api.get("api/console/lineage", {}, signal);
    return html`<${Lineage} nodes=${data.nodes} edges=${data.edges} chosen=${path[0] ?? ""} />`;
  },
};

/** Return the ids of all nodes before and behind one. */
function connected(edges, id) {
  const found = new Set([id]);
  const walk = (from, to) => {
    const waiting = [id];
    while (waiting.length) {
      const at = waiting.pop();
      for (const edge of edges) {
        if (edge[from] === at && !found.has(edge[to])) {
          found.add(edge[to]);
          waiting.push(edge[to]);
        }
      }
    }
  };
  walk("begin", "end");
  const behind = new Set(found);
  found.clear();
  found.add(id);
  walk("end", "begin");
  return new Set([...found, ...behind]);
}

const column = (node) => (node.kind === "errors" ? "table" : node.kind);

function Lineage({ nodes, edges, chosen }) {
  const place = useRef(null);
  const [lines, setLines] = useState([]);
  const lit = chosen && nodes.some((node) => node.id === chosen) ? connected(edges, chosen) : null;
  const node = nodes.find((one) => one.id === chosen);

  useLayoutEffect(() => {
    const draw = () => {
      if (!place.current) return;
      const frame = place.current.getBoundingClientRect();
      const boxes = new Map([...place.current.querySelectorAll("[data-node]")].map((element) => [element.dataset.node, element.getBoundingClientRect()]));
      setLines(edges.filter((edge) => boxes.has(edge.begin) && boxes.has(edge.end)).map((edge) => {
        const [one, other] = [boxes.get(edge.begin), boxes.get(edge.end)];
        const [x1, y1, x2, y2] = [one.right - frame.left, one.top + one.height / 2 - frame.top, other.left - frame.left, other.top + other.height / 2 - frame.top];
        const bend = Math.max(16, (x2 - x1) / 2);
        return { edge, d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` };
      }));
    };
    draw();
    const sized = new ResizeObserver(draw);
    sized.observe(place.current);
    return () => sized.disconnect();
  }, [nodes, edges]);

  return html`<header class="head"><h1>Lineage</h1><p class="lead">From where rows come, which streams they pass, and where they are kept. Choose one to follow it back and forth.</p></header>
    ${nodes.length === 0 ? html`<${Empty} title="There are no streams yet" />` : html`
    ${node && html`<section class="panel lineage-chosen" aria-label="Chosen"><header><h2>${visible(node.title)}</h2><a href=${link(["lineage"])}>Show all</a></header>
      <p class="soft">${sentence(node, nodes, edges)}</p>
      ${node.where && html`<p><code>${visible(node.where)}</code></p>`}
      <p class="actions">${node.kind === "stream" && html`<a class="button" href=${link(["streams", node.title])}>Open the stream</a>`}
        ${node.kind === "errors" && html`<a class="button" href=${link(["dead-letters"])}>Open the dead letters</a>`}
        ${node.kind === "table" && node.type === "sql" && html`<a class="button" href=${link(["tables"])}>Open the tables</a>`}</p></section>`}
    <div class="lineage" ref=${place}>
      <svg aria-hidden="true">${lines.map(({ edge, d }) => html`<path d=${d} class=${classes(lit && (lit.has(edge.begin) && lit.has(edge.end) ? "lit" : "dim"))} />`)}</svg>
      ${COLUMNS.map(([kind, title]) => html`<section aria-label=${title}><h2>${title}</h2><ul>${nodes.filter((one) => column(one) === kind).map((one) => html`<li key=${one.id}>
        <a data-node=${one.id} class=${classes("node", one.kind, lit && !lit.has(one.id) && "dim")} aria-current=${one.id === chosen ? "true" : undefined} href=${link(one.id === chosen ? ["lineage"] : ["lineage", one.id])} title=${one.where}>
          <strong>${visible(one.title)}</strong><span class="soft">${one.kind === "errors" ? "refused rows" : one.type || "configuration"}</span></a></li>`)}</ul></section>`)}
    </div>`}`;
}

/** Say in words what leads to a node, and where it leads. */
function sentence(node, nodes, edges) {
  const named = (ids) => ids.map((id) => nodes.find((one) => one.id === id)?.title).filter(Boolean);
  const before = named(edges.filter((edge) => edge.end === node.id).map((edge) => edge.begin));
  const behind = named(edges.filter((edge) => edge.begin === node.id).map((edge) => edge.end));
  return [before.length ? `Comes from ${before.map(visible).join(", ")}.` : "", behind.length ? `Goes to ${behind.map(visible).join(", ")}.` : ""].join(" ");
}
