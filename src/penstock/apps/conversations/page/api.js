// Talks to the API of conversations. The session is a cookie that no script can read.

/** An answer that is an error; `status` is 0 where there was none. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return what a route answers; `parameters` without a value are left out. */
export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  let response;
  try {
    response = await fetch(`api/conversations/${path}${query ? `?${query}` : ""}`, { credentials: "same-origin", signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "Penstock does not answer. Is it running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.message ?? `Penstock answered ${response.status}.`);
  return answer;
}
