// Talks to the API of the platform. The session is a cookie that no script can read.

const ROOT = "api/platform/v1/";

/** An answer that is an error; `status` is 0 where there was none. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path, parameters = {}) => {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  return call("GET", query ? `${path}?${query}` : path);
};

export const send = (method, path, body) => call(method, path, body);

async function call(method, path, body) {
  const headers = { "x-penstock": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(ROOT + path, { method, headers, credentials: "same-origin", cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, "Penstock does not answer. Is it running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.message ?? answer.error ?? `Penstock answered ${response.status}.`);
  return answer;
}
