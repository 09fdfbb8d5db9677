// The frame of the page: signing in and out, and which view is shown.

import * as api from "./api.js";
import { h } from "./dom.js";
import { ZONE } from "./format.js";
import { load, problem } from "./view.js";
import * as arrivals from "./arrivals.js";
import * as keys from "./keys.js";
import * as metric from "./metric.js";
import * as metrics from "./metrics.js";
import * as quality from "./quality.js";
import * as quarantine from "./quarantine.js";
import * as sleep from "./sleep.js";
import * as workout from "./workout.js";
import * as workouts from "./workouts.js";

const VIEWS = [
  { name: "arrivals", title: "What arrived", list: arrivals },
  { name: "metrics", title: "Metrics", list: metrics, one: metric },
  { name: "sleep", title: "Sleep", list: sleep },
  { name: "workouts", title: "Workouts", list: workouts, one: workout },
  { name: "quarantine", title: "Quarantine", list: quarantine },
  { name: "quality", title: "Quality", list: quality },
  { name: "keys", title: "Keys & limits", list: keys },
];

const part = (id) => document.getElementById(id);
let session = null;
let running = new AbortController();

part("zone").textContent = ZONE;
part("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(part("key").value.trim());
});
part("leave").addEventListener("click", () => signOut(""));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is shown
  part("content").focus();
});
document.addEventListener("refused", (event) => signOut(event.detail));
addEventListener("hashchange", () => session && show(true));
start();

function start() {
  if (api.hasKey()) enter();
  else askForKey("");
}

async function signIn(key) {
  // A header holds nothing else; said here, because fetch would only say that it failed.
  if (!/^[\x21-\x7e]+$/.test(key)) {
    askForKey("A key has letters, digits and signs, without spaces.");
    return;
  }
  api.keep(key);
  await enter();
}

async function enter() {
  const form = part("sign-in-form");
  form.querySelector("button").disabled = true;
  try {
    session = (await api.get("me")).data;
  } catch (error) {
    if (error.status === 401) signOut(error.message);
    else if (part("sign-in").hidden) part("view").replaceChildren(problem(error, enter));
    else {
      api.forget();
      askForKey(error.message);
    }
    return;
  } finally {
    form.querySelector("button").disabled = false;
  }
  form.reset();
  const entered = !part("sign-in").hidden;
  part("sign-in").hidden = true;
  part("user").textContent = session.user_name;
  [part("who").hidden, part("views").hidden] = [false, false];
  show(entered);
}

function signOut(message) {
  api.forget();
  session = null;
  running.abort();
  part("view").replaceChildren();
  document.querySelectorAll("dialog").forEach((dialog) => dialog.remove());
  [part("who").hidden, part("views").hidden] = [true, true];
  part("views").replaceChildren();
  part("user").textContent = "";
  askForKey(message);
}

function askForKey(message) {
  part("sign-in").hidden = false;
  part("sign-in-error").textContent = message;
  document.title = "Health data";
  part("key").focus();
}

/** Show the view that the address names: #/metrics, #/metrics/heart_rate. */
function show(moved) {
  running.abort();
  running = new AbortController();
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const view = VIEWS.find((one) => one.name === name) ?? VIEWS[0];
  const id = view.one && rest.length ? decoded(rest.join("/")) : null;
  part("views").replaceChildren(...VIEWS.map((one) =>
    h("a", { href: `#/${one.name}`, "aria-current": one === view ? "page" : null }, one.title)));
  part("views").querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "center" });
  document.title = `${view.title} – Health data`;
  const title = h("h2", { tabindex: -1 }, view.title);
  const root = h("section", { class: `view ${view.name}`, "aria-labelledby": "view-title" }, title);
  title.id = "view-title";
  part("view").replaceChildren(root);
  if (moved) {
    title.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  const place = h("div");
  root.append(place);
  const { signal } = running;
  const module = id === null ? view.list : view.one;
  load(place, () => module.open({ id, signal, session, title, root }), signal);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
