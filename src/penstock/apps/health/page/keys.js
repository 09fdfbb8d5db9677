// What the key of this page may do and has used, and what its user may do with all that is theirs.

import * as api from "./api.js";
import { facts, h, note } from "./dom.js";
import { instant } from "./format.js";
import { everything } from "./owning.js";
import { usage } from "./usage.js";
import { load } from "./view.js";

const SCOPES = { ingest: "send data", read: "read data", export: "export files", admin: "manage keys" };

export async function open({ signal, session }) {
  const limits = h("div");
  load(limits, async () => usage((await api.get("auth/rate-limit", {}, signal)).data), signal);
  const scopes = [...(session.scopes ?? [])];
  const mine = h("section", { class: "part", "aria-label": "This key" },
    h("h3", {}, "This key"),
    facts([["Name", session.key_name], ["May", scopes.map((scope) => SCOPES[scope] ?? scope).join(", ") || "nothing"], ["User", session.user_name], ["Valid until", session.expires_at ? instant(session.expires_at) : null]]),
    limits);
  const all = note("Keys are made, rotated and revoked on ", h("a", { href: "keys" }, "the page of keys"), ", which also shows who is signed in and what was done.");
  return [mine, everything(session, signal), all].filter(Boolean);
}
