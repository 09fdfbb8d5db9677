// Search everywhere: pages, streams, tables, metrics, settings. Sources that a session may not see say nothing.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./html.js";
import * as api from "./api.js";
import { hrefOf } from "./frame.js";
import { Icon } from "./icons.js";
import { visible } from "./parts/format.js";
import { THEMES, choose } from "./theming.js";

const MAX_SHOWN = 40;
/** What was found at the last opening, by session: it is there at once, until the sources have answered again. */
const before = new WeakMap();

/** Return what can be found besides pages: each source is asked once for each opening, and one that fails is left out. */
async function gather(session, signal) {
  const ask = async (page) => (await api.get(page.search, {}, signal)).data.map((one) => ({
    ...one, icon: page.icon, href: one.address.startsWith("/#/") ? `.${one.address}` : one.address.replace(/^\//, ""),
  }));
  const answers = await Promise.allSettled(session.pages.filter((page) => page.search).map(ask));
  return answers.flatMap((answer) => answer.value ?? []);
}

/** Return what is known without asking: the pages, and what is set in this browser. */
function knownTo(session) {
  const themes = Object.entries(THEMES).map(([theme, { icon, name }]) => ({ kind: "Setting", title: `Theme: ${name}`, hint: "of this browser", icon, act: () => choose(theme) }));
  return [...pagesOf(session), ...themes];
}

function pagesOf(session) {
  return session.pages.map((page) => ({ kind: "Page", title: page.title, hint: page.group, icon: page.icon, href: hrefOf(page) }));
}

/** Return how well something fits the words: 0 for not at all. */
function fit(one, words) {
  const [title, all] = [one.title.toLowerCase(), `${one.title} ${one.kind} ${one.hint ?? ""}`.toLowerCase()];
  if (!words.every((word) => all.includes(word))) return 0;
  return words.reduce((sum, word) => sum + (title.startsWith(word) ? 4 : title.includes(word) ? 2 : 1), one.kind === "Page" ? 1 : 0);
}

export function Search({ session, close }) {
  const dialog = useRef(null);
  const [found, setFound] = useState(() => [...knownTo(session), ...(before.get(session) ?? [])]);
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  useLayoutEffect(() => { // before the next key is pressed: whoever types at once loses none
    const focused = document.activeElement;
    const running = new AbortController();
    dialog.current.showModal();
    gather(session, running.signal).then((more) => {
      if (running.signal.aborted) return;
      before.set(session, more);
      setFound([...knownTo(session), ...more]);
    }, () => {});
    return () => {
      running.abort();
      focused?.focus?.();
    };
  }, []);
  const shown = useMemo(() => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return found.slice(0, MAX_SHOWN);
    const fits = found.map((one) => [fit(one, words), one]).filter(([weight]) => weight);
    return fits.sort(([one], [other]) => other - one).slice(0, MAX_SHOWN).map(([, one]) => one);
  }, [text, found]);
  const active = Math.min(at, shown.length - 1);
  useEffect(() => dialog.current.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }), [active]);
  const take = (one) => {
    dialog.current.close();
    if (one.act) one.act();
    else location.href = new URL(one.href, document.baseURI);
  };
  const pressed = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      setAt((active + step + shown.length) % Math.max(1, shown.length));
    } else if (event.key === "Enter" && shown[active]) {
      event.preventDefault();
      take(shown[active]);
    }
  };
  return html`<dialog class="finder" ref=${dialog} aria-label="Search" onClose=${close} onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <div class="finder-box">
      <p class="finder-field"><${Icon} name="search" />
        <input type="text" placeholder="Pages, streams, tables, metrics, settings" role="combobox" aria-expanded="true" aria-controls="found" aria-label="Search for"
          aria-activedescendant=${shown.length ? `found-${active}` : undefined} autocomplete="off" spellcheck=${false} value=${text}
          onInput=${(event) => { setText(event.target.value); setAt(0); }} onKeyDown=${pressed} autofocus /></p>
      <ul id="found" role="listbox" aria-label="Found">
        ${shown.map((one, index) => html`<li id=${`found-${index}`} role="option" aria-selected=${index === active} onClick=${() => take(one)} onMouseMove=${() => index !== active && setAt(index)}>
          <${Icon} name=${one.icon} /><span class="finder-title">${visible(one.title)}</span><span class="finder-hint">${one.kind}${one.hint ? ` · ${visible(one.hint)}` : ""}</span></li>`)}
      </ul>
      ${shown.length === 0 && html`<p class="finder-nothing" role="status">Nothing is called like this.</p>`}
    </div>
  </dialog>`;
}
