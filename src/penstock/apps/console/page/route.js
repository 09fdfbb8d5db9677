// The address of a view: #/streams/ingest?tab=log is {path: ["streams", "ingest"], query: {tab: "log"}}.

/** Read the fragment of an address. */
export function read(fragment) {
  const [where, search = ""] = fragment.replace(/^#/, "").split(/\?(.*)/s);
  const path = where.split("/").filter(Boolean).map(decoded);
  return { path, query: Object.fromEntries(new URLSearchParams(search)) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Return the fragment of a view; what is null, undefined or empty in the query is left out. */
export function link(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(kept).toString();
  return `#/${path.map((part) => encodeURIComponent(part)).join("/")}${search ? `?${search}` : ""}`;
}

/** Go to a view. */
export const go = (path, query = {}) => {
  location.hash = link(path, query);
};

/** Change the query of the view that is shown, without a step in the history of the browser. */
export function refine(changes) {
  const { path, query } = read(location.hash);
  history.replaceState(null, "", link(path, { ...query, ...changes }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** Open the view that is shown once more: what it shows has changed. */
export const reload = () => dispatchEvent(new Event("view-changed"));
