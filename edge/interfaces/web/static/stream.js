// The event stream: read while the tab is shown, and opened again after each loss.

import { Failure, receive } from "./net.js";
import { isShown, mayHold, rest, shown } from "./tabs.js";

const TURN_EVERY_MS = 3000; // of a tab that may not hold the stream: it reads what there is, and closes it

/** A function that takes server-sent events as bytes, in any pieces, and calls `on[kind](document)`. */
function parser(on) {
  const decoder = new TextDecoder();
  let text = "";
  return (bytes) => {
    const messages = (text + decoder.decode(bytes, { stream: true })).split("\n\n");
    text = messages.pop();
    for (const message of messages) {
      const lines = message.split("\n");
      const field = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
      const kind = field("event");
      if (Object.hasOwn(on, kind)) on[kind](JSON.parse(field("data")));
    }
  };
}

/** Read the stream for as long as the page lives; `opened` and `failed(failure)` follow the connection. */
export async function follow(path, { on, opened, failed }) {
  for (let failures = 0; ;) {
    await shown();
    let complete = false, yielded = false;
    const parse = parser({ ...on, top: (document) => { complete = true; on.top(document); } });
    const take = (bytes) => {
      failures = 0;
      parse(bytes);
      yielded = complete && !mayHold();
      return !yielded;
    };
    let failure = new Failure(0); // also for a stream that ends: the daemon stops
    try {
      await receive(path, take, { onOpen: opened });
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failure = error;
    }
    if (yielded) await rest(TURN_EVERY_MS);
    else if (isShown()) {
      failed(failure);
      await rest(failure.waitMs(failures++));
    }
  }
}
