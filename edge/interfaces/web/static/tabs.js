// Which tabs of this browser are shown. A browser opens six connections to one host, for all its tabs together. So a
// hidden tab holds none, and of the tabs that are shown only the newest hold the event stream.

const HOLDERS = 3;
const id = Math.random(); // crypto.randomUUID exists only with TLS
const newer = new Set(); // tabs that were shown after this one
const waiting = new Set(); // called when this tab is shown
let channel = null, left = false;

export const isShown = () => !document.hidden && !left;

/** Whether this tab may keep a connection open. */
export const mayHold = () => newer.size < HOLDERS;

/** Resolves once this tab is shown. */
export const shown = () => (isShown() ? Promise.resolve() : new Promise((resolve) => waiting.add(resolve)));

/** Wait, but not longer than until the tab is shown again or the network is back. */
export function rest(milliseconds) {
  return new Promise((resolve) => {
    const end = () => { clearTimeout(timer); waiting.delete(end); removeEventListener("online", end); resolve(); };
    const timer = setTimeout(end, milliseconds);
    waiting.add(end);
    addEventListener("online", end);
  });
}

function announce() {
  if (!isShown()) return;
  newer.clear();
  if (!channel && "BroadcastChannel" in window) {
    channel = new BroadcastChannel("edge-classifier");
    channel.onmessage = ({ data }) => (data.shown ? newer.add(data.id) : newer.delete(data.id));
  }
  channel?.postMessage({ id, shown: true });
}

/** Call `hidden` whenever this tab is hidden, left or closed, and `again` when it is shown again. */
export function watchTab({ hidden, again }) {
  let was = isShown();
  const changed = () => {
    if (was === isShown()) return;
    was = isShown();
    if (was) {
      announce();
      again();
      for (const resolve of [...waiting]) resolve();
      waiting.clear();
    } else {
      channel?.postMessage({ id, shown: false });
      channel?.close(); // an open channel keeps the browser from preserving the page for "back"
      channel = null;
      hidden();
    }
  };
  document.addEventListener("visibilitychange", changed);
  addEventListener("pagehide", () => { left = true; changed(); });
  addEventListener("pageshow", () => { left = false; changed(); });
  addEventListener("focus", announce);
  announce();
}
