// What views are written with: html`<p>${text}</p>` makes a vnode. A text is never markup, whatever stands in it.

import { h, render, Fragment } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { h, render, Fragment };
export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useReducer, useId } from "./vendor/hooks.js";

/** Make a vnode from a template. */
export const html = htm.bind(h);

/** Join names of classes, leaving out what is false. */
export const classes = (...names) => names.filter(Boolean).join(" ") || undefined;
