// Tells of sessions that have new lines, as the server sees them.

/** Call `told` with each session that has new lines, while `isCurrent`; asks nothing by itself. */
export function watch(isCurrent, told) {
  const source = new EventSource("api/conversations/live");
  const end = () => source.close();
  source.addEventListener("session", (event) => {
    if (!isCurrent()) return end();
    told(JSON.parse(event.data));
  });
  // A browser does not come back by itself where it was refused.
  source.addEventListener("error", () => { if (!isCurrent()) end(); });
  addEventListener("pagehide", end, { once: true });
  return end;
}
