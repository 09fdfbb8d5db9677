// A route on a plain map: no tiles and nothing fetched, north up, with a scale.

import { h, narrow, s } from "./dom.js";
import { distance } from "./format.js";

const RADIUS = 6_371_008.8;
const RADIANS = Math.PI / 180;
const EDGE = 36;

/** Draw points {latitude, longitude}; returns {element, length} (the length as text), or null if there are none. */
export function map(points, label) {
  const [wide, high] = narrow() ? [350, 320] : [720, 420];
  const valid = unwound(points.filter(({ latitude, longitude }) => Number.isFinite(latitude) && Number.isFinite(longitude)));
  if (!valid.length) return null;
  const [south, north] = ends(valid, "latitude");
  const [west, east] = ends(valid, "longitude");
  const narrowing = Math.max(Math.cos(((south + north) / 2) * RADIANS), 0.01);
  // Metres on the ground for one unit of the drawing; a route that stays where it is still gets fifty metres around it.
  const metres = Math.max(((east - west) * RADIANS * RADIUS * narrowing) / (wide - 2 * EDGE), ((north - south) * RADIANS * RADIUS) / (high - 2 * EDGE), 100 / wide);
  const x = (point) => wide / 2 + ((point.longitude - (west + east) / 2) * RADIANS * RADIUS * narrowing) / metres;
  const y = (point) => high / 2 - ((point.latitude - (south + north) / 2) * RADIANS * RADIUS) / metres;
  const long = distance(length(valid));
  const places = thinned(valid.map((point) => [x(point), y(point)]));
  const [first, last] = [places[0], places.at(-1)];
  const svg = s("svg", { class: "map", viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${label}: ${long}, north is up` },
    graticule(wide, high),
    s("path", { class: "route-edge", d: drawn(places) }),
    s("path", { class: "route", d: drawn(places) }),
    s("rect", { class: "end", x: last[0] - 6, y: last[1] - 6, width: 12, height: 12 }, s("title", {}, "End")),
    s("circle", { class: "start", cx: first[0], cy: first[1], r: 6.5 }, s("title", {}, "Start")),
    scale(metres, wide, high),
    s("g", { class: "north" }, s("path", { d: `M${wide - 24} 34l6 -16l6 16l-6 -4z` }), s("text", { class: "tick", x: wide - 18, y: 50, "text-anchor": "middle" }, "N")));
  const legend = h("figcaption", { class: "legend" }, h("span", { class: "key start" }, "start"), h("span", { class: "key end" }, "end"));
  return { element: h("figure", { class: "mapped" }, svg, legend), length: long };
}

/** Longitudes that go on beyond 180 degrees, so that a route over the date line stays in one piece. */
function unwound(points) {
  let turn = 0;
  return points.map((point, index) => {
    const step = index ? point.longitude - points[index - 1].longitude : 0;
    if (step > 180) turn -= 360;
    else if (step < -180) turn += 360;
    return { ...point, longitude: point.longitude + turn };
  });
}

function ends(points, name) {
  return points.reduce(([low, high], point) => [Math.min(low, point[name]), Math.max(high, point[name])], [Infinity, -Infinity]);
}

/** The length along the way, in metres. */
export function length(points) {
  let sum = 0;
  for (let index = 1; index < points.length; index += 1) {
    const [a, b] = [points[index - 1], points[index]];
    const [up, over] = [(b.latitude - a.latitude) * RADIANS, (b.longitude - a.longitude) * RADIANS];
    const part = Math.sin(up / 2) ** 2 + Math.cos(a.latitude * RADIANS) * Math.cos(b.latitude * RADIANS) * Math.sin(over / 2) ** 2;
    sum += 2 * RADIUS * Math.asin(Math.min(1, Math.sqrt(part)));
  }
  return sum;
}

/** Leave out what lies within a pixel of the point before: nobody would see it. */
function thinned(places) {
  const kept = [places[0]];
  for (const place of places) {
    const [x, y] = kept.at(-1);
    if (Math.hypot(place[0] - x, place[1] - y) >= 0.8) kept.push(place);
  }
  kept.push(places.at(-1));
  return kept;
}

const drawn = (places) => `M${places.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

function graticule(wide, high) {
  const lines = [];
  for (let x = 60; x < wide; x += 60) lines.push(s("line", { class: "grid", x1: x, x2: x, y1: 0, y2: high }));
  for (let y = 60; y < high; y += 60) lines.push(s("line", { class: "grid", x1: 0, x2: wide, y1: y, y2: y }));
  return lines;
}

function scale(metres, wide, high) {
  const rough = metres * wide * 0.21;
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = [5, 2, 1].map((part) => part * power).find((part) => part <= rough) ?? power;
  const [long, y] = [nice / metres, high - 18];
  return s("g", { class: "scale" }, s("path", { d: `M16 ${y - 6}V${y}H${16 + long}V${y - 6}` }), s("text", { class: "tick", x: 16 + long / 2, y: y - 9, "text-anchor": "middle" }, distance(nice)));
}
