// Small pictures, drawn with lines in the colour of the text.

import { html } from "./html.js";

const LINES = {
  home: "M4 11.5 12 4l8 7.5M6 10v9h4.5v-5h3v5H18v-9",
  stream: "M3 7h5c4 0 4 10 8 10h5M17 13.5l3.5 3.5-3.5 3.5M3 17h3M14 7h7",
  table: "M4 5h16v14H4zM4 10h16M4 14.5h16M10 10v9",
  letter: "M4 6h16v12H4zM4 7l8 6 8-6",
  lineage: "M4 5h5v4H4zM15 4h5v4h-5zM15 16h5v4h-5zM9 7h3c2 0 1-1 3-1M9 7h2c3 0 1 11 4 11",
  heart: "M12 19.5C5.5 15 4 11.500 4 9a4 4 0 0 1 8-1 4 4 0 0 1 8 1c0 2.500-1.500 6-8 10.500z",
  chat: "M4 5h16v11H11l-4 3.500V16H4z",
  key: "M8 15.500a4.200 4.200 0 1 1 3.900-5.800L20 9.700v3.800h-2.500v2.500h-3v-2.500h-2.600A4.200 4.200 0 0 1 8 15.500zM8 11.400v.2",
  page: "M6 3.500h8l4 4.500v12.500H6zM14 3.500V8h4",
  search: "M10.500 17a6.500 6.500 0 1 1 0-13 6.500 6.500 0 0 1 0 13zM15.300 15.300 20 20",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  sun: "M12 16a4 4 0 1 1 0-8 4 4 0 0 1 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.600 5.600 7 7M17 17l1.400 1.400M18.400 5.600 17 7M7 17l-1.400 1.400",
  moon: "M19 14.500A7.500 7.500 0 0 1 9.500 5 7.500 7.500 0 1 0 19 14.500z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  leave: "M14 4H5v16h9M10 12h10M16.500 8.500 20 12l-3.500 3.500",
  pause: "M8.500 5.500v13M15.500 5.500v13",
  play: "M8 5l11 7-11 7z",
  restart: "M19 12a7 7 0 1 1-2.200-5.100M17.500 3v4.200h-4.200",
  rewind: "M11 6 4 12l7 6zM20 6l-7 6 7 6z",
  drain: "M12 4v10M7.500 10 12 14.500 16.500 10M5 19h14",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  more: "M9 6l6 6-6 6",
};

/** A picture by its name, for eyes alone. */
export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" focusable="false"><path d=${LINES[name] ?? LINES.page} /></svg>`;
