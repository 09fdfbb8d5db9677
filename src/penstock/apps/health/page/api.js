// Speaks to the API of this server with the key of this tab, or in the session that began at the console.

const BASE = new URL("../api/v1/", import.meta.url);
const STORED = "penstock-health-key";

/** What went wrong, in words for the person at the screen. */
export class Problem extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

let usesSession = localStorage.getItem("penstock-session") !== null; // somebody has signed in at the console

export const hasKey = () => usesSession || sessionStorage.getItem(STORED) !== null;
export const keep = (key) => sessionStorage.setItem(STORED, key);
export function forget() {
  usesSession = false;
  sessionStorage.removeItem(STORED);
}

/** Return the path with each value as one part of it: path`metrics/${name}/latest`. */
export function path(texts, ...values) {
  const parts = values.map((value) => {
    const text = String(value);
    if (text === "" || text === "." || text === "..") throw new Problem(404, "not_found", `Nothing can be found under the name “${text}”.`);
    return encodeURIComponent(text);
  });
  return texts.reduce((before, text, index) => before + parts[index - 1] + text);
}

/** Ask for JSON; returns the whole envelope. Throws Problem. */
export async function get(where, query = {}, signal = undefined) {
  const response = await request("GET", where, { query, signal });
  return read(response);
}

/** Send JSON (or nothing); returns the whole envelope. Throws Problem. */
export async function send(method, where, body = undefined, signal = undefined, query = {}) {
  const response = await request(method, where, { body, signal, query });
  return response.status === 204 ? { data: null } : read(response);
}

/** Ask for a file. Throws Problem. */
export async function file(where, query = {}, signal = undefined) {
  const response = await request("GET", where, { query, signal });
  try {
    return await response.blob();
  } catch (error) {
    throw unreachable(error);
  }
}

/** Give the person a file under a name. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replace(/[^\w.+-]+/g, "_");
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Ask for all pages of a list, up to a number of pages; returns the rows. */
export async function all(where, query = {}, signal = undefined, pages = 20) {
  const rows = [];
  let cursor = undefined;
  for (let page = 0; page < pages; page += 1) {
    const answer = await get(where, { ...query, cursor }, signal);
    rows.push(...answer.data);
    cursor = answer.next_cursor ?? undefined;
    if (!cursor) break;
  }
  return { rows, complete: !cursor };
}

async function request(method, where, { query = {}, body = undefined, signal = undefined }) {
  const url = new URL(where, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = { accept: "application/json, */*;q=0.5" };
  const key = sessionStorage.getItem(STORED);
  if (key !== null) headers.authorization = `Bearer ${key}`;
  else headers["x-penstock"] = "1";
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(url, {
      method, headers, signal, cache: "no-store", credentials: key === null && usesSession ? "same-origin" : "omit", redirect: "error", referrerPolicy: "no-referrer",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw unreachable(error);
  }
  if (!response.ok) throw await problem(response);
  return response;
}

function unreachable(error) {
  if (error.name === "AbortError") return error;
  return new Problem(0, "unreachable", "The server cannot be reached. Is this device online?");
}

async function read(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(response.status, "unreadable", "The answer of the server could not be read.");
  }
}

async function problem(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // An answer of a proxy in between need not be JSON; the status says enough.
  }
  const header = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  const retryAfter = Number.isFinite(header) ? header : Number.isFinite(said?.retry_after) ? said.retry_after : null;
  const code = typeof said?.error === "string" ? said.error : "";
  const message = typeof said?.message === "string" ? said.message : "";
  return new Problem(response.status, code, words(response.status, message), retryAfter);
}

function words(status, message) {
  const detail = message ? ` The server says: ${message}` : "";
  switch (status) {
    case 401: return "This key is not accepted. It may be mistyped, expired or revoked.";
    case 403: return `Your key may not do this.${detail}`;
    case 404: return `This is not here.${detail}`;
    case 429: return "There were too many requests with this key. It works again in a while.";
    case 503: return "The service is not available at the moment. Nothing is lost; try again.";
    default: return status >= 500 ? `The server could not answer (${status}).${detail}` : `The server did not accept this (${status}).${detail}`;
  }
}
