// A map of points and lines, drawn by Leaflet on plain land and coast that ship with the console: nothing is fetched from
// elsewhere, unless the installation names tiles. The library is loaded with the first map.

import { html, useEffect, useRef } from "../html.js";
import * as api from "../api.js";
import { visible } from "./format.js";
import { colours } from "./colours.js";

const MAX_ZOOM = 18;
const NEAR = 13; // how near a single point is looked at
const PADDING = { padding: [24, 24], maxZoom: 15, animate: false };

let loading;
/** Load the library, its stylesheet, the land, and where tiles come from, once. */
function load() {
  loading ??= (async () => {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = new URL("../vendor/leaflet.css", import.meta.url);
    document.head.append(sheet);
    const [library, land, answer] = await Promise.all([import("../vendor/leaflet.js"), import("../vendor/land.js"), api.get("api/console/navigation").catch(() => ({ data: {} }))]);
    return { library, land: land.default.map((ring) => ring.map(([longitude, latitude]) => [latitude, longitude])), tiles: answer.data.tiles ?? "", credit: answer.data.tiles_credit ?? "" };
  })();
  loading.catch(() => {
    loading = undefined; // the next map tries again
  });
  return loading;
}

/** Longitudes that go on beyond 180 degrees, so that a line over the date line stays in one piece. */
function unwound(points) {
  let [turn, before] = [0, null];
  return points.map(([latitude, longitude]) => {
    if (before !== null && longitude - before > 180) turn -= 360;
    else if (before !== null && longitude - before < -180) turn += 360;
    before = longitude;
    return [latitude, longitude + turn];
  });
}

/** Draw everything anew, in the colours of the theme, and look at where it is. */
function draw({ library, land, tiles, credit }, element, { points = [], lines = [] }) {
  const colour = colours(element, ["accent", "rule", "faint", "paper", "ink", "good", "warn", "bad", "soft"]);
  const of = (name, other = "accent") => colour[name ?? other] ?? name;
  const drawn = library.canvas({ padding: 0.3 });
  const map = new library.Map(element, { renderer: drawn, zoomControl: false, attributionControl: false, maxZoom: MAX_ZOOM, minZoom: 1, zoomAnimation: false, fadeAnimation: false, worldCopyJump: true });
  library.control.zoom({ zoomInText: "+", zoomOutText: "−" }).addTo(map);
  map.setView([20, 0], 1);
  if (tiles) library.tileLayer(tiles, { maxZoom: MAX_ZOOM }).addTo(map);
  else for (const turn of [-360, 0, 360]) library.polygon(land.map((ring) => ring.map(([latitude, longitude]) => [latitude, longitude + turn])), { color: colour.soft, weight: 1, fillColor: colour.rule, fillOpacity: 0.6, interactive: false, noClip: true }).addTo(map);
  const seen = [];
  for (const line of lines) {
    const parts = unwound(line.points);
    seen.push(...parts);
    library.polyline(parts, { color: of(line.color), weight: 3.5, interactive: false }).addTo(map);
  }
  for (const point of points) {
    const place = [point.latitude, point.longitude];
    seen.push(place);
    const mark = library.circleMarker(place, { radius: 5.5, color: colour.paper, weight: 1, fillColor: of(point.color), fillOpacity: 0.9 }).addTo(map);
    if (point.title) mark.bindTooltip(said(point.title), { direction: "top" });
  }
  if (seen.length === 1) map.setView(seen[0], NEAR, { animate: false });
  else if (seen.length) map.fitBounds(bounds(seen), PADDING);
  if (tiles && credit) element.append(credited(credit));
  return map;
}

function bounds(places) {
  const [low, high] = [[90, Infinity], [-90, -Infinity]];
  for (const [latitude, longitude] of places) {
    [low[0], high[0]] = [Math.min(low[0], latitude), Math.max(high[0], latitude)];
    [low[1], high[1]] = [Math.min(low[1], longitude), Math.max(high[1], longitude)];
  }
  return [low, high];
}

/** What is said beside a point: text, never markup. */
function said(title) {
  const element = document.createElement("span");
  element.className = "map-said";
  element.textContent = visible(title);
  return element;
}

function credited(text) {
  const element = document.createElement("p");
  element.className = "map-credit";
  element.textContent = text;
  return element;
}

/**
 * {label, points: [{latitude, longitude, title, color}], lines: [{points: [[latitude, longitude], ...], color}], height}.
 * A colour is the name of one of the tokens, or what a canvas takes. Points and lines are drawn anew when `version` changes.
 */
export function Map({ label, points, lines, height = 420, version }) {
  const place = useRef(null);
  const kept = useRef(null);
  kept.current = { points, lines };
  useEffect(() => {
    let [map, isGone] = [null, false];
    const make = async () => {
      const parts = await load();
      if (isGone) return;
      map?.remove();
      place.current.replaceChildren();
      map = draw(parts, place.current, kept.current);
      place.current.dataset.drawn = String(kept.current.points?.length ?? 0);
    };
    const again = () => make().catch(() => {});
    again();
    const sized = new ResizeObserver(() => map?.invalidateSize({ animate: false }));
    sized.observe(place.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    addEventListener("theme", again);
    scheme.addEventListener("change", again);
    return () => {
      isGone = true;
      sized.disconnect();
      removeEventListener("theme", again);
      scheme.removeEventListener("change", again);
      map?.remove();
    };
  }, [version]);
  return html`<div class="map" role="region" aria-label=${label}><div ref=${place} style=${{ height: `${height}px` }}></div></div>`;
}
