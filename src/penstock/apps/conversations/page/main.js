// The page of conversations: what the address says is what is shown.

import { h } from "../keys/dom.js";
import { activity } from "./activity.js";
import { get } from "./api.js";
import { address, PAGE_SIZE, results, sessions } from "./lists.js";
import { watch } from "./live.js";
import { clean } from "./text.js";
import { compare, thread } from "./thread.js";
import { usage } from "./usage.js";

const TYPING_PAUSE = 200;
const FOLLOW_PAUSE = 1000;
const at = (id) => document.getElementById(id);
let showing = 0;
let shown = null;
let leaving = new AbortController();

async function show() {
  const asked = Object.fromEntries(new URLSearchParams(location.search));
  const mine = (showing += 1);
  shown = location.search;
  const isCurrent = () => mine === showing;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  at("problem").replaceChildren();
  at("search-form").hidden = at("search-hint").hidden = asked.view === "usage";
  if (document.activeElement !== at("q")) at("q").value = asked.q ?? "";
  at("project").value = asked.project ?? "";
  document.title = "Conversations – Penstock";
  try {
    at("activity").hidden = Boolean(asked.session || asked.view);
    const isList = !asked.session && !asked.view;
    if (isList) chart(asked, isCurrent);
    if (asked.session && asked.beside) await compare(at("view"), asked.session, asked.beside, isCurrent);
    else if (asked.session) await thread(at("view"), asked.session, location.hash.slice(1), signal, isCurrent);
    else if (asked.view === "usage") await usage(at("view"), asked.by, asked.project, isCurrent);
    else if (asked.q || asked.start || asked.end) await results(at("view"), { ...asked, q: asked.q ?? "" }, signal, isCurrent);
    else await sessions(at("view"), asked.project, isCurrent);
    if (isList && isCurrent()) follow(asked, signal, isCurrent);
  } catch (error) {
    if (error.name !== "AbortError" && isCurrent()) tell(error);
  }
}

/** Draw how much was said of what is asked for; choosing a time keeps what is searched. */
async function chart(asked, isCurrent, isWanted = () => true) {
  const choose = (chosen) => go(address({ ...asked, ...chosen }));
  const drawn = await activity(asked, choose).catch((error) => (error.status === 401 ? "" : h("p", { class: "note" }, error.message)));
  if (isCurrent() && isWanted()) at("activity").replaceChildren(drawn);
}

/** Show what agents write meanwhile: the chart and the list are read again, unless a person is in the midst of them. */
function follow(asked, signal, isCurrent) {
  const isFree = (id) => isCurrent() && !at(id).matches(":active, :focus-within");
  const isList = !asked.q && !asked.start && !asked.end;
  let waiting = null;
  watch(signal, () => {
    waiting ??= setTimeout(() => {
      waiting = null;
      if (isFree("activity")) chart(asked, isCurrent, () => isFree("activity"));
      const isFirstPage = at("view").querySelectorAll(".results > li").length <= PAGE_SIZE;
      if (isList && isFirstPage && isFree("view")) sessions(at("view"), asked.project, () => isFree("view")).catch(() => {});
    }, FOLLOW_PAUSE);
  });
}

function tell(error) {
  at("view").replaceChildren();
  at("problem").replaceChildren(error.status === 401
    ? h("span", {}, "Sign in first: open the link that ", h("code", {}, "penstock sign-in"), " prints, or use a key at ", h("a", { href: "keys" }, "the page of keys"), ".")
    : error.message);
}

/** Go to an address of this page; typing changes the one that is there. */
function go(where, isTyping = false) {
  if (isTyping) history.replaceState(null, "", where);
  else history.pushState(null, "", where);
  return arrive();
}

/** Show what the address says; where that is on the page already, only go to its line. */
function arrive() {
  const line = location.search === shown && document.getElementById(location.hash.slice(1));
  if (!line) return show();
  line.scrollIntoView({ block: "center" });
  line.focus();
}

const search = (isTyping) => {
  const { step, timezone, start, end } = Object.fromEntries(new URLSearchParams(location.search));
  return go(address({ q: at("q").value.trim(), project: at("project").value, step, timezone, start, end }), isTyping);
};
let typing;
at("q").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => search(true), TYPING_PAUSE);
});
at("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search(false);
});
at("project").addEventListener("change", () => search(false));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const isOurs = link && new URL(link.href).origin === location.origin && new URL(link.href).pathname === location.pathname;
  if (!isOurs || event.ctrlKey || event.metaKey || event.shiftKey || event.button || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  go(link.href);
});
addEventListener("popstate", arrive);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const steps = { j: [".entry", 1], k: [".entry", -1], n: [".entry.prompt", 1], p: [".entry.prompt", -1] };
  if (event.key === "/") {
    event.preventDefault();
    at("q").focus();
  } else if (steps[event.key]) step(...steps[event.key]);
  else if (event.key === "[" || event.key === "]") document.querySelector(event.key === "[" ? "a[rel=prev]" : "a[rel=next]")?.click();
});

/** Go to the next or the previous entry from where the page stands. */
function step(kind, direction) {
  const entries = [...document.querySelectorAll(`.thread > ${kind}`)];
  const here = document.activeElement?.closest(".entry")?.getBoundingClientRect().top ?? 0;
  const beyond = (entry) => (entry.getBoundingClientRect().top - here) * direction > 1;
  const found = direction > 0 ? entries.find(beyond) : entries.findLast(beyond);
  found?.focus({ preventScroll: true });
  found?.scrollIntoView({ block: "start" });
}

async function listProjects() {
  const found = await get("projects").catch(() => ({ data: [] }));
  at("project").append(...found.data.map((one) => h("option", { value: one.project }, clean(one.project))));
  at("project").value = new URLSearchParams(location.search).get("project") ?? "";
}

await Promise.all([listProjects(), show()]);
