// Requests to the box: what went wrong, in words, and how long to wait for the next one.

import { t } from "./words.js";

const STALLED_MS = 10_000; // the event stream sends something every 2 s, a picture comes at once
const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 8000, LONGEST_RETRY_MS = 60_000;
const open = new Set();

/** A request that failed; `status` is 0 if there was no answer, or not a whole one. */
export class Failure extends Error {
  constructor(status, detail, retryMs) {
    super(detail || `status ${status}`);
    Object.assign(this, { status, detail, retryMs });
  }

  /** The failure that a response of fetch means. */
  static async of(response) {
    const body = await response.json().catch(() => null); // a proxy answers in HTML
    const status = response.status < 400 ? 0 : response.status; // below: a status line that was cut, such as "HTTP/1.1 2"
    return new Failure(status, body?.detail, retryMs((name) => response.headers.get(name)));
  }

  /** How long to wait after so many failures in a row: as long as the box asks for, else longer each time. */
  waitMs(failures) {
    const backOff = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(failures, 10));
    return this.retryMs ?? backOff * (0.75 + Math.random() / 2);
  }

  /** Whether the box is well and answers later. */
  get isBusy() {
    return this.status === 429 || this.status === 503;
  }

  /** What happened, as a sentence. */
  get reason() {
    const { status, detail } = this;
    if (status === 0) return t("unreachable");
    if (status === 401) return t("logged_out");
    if (status === 429) return t("too_many");
    if (detail) return detail;
    if (status === 413) return t("too_big");
    if (status === 503) return t("overloaded");
    if (status === 502 || status === 504) return t("proxy_only");
    return t(status >= 500 ? "faulty" : "answered", { status });
  }
}

/** Retry-After, a number of seconds or a date, in milliseconds; null if there is none. `header` reads one by its name. */
export function retryMs(header) {
  const text = header("Retry-After") ?? "";
  // The box's clock may differ from the browser's.
  const milliseconds = /^\d+$/.test(text) ? text * 1000 : Date.parse(text) - (Date.parse(header("Date")) || Date.now());
  return Number.isFinite(milliseconds) ? Math.min(Math.max(milliseconds, 1000), LONGEST_RETRY_MS) : null;
}

/** What `path` answers as JSON; throws a Failure. */
export async function receiveJson(path) {
  const pieces = [];
  await receive(path, (piece) => { pieces.push(piece); }, { withinMs: STALLED_MS });
  try {
    return JSON.parse(await new Blob(pieces).text());
  } catch {
    throw new Failure(0); // only a part of it, or the page of a proxy
  }
}

/** End every request that `receive` has open. */
export function hangUp() {
  for (const connection of open) connection.abort();
}

/**
 * Get `path`; `onPiece` takes each part of the answer as bytes, and ends the request if it returns false.
 * Throws a Failure for a refusal, and for a connection that is lost or over which nothing comes any more.
 */
export async function receive(path, onPiece, { onOpen = () => {}, withinMs } = {}) {
  const connection = new AbortController();
  const abort = () => connection.abort();
  const lost = () => { throw new Failure(0); };
  let stalled = setTimeout(abort, STALLED_MS);
  const late = withinMs && setTimeout(abort, withinMs);
  open.add(connection);
  try {
    const response = await fetch(path, { signal: connection.signal, cache: "no-store" }).catch(lost);
    if (!response.ok) throw await Failure.of(response);
    onOpen();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read().catch(lost);
      if (done) return;
      clearTimeout(stalled);
      stalled = setTimeout(abort, STALLED_MS);
      if (onPiece(value) === false) return abort();
    }
  } finally {
    clearTimeout(stalled);
    clearTimeout(late);
    open.delete(connection);
  }
}
