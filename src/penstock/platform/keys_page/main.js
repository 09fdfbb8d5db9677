// The page of keys: signs in by the link in the address, by a key or by the session that is there, and shows what it may.

import * as api from "./api.js";
import { audit } from "./audit.js";
import { keys } from "./keys.js";
import { sessions } from "./sessions.js";

const at = (id) => document.getElementById(id);
const LINK = /^#sign-in=(.+)$/;

/** Take the link out of the address before anything else: it is in no history and in no bookmark. */
function takeLink() {
  const found = LINK.exec(location.hash);
  if (found) history.replaceState(null, "", location.pathname);
  return found?.[1];
}

function ask(problem = "") {
  at("view").replaceChildren();
  at("who").hidden = true;
  at("sign-in").hidden = false;
  at("sign-in-error").textContent = problem;
  at("key").focus();
}

async function show() {
  const me = (await api.get("me")).data;
  const isOperator = me.scopes.includes("operator");
  at("sign-in").hidden = true;
  at("who").hidden = false;
  at("user").textContent = me.user_name;
  const told = (error) => (error.status === 401 ? ask("The session has ended. Sign in again.") : undefined);
  const parts = [await keys(me, isOperator, told)];
  if (isOperator) parts.push(await sessions(me, told));
  parts.push(await audit(told));
  at("view").replaceChildren(...parts);
}

async function enter(by) {
  try {
    if (by) await api.send("POST", "sessions", by);
    await show();
  } catch (error) {
    const isNew = error.status === 401 && !by;
    ask(isNew ? "" : error.message);
  }
}

at("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = at("key").value.trim();
  at("key").value = "";
  enter({ key });
});

at("leave").addEventListener("click", async () => {
  await api.send("DELETE", "sessions/current").catch(() => {});
  ask();
});

addEventListener("hashchange", () => {
  const link = takeLink();
  if (link) enter({ link });
});

const link = takeLink();
enter(link ? { link } : undefined);
