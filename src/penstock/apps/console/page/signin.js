// Signing in, by a key; a link is taken from the address before this is shown.

import { html, useEffect, useRef, useState } from "./html.js";

export function SignIn({ problem, isBack, enter }) {
  const field = useRef(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const key = field.current.value.trim();
    field.current.value = "";
    setBusy(true);
    await enter({ key });
    setBusy(false);
  };
  return html`<main class="alone sign-in">
    <p class="brand"><img src="console/icon.svg" alt="" width="28" height="28" /> Penstock</p>
    <h1>${isBack ? "Sign in again" : "Sign in"}</h1>
    <p class="soft">${isBack ? "The session has ended. " : ""}Run this where Penstock runs, and open the link that it prints:</p>
    <pre>penstock sign-in</pre>
    <form onSubmit=${submit} autocomplete="off">
      <label for="key">Or use a key</label>
      <p class="row"><input id="key" ref=${field} type="password" autocomplete="off" spellcheck=${false} autocapitalize="none" required aria-describedby="sign-in-problem" />
      <button type="submit" class="primary" disabled=${isBusy}>Sign in</button></p>
      <p id="sign-in-problem" class="problem" role="alert">${problem?.message}</p>
    </form>
  </main>`;
}
