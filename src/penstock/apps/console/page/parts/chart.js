// A chart over time, drawn by uPlot, which is loaded with the first one: {label, data: [seconds, values, ...], series: [{label, color}], height, bars, unit}.

import { html, useEffect, useRef } from "../html.js";
import { colours } from "./colours.js";

let loading;
/** Load the library and its stylesheet, once. */
function load() {
  loading ??= (async () => {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = new URL("../vendor/uplot.css", import.meta.url);
    document.head.append(sheet);
    return (await import("../vendor/uplot.js")).default;
  })();
  return loading;
}

/** How moments stand below a chart, by the least distance in seconds: the day and the year are said where they change. */
const MOMENTS = [
  [31536000, "{YYYY}", null, null, null, null, null, null, 1],
  [2419200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [0.001, "{HH}:{mm}:{ss}.{fff}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
];

function options(Plot, element, { data, series, height, bars, step, unit, seen }) {
  const colour = colours(element, ["accent", "accent-soft", "soft", "rule", "ink", "good", "warn", "bad"]);
  const axis = { stroke: colour.soft, grid: { stroke: colour.rule, width: 1 }, ticks: { show: false }, font: "12px ui-sans-serif, system-ui, sans-serif" };
  const format = (value) => (value === null || value === undefined ? "–" : `${Intl.NumberFormat("en", { maximumFractionDigits: 2 }).format(value)}${unit ? ` ${unit}` : ""}`);
  const paths = bars ? Plot.paths.bars({ size: [0.7, 60], radius: 0.15 }) : step ? Plot.paths.stepped({ align: 1 }) : undefined;
  return {
    width: Math.max(200, element.clientWidth), height,
    cursor: { y: false, points: { size: 7 } },
    legend: { live: true, show: series.length > 1 || seen },
    axes: [{ ...axis, grid: { show: false }, values: MOMENTS }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 }).format(tick)) }],
    scales: { y: { range: (_, low, high) => [bars ? Math.min(0, low ?? 0) : low ?? 0, (high ?? 1) === (low ?? 0) ? (high ?? 0) + 1 : high] } },
    series: [{ value: (_, at) => (at === null ? "–" : new Date(at * 1000).toLocaleString()) }, ...series.map((one) => ({
      label: one.label, stroke: colour[one.color ?? "accent"] ?? one.color, width: bars ? 0 : 1.75, paths, value: (_, value) => format(value),
      fill: bars ? colour[one.color ?? "accent"] : one.fill ? colour["accent-soft"] : undefined, points: { show: data[0].length < 3 },
    }))],
  };
}

export function Chart({ label, height = 240, ...rest }) {
  const place = useRef(null);
  const chart = useRef(null);
  const kept = useRef(rest);
  kept.current = rest;
  useEffect(() => {
    let isGone = false;
    const make = async () => {
      const Plot = await load();
      if (isGone || !place.current) return;
      chart.current?.destroy();
      chart.current = new Plot(options(Plot, place.current, { height, ...kept.current }), kept.current.data, place.current);
    };
    make();
    const sized = new ResizeObserver(() => place.current && chart.current?.setSize({ width: Math.max(200, place.current.clientWidth), height }));
    sized.observe(place.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    addEventListener("theme", make);
    scheme.addEventListener("change", make);
    return () => {
      isGone = true;
      sized.disconnect();
      removeEventListener("theme", make);
      scheme.removeEventListener("change", make);
      chart.current?.destroy();
      chart.current = null;
    };
  }, [rest.series.map((one) => one.label).join("\n"), rest.bars, height]);
  useEffect(() => chart.current?.setData(rest.data), [rest.data]);
  return html`<figure class="chart" role="img" aria-label=${label}><div ref=${place} style=${{ minHeight: `${height}px` }}></div></figure>`;
}
