// The state of all streams, kept up to date by the server for as long as a view is open.

import { useEffect, useReducer, useRef, useState } from "../html.js";
import * as api from "../api.js";

const MAX_HISTORY = 120;

/** Follow the streams: returns {streams: Map by id, history: Map of rows a second by id, isLive}. */
export function useStreams(initial) {
  const streams = useRef(new Map(initial.map((one) => [one.id, one])));
  const history = useRef(new Map());
  const [isLive, setLive] = useState(true);
  const [, redraw] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    const running = new AbortController();
    let frame = 0;
    const take = (stream) => {
      streams.current.set(stream.id, stream);
      const rates = history.current.get(stream.id) ?? [];
      history.current.set(stream.id, [...rates.slice(1 - MAX_HISTORY), { at: Date.now() / 1000, ...stream.rates }]);
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        redraw();
      });
    };
    // A page that nobody sees asks for nothing.
    let following = null;
    const seen = () => {
      if (document.hidden) {
        following?.abort();
        following = null;
      } else if (!following) {
        following = new AbortController();
        api.follow("api/platform/v1/streams/events", { stream: take }, following.signal, setLive);
      }
    };
    seen();
    document.addEventListener("visibilitychange", seen, { signal: running.signal });
    return () => {
      running.abort();
      following?.abort();
      cancelAnimationFrame(frame);
    };
  }, []);
  return { streams: streams.current, history: history.current, isLive };
}

/** Say how a stream is: [word, kind as of a notice]. */
export function condition({ state, is_well: isWell, trouble, note }) {
  if (state === "failed") return ["failed", "bad"];
  if (["running", "starting"].includes(state) && trouble) return ["unwell", "bad"];
  if (state === "restarting") return ["restarting", "warn"];
  if (state === "paused") return ["paused", "warn"];
  if (state === "running" && note) return ["running", "warn"];
  return [state, isWell && state === "running" ? "good" : ""];
}
