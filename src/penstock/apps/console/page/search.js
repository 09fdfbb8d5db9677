// Search everywhere: pages, streams, tables, metrics, settings. Sources that a session may not see say nothing.

import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import * as api from "./api.js";
import { hrefOf } from "./frame.js";
import { Icon } from "./icons.js";

const MAX_SHOWN = 40;

/** Return what can be found besides pages: each source is asked once for each opening, and one that fails is left out. */
async function gather(session, signal) {
  const ask = async (page) => (await api.get(page.search, {}, signal)).data.map((one) => ({
    ...one, icon: page.icon, href: one.address.startsWith("/#/") ? `.${one.address}` : one.address.replace(/^\//, ""),
  }));
  const answers = await Promise.allSettled(session.pages.filter((page) => page.search).map(ask));
  return answers.flatMap((answer) => answer.value ?? []);
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
  const [found, setFound] = useState(() => pagesOf(session));
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  useEffect(() => {
    const before = document.activeElement;
    const running = new AbortController();
    dialog.current.showModal();
    gather(session, running.signal).then((more) => setFound([...pagesOf(session), ...more]), () => {});
    return () => {
      running.abort();
      before?.focus?.();
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
    location.href = new URL(one.href, document.baseURI);
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
        <input type="text" placeholder="Pages, streams, tables, settings" role="combobox" aria-expanded="true" aria-controls="found" aria-label="Search for"
          aria-activedescendant=${shown.length ? `found-${active}` : undefined} autocomplete="off" spellcheck=${false} value=${text}
          onInput=${(event) => { setText(event.target.value); setAt(0); }} onKeyDown=${pressed} autofocus /></p>
      <ul id="found" role="listbox" aria-label="Found">
        ${shown.map((one, index) => html`<li id=${`found-${index}`} role="option" aria-selected=${index === active} onClick=${() => take(one)} onMouseMove=${() => index !== active && setAt(index)}>
          <${Icon} name=${one.icon} /><span class="finder-title">${one.title}</span><span class="finder-hint">${one.kind}${one.hint ? ` · ${one.hint}` : ""}</span></li>`)}
      </ul>
      ${shown.length === 0 && html`<p class="finder-nothing" role="status">Nothing is called like this.</p>`}
    </div>
  </dialog>`;
}
