// The shell: signs in, shows the navigation, and opens the view that the address names.

import { html, render, useEffect, useRef, useState } from "./html.js";
import * as api from "./api.js";
import { Frame } from "./frame.js";
import { read } from "./route.js";
import { SignIn } from "./signin.js";
import { Notice } from "./parts/notice.js";
import { Toasts } from "./parts/toast.js";

const LINK = /^#sign-in=(.+)$/;

/** Take a link to sign in out of the address before anything else: it is in no history and in no bookmark. */
function takeLink() {
  const found = LINK.exec(location.hash);
  if (found) history.replaceState(null, "", location.pathname + location.search);
  return found?.[1];
}

/** Return the page of the navigation that shows an address: the one with the longest path that is its beginning. */
function pageOf(pages, path) {
  const parts = (page) => page.path.split("/").filter(Boolean);
  const fits = (page) => page.module && parts(page).every((part, index) => part === path[index]);
  return pages.filter(fits).sort((one, other) => parts(other).length - parts(one).length).find((page) => parts(page).length || !path.length);
}

/** Note for documents of their own whether there is a session, so that they ask for the bar only then. */
function remember(isIn) {
  try {
    if (isIn) localStorage.setItem("penstock-session", "1");
    else localStorage.removeItem("penstock-session");
  } catch {
    // Without storage these documents have no bar.
  }
}

function Console() {
  const [session, setSession] = useState(null);
  const [problem, setProblem] = useState(null);
  const [isOut, setOut] = useState(false);

  const enter = async (by) => {
    setProblem(null);
    try {
      if (by) await api.send("POST", "api/platform/v1/sessions", by);
      const { data } = await api.get("api/console/navigation");
      setSession(data);
      setOut(false);
      remember(true);
    } catch (error) {
      setOut(error.status === 401 || error.status === 403 || Boolean(by));
      if (by || error.status !== 401) setProblem(error);
    }
  };
  useEffect(() => {
    const link = takeLink();
    enter(link ? { link } : undefined);
    const out = () => setOut(true);
    const linked = () => {
      const again = takeLink();
      if (again) enter({ link: again });
    };
    addEventListener("signed-out", out);
    addEventListener("hashchange", linked);
  }, []);
  const leave = async () => {
    await api.send("DELETE", "api/platform/v1/sessions/current").catch(() => {});
    remember(false);
    setSession(null);
    setOut(true);
  };

  if (isOut) return html`<${SignIn} problem=${problem} isBack=${session !== null} enter=${enter} />`;
  if (problem && !session) return html`<main class="alone"><${Notice} kind="bad" title="Penstock cannot be reached" actions=${html`<button type="button" onClick=${() => enter()}>Try again</button>`}>${problem.message}<//></main>`;
  if (!session) return null;
  return html`<${Shell} session=${session} leave=${leave} />`;
}

function Shell({ session, leave }) {
  const [where, setWhere] = useState(() => read(location.hash));
  useEffect(() => {
    const moved = () => setWhere(read(location.hash));
    addEventListener("hashchange", moved);
    moved(); // it may have changed since it was read first
    return () => removeEventListener("hashchange", moved);
  }, []);
  const page = pageOf(session.pages, where.path);
  return html`
    <${Frame} session=${session} current=${page?.path} leave=${leave} />
    <main id="content" tabindex="-1">
      ${page ? html`<${View} key=${page.path} page=${page} where=${where} session=${session} />` : html`<${Missing} />`}
    </main>
    <${Toasts} />`;
}

const Missing = () => html`<header class="head"><h1>Not here</h1></header><${Notice} title="There is no such page">The address may be of something that is gone, or that your session may not see. <a href="#/">Go to the overview</a><//>`;

/** One view: its module is loaded, opened, and opened again whenever the address changes. */
function View({ page, where, session }) {
  const [shown, setShown] = useState(null);
  const [problem, setProblem] = useState(null);
  const [tries, setTries] = useState(0);
  const heading = useRef(null);
  const parts = page.path.split("/").filter(Boolean).length;
  const path = where.path.slice(parts);

  useEffect(() => {
    const running = new AbortController();
    const show = async () => {
      const { view } = await import(api.address(page.module));
      const vnode = await view.open({ path, query: where.query, signal: running.signal, session });
      if (running.signal.aborted) return;
      setProblem(null);
      setShown(vnode);
      document.title = `${path.at(-1) ?? view.title} – Penstock`;
    };
    show().catch((error) => {
      if (!running.signal.aborted) setProblem(error);
    });
    return () => running.abort();
  }, [JSON.stringify(where), tries]);
  useEffect(() => {
    const again = () => setTries((count) => count + 1);
    addEventListener("view-changed", again);
    return () => removeEventListener("view-changed", again);
  }, []);
  useEffect(() => {
    if (!heading.current) heading.current = true; // the first view keeps the focus where it was
    else scrollTo(0, 0);
  }, [path.join("/")]);

  if (problem) return html`<header class="head"><h1>${page.title}</h1></header>
    <${Notice} kind="bad" title="This cannot be shown" actions=${html`<button type="button" onClick=${() => setTries(tries + 1)}>Try again</button>`}>${problem.message}<//>`;
  return shown ?? html`<p class="loading" role="status">Loading</p>`;
}

render(html`<${Console} />`, document.getElementById("console"));
