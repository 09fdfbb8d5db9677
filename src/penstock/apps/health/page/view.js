// What all views share: waiting, problems, pages of lists, and asking before something is done.

import { button, h, note } from "./dom.js";
import { duration } from "./format.js";

/** Show what `action` returns (a node or several) in `place`; meanwhile that it loads, and a problem if there is one. */
export async function load(place, action, signal) {
  place.setAttribute("aria-busy", "true");
  const opened = new Set();  // What a person has opened stays open when the same is shown of other days.
  const replace = (nodes) => {
    for (const summary of place.querySelectorAll(":scope > details[open] > summary")) opened.add(summary.textContent);
    place.replaceChildren(...nodes);
    for (const summary of place.querySelectorAll(":scope > details > summary")) if (opened.has(summary.textContent)) summary.parentElement.open = true;
  };
  const waiting = setTimeout(() => !signal?.aborted && replace([note("Loading …")]), place.childElementCount ? 400 : 0);
  try {
    const nodes = await action();
    clearTimeout(waiting);
    if (!signal?.aborted) replace([nodes].flat());
  } catch (error) {
    clearTimeout(waiting);
    if (signal?.aborted || error.name === "AbortError") return;
    place.replaceChildren(problem(error, () => load(place, action, signal)));
  } finally {
    clearTimeout(waiting);
    if (!signal?.aborted) place.setAttribute("aria-busy", "false");
  }
}

/** What went wrong, and a button that tries again; a key that is refused leads back to the sign-in. */
export function problem(error, again = null) {
  if (error.status === 401) {
    document.dispatchEvent(new CustomEvent("refused", { detail: error.message }));
    return note(error.message);
  }
  if (!("status" in error)) console.error(error);
  const text = "status" in error ? error.message : "This page has a fault; the console of the browser says which.";
  const box = h("div", { class: "problem", role: "alert" }, h("p", {}, text));
  if (again && error.status !== 403 && error.status !== 404) {
    const retry = button("Try again", again);
    box.append(retry);
    if (error.status === 429 && error.retryAfter > 0) {
      retry.disabled = true;
      box.firstChild.append(` You can try again in ${duration(error.retryAfter)}.`);
      setTimeout(() => (retry.disabled = false), Math.min(error.retryAfter * 1000, 2 ** 31 - 1));
    }
  }
  return box;
}

/** Run what a button does; the button is disabled meanwhile, and problems are shown in `place`. */
export async function act(pressed, place, action) {
  pressed.disabled = true;
  place.replaceChildren();
  try {
    await action();
  } catch (error) {
    if (error.name !== "AbortError") place.replaceChildren(problem(error));
  } finally {
    pressed.disabled = false;
  }
}

/**
 * Show a list page by page. `fetchPage(cursor)` returns {nodes, next}; the cursors that led here are remembered, so
 * that one can go back, and only one page is in the document.
 */
export function paged(fetchPage, signal, name = "pages") {
  const place = h("div", { class: "page" });
  const cursors = [undefined];
  let next = null;
  const back = button("Previous", () => turn(-1));
  const on = button("Next", () => turn(1));
  const where = h("span", { "aria-live": "polite" });
  const bar = h("nav", { class: "pager", "aria-label": `Pages of ${name}`, hidden: true }, back, where, on);
  const show = () => load(place, async () => {
    bar.hidden = cursors.length === 1;
    const page = await fetchPage(cursors.at(-1));
    next = page.next ?? null;
    where.textContent = `Page ${cursors.length}`;
    [back.disabled, on.disabled] = [cursors.length === 1, next === null];
    bar.hidden = cursors.length === 1 && next === null;
    return page.nodes;
  }, signal);
  async function turn(step) {
    if (step > 0) cursors.push(next);
    else cursors.pop();
    [back.disabled, on.disabled] = [true, true];
    await show();
    if (signal?.aborted) return;
    place.closest("section")?.scrollIntoView({ block: "nearest" });
    if (document.activeElement === document.body) (step > 0 && !on.disabled ? on : back).focus();
  }
  return { element: h("div", { class: "paged" }, place, bar), show };
}

/** Ask before something is done that cannot be undone; resolves to whether it was confirmed. */
export function confirmed(question, consequence, verb, more = null) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": question },
      h("form", { method: "dialog" },
        h("h3", {}, question), h("p", {}, consequence), more,
        h("p", { class: "actions" }, h("button", { value: "no", class: "quiet" }, "Cancel"), h("button", { value: "yes", class: "danger" }, verb))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(done, milliseconds);
    function done() {
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal?.addEventListener("abort", stop, { once: true });
  });
