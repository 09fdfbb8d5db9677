// Talks to the APIs of this server. The session is a cookie that no script can read.

const BASE = new URL("../", import.meta.url);

/** An answer that is an error, in words for a person; `status` is 0 where there was none. */
export class Problem extends Error {
  constructor(status, message, body = {}) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** Return a path with each value as one part of it: path`api/platform/v1/streams/${id}`. */
export function path(texts, ...values) {
  return texts.reduce((before, text, index) => {
    const value = String(values[index - 1]);
    if (value === "." || value === ".." || value === "") throw new Problem(404, `Nothing can be found under the name “${value}”.`);
    return before + encodeURIComponent(value) + text;
  });
}

/** Return the whole address of a path below the root of this server. */
export const address = (where, query = {}) => {
  const url = new URL(String(where).replace(/^\/+/, ""), BASE);
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== null && one !== "") url.searchParams.append(name, one);
  }
  return url;
};

/** Ask for JSON; resolves to the whole answer, mostly {data, ...}. Throws Problem. */
export const get = (where, query = {}, signal = undefined) => call("GET", where, { query, signal });

/** Send JSON, or nothing; resolves to the whole answer. Throws Problem. */
export const send = (method, where, body = undefined, signal = undefined) => call(method, where, { body, signal });

/** Send a request and return the response, which is not read; throws Problem unless it is a success. */
export async function open(method, where, { query = {}, body = undefined, signal = undefined, headers = {} } = {}) {
  const sent = { "x-penstock": "1", ...headers };
  if (body !== undefined) sent["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(address(where, query), {
      method, signal, headers: sent, credentials: "same-origin", cache: "no-store", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(0, "Penstock does not answer. Is it running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const problem = new Problem(response.status, said?.message ?? said?.error ?? `Penstock answered ${response.status}.`, said ?? {});
  if (problem.status === 401) dispatchEvent(new CustomEvent("signed-out"));
  throw problem;
}

async function call(method, where, options) {
  const response = await open(method, where, options);
  if (response.status === 204) return {};
  try {
    return await response.json();
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(response.status, "The answer of Penstock could not be read.");
  }
}

/**
 * Follow server-sent events until `signal` aborts: `on` has a function of the data for each name of an event.
 * `told` is called with true while connected and false while not; the browser connects again by itself, and where the
 * server refuses, this does, after a while.
 */
export function follow(where, on, signal, told = () => {}) {
  let source;
  let waiting;
  let delay = 1000;
  const connect = () => {
    source = new EventSource(address(where));
    source.addEventListener("open", () => {
      delay = 1000;
      told(true);
    });
    source.addEventListener("error", () => {
      told(false);
      if (source.readyState !== EventSource.CLOSED) return;
      waiting = setTimeout(connect, delay);
      delay = Math.min(delay * 2, 30000);
    });
    for (const [name, take] of Object.entries(on)) {
      source.addEventListener(name, (event) => {
        let data;
        try {
          data = JSON.parse(event.data);
        } catch {
          return; // half an event, of a server that went away
        }
        take(data);
      });
    }
  };
  connect();
  signal.addEventListener("abort", () => {
    clearTimeout(waiting);
    source.close();
  }, { once: true });
}
