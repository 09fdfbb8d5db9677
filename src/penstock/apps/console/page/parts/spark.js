// A line the size of a word: values over time, without axes. Null is a gap.

import { html } from "../html.js";

export function Spark({ values, width = 120, height = 32, label }) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (known.length < 2) return html`<svg class="spark" viewBox="0 0 ${width} ${height}" width=${width} height=${height} aria-hidden="true"></svg>`;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const x = (index) => 2 + (index / (values.length - 1)) * (width - 4);
  const y = (value) => (high === low ? height / 2 : height - 3 - ((value - low) / (high - low)) * (height - 6));
  let line = "";
  values.forEach((value, index) => {
    if (value === null || value === undefined) return;
    const begins = index === 0 || values[index - 1] === null || values[index - 1] === undefined;
    line += `${begins ? "M" : "L"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  const last = values.findLastIndex((value) => value !== null && value !== undefined);
  return html`<svg class="spark" viewBox="0 0 ${width} ${height}" width=${width} height=${height} role=${label ? "img" : undefined} aria-label=${label} aria-hidden=${label ? undefined : "true"} preserveAspectRatio="none">
    <path d=${line} /><circle cx=${x(last)} cy=${y(values[last])} r="2.5" /></svg>`;
}
