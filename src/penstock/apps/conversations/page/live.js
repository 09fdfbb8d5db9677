// Tells of sessions that have new lines, as the server sees them.

/** Call `told` with each session that has new lines, until `signal` is aborted; asks nothing by itself. */
export function watch(signal, told) {
  if (signal.aborted) return;
  const source = new EventSource("api/conversations/live");
  source.addEventListener("session", (event) => told(JSON.parse(event.data)));
  // A browser opens few connections at once: one that nobody needs must not keep the next from its answers.
  signal.addEventListener("abort", () => source.close(), { once: true });
  addEventListener("pagehide", () => source.close(), { once: true, signal });
}
