// The bar that every page has: the navigation, the search, the theme, and who has signed in.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { Search } from "./search.js";
import { THEMES, choose, chosen } from "./theming.js";

/** Return the pages that are listed, by their headings in the order in which they come. */
function grouped(pages) {
  const groups = new Map();
  for (const page of pages.filter((one) => one.listed)) groups.set(page.group, [...(groups.get(page.group) ?? []), page]);
  return [...groups];
}

/** Return where a page is, from wherever this is. */
export const hrefOf = (page) => (page.module ? `./#${page.path}` : page.path.replace(/^\//, ""));

export function Frame({ session, current, leave }) {
  const [isOpen, setOpen] = useState(false);
  const [search, setSearch] = useState(0); // the number of the opening; 0 while it is closed
  const opener = useRef(null);
  // A search that closes may be asked for again before it is gone: that is another one.
  const openSearch = () => setSearch((now) => (document.querySelector("dialog.finder[open]") ? now : now + 1));
  useLayoutEffect(() => { // with what it draws: a key that is pressed as soon as it is seen is not lost
    const pressed = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        openSearch();
      } else if (event.key === "/" && !event.defaultPrevented && !event.target.closest?.("input, textarea, select, [contenteditable]")) {
        event.preventDefault();
        openSearch();
      } else if (event.key === "Escape" && isOpen) {
        setOpen(false);
        opener.current?.focus();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [isOpen]);
  useEffect(() => {
    const moved = () => setOpen(false);
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const skip = (event) => {
    event.preventDefault(); // the fragment of the address says which view is shown
    document.getElementById("content")?.focus();
  };
  return html`
    <a class="frame-skip" href="#content" onClick=${skip}>Skip to the content</a>
    <div class="frame-bar" role="banner" data-open=${isOpen ? "" : undefined}>
      <div class="frame-top">
        <a class="frame-brand" href="./#/"><img src="console/icon.svg" alt="" width="26" height="26" />Penstock</a>
        <button type="button" class="plain narrow-only" aria-label="Search" onClick=${openSearch}><${Icon} name="search" /></button>
        <button type="button" class="plain narrow-only" ref=${opener} aria-label="Menu" aria-expanded=${isOpen} aria-controls="frame-body" onClick=${() => setOpen(!isOpen)}><${Icon} name=${isOpen ? "close" : "menu"} /></button>
      </div>
      <div class="frame-body" id="frame-body">
        <button type="button" class="frame-search wide-only" onClick=${openSearch}><${Icon} name="search" /><span>Search</span><kbd>Ctrl K</kbd></button>
        <nav aria-label="Pages">
          ${grouped(session.pages).map(([group, pages]) => html`<div class="frame-group">
            ${group && html`<h2>${group}</h2>`}
            <ul>${pages.map((page) => html`<li><a href=${hrefOf(page)} aria-current=${page.path === current ? "page" : undefined}><${Icon} name=${page.icon} />${page.title}</a></li>`)}</ul>
          </div>`)}
        </nav>
        <div class="frame-foot">
          <span class="frame-who" title=${session.user_name}>${session.user_name}</span>
          <${Theme} />
          ${leave && html`<button type="button" class="plain" title="Sign out" aria-label="Sign out" onClick=${leave}><${Icon} name="leave" /></button>`}
        </div>
      </div>
    </div>
    ${search > 0 && html`<${Search} key=${search} session=${session} close=${() => setSearch((now) => (now === search ? 0 : now))} />`}`;
}

function Theme() {
  const [theme, setTheme] = useState(chosen);
  useEffect(() => {
    const changed = () => setTheme(chosen());
    addEventListener("theme", changed);
    return () => removeEventListener("theme", changed);
  }, []);
  const { next, icon, name } = THEMES[theme];
  return html`<button type="button" class="plain" title=${`Theme: ${name}`} aria-label=${`Theme: ${name}. Change it`} onClick=${() => choose(next)}><${Icon} name=${icon} /></button>`;
}
