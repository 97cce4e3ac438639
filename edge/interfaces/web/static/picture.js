// The live picture: the newest frame, again and again, while the tab is shown.

import { $ } from "./dom.js";
import { Failure, receive } from "./net.js";
import { isShown, rest, shown } from "./tabs.js";

const EVERY_MS = 150, WITHIN_MS = 60_000;

/** One picture, whole and decoded. */
async function fetchPicture() {
  const pieces = [];
  await receive("/snapshot.jpg", (piece) => { pieces.push(piece); }, { withinMs: WITHIN_MS });
  const picture = new Blob(pieces, { type: "image/jpeg" });
  const end = new Uint8Array(await picture.slice(-2).arrayBuffer());
  // Through some proxies a lost connection looks like the end of the picture.
  if (end[0] !== 0xff || end[1] !== 0xd9) throw new Failure(0);
  return picture;
}

/** Show the camera's picture for as long as the page lives; `failed(failure)` is called while there is none. */
export async function watch(failed) {
  const element = $("picture");
  for (let failures = 0, url = ""; ;) {
    await shown();
    try {
      const next = URL.createObjectURL(await fetchPicture());
      element.src = next;
      await element.decode().catch(() => {});
      URL.revokeObjectURL(url);
      url = next;
      failures = 0;
      element.hidden = false;
      $("no-picture").hidden = true;
      await rest(EVERY_MS);
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure;
      if (!isShown()) continue;
      // After a single lost picture the last one stays until the next attempt.
      if (failure.status || failures) {
        element.hidden = true;
        $("no-picture").hidden = false;
        failed(failure);
      }
      await rest(failure.waitMs(failures++));
    }
  }
}
