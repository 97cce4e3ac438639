// Photos that are dropped, pasted or chosen: sent to /predict one at a time, with progress.

import { bars } from "./bars.js";
import { $, make, pause } from "./dom.js";
import { Failure, retryMs } from "./net.js";
import { t } from "./words.js";

const MAX_BYTES = 12 << 20;
const TRIES = 5;
const WITHIN_MS = 90_000; // the box itself gives up sooner

function send(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch reports no upload progress
    request.open("POST", "/predict");
    request.responseType = "json";
    request.timeout = WITHIN_MS;
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    const header = (name) => request.getResponseHeader(name);
    request.onload = () => (request.status === 200 && request.response
      ? resolve(request.response)
      : reject(new Failure(request.status, request.response?.detail, retryMs(header))));
    request.onerror = request.ontimeout = () => reject(new Failure(0));
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}

async function ask(file) {
  const name = file.name || "photo";
  const progress = $("progress"), doing = $("doing");
  for (let attempt = 1; ; attempt++) {
    doing.textContent = t("uploading", { name });
    progress.value = 0;
    try {
      return await send(file, (part) => {
        progress.value = part;
        if (part === 1) {
          progress.removeAttribute("value"); // sent; how long the answer takes is unknown
          doing.textContent = t("classifying", { name });
        }
      });
    } catch (failure) {
      if (!failure.isBusy || attempt === TRIES) throw failure;
      doing.textContent = t("busy");
      await pause(failure.waitMs(attempt));
    }
  }
}

function show(file, ...contents) {
  const preview = make("img", { alt: file.name || "", src: URL.createObjectURL(file) });
  preview.onload = () => URL.revokeObjectURL(preview.src);
  preview.onerror = () => { // a browser that does not show such a file, as most do an HEIC
    URL.revokeObjectURL(preview.src);
    preview.replaceWith(make("span", { className: "no-preview" }, (file.name || "").split(".").slice(1).pop() || "?"));
  };
  $("answers").prepend(make("article", { className: "answer" }, preview, make("div", {}, ...contents)));
  while ($("answers").children.length > 6) $("answers").lastElementChild.remove();
}

let queue = Promise.resolve();

function askAll(files) {
  for (const file of files) { // of any type: the answer to what is no photo says what it is
    queue = queue.then(async () => {
      $("asking").hidden = false;
      try {
        if (file.size > MAX_BYTES) throw new Error(t("too_large", { name: file.name }));
        const answer = await ask(file);
        const { total, inference } = answer.latency_ms;
        const list = make("ol", { className: "bars" });
        bars(list, answer.top);
        const times = t(answer.cached ? "remembered" : "took", { total: total.toFixed(0), inference: inference.toFixed(0) });
        show(file, list, make("p", { className: "range" }, times));
      } catch (error) {
        show(file, make("p", { className: "wrong" }, t("failed", { why: error.reason ?? error.message })));
      }
      $("asking").hidden = true;
    });
  }
}

/** Accept files from the input, the clipboard and drops anywhere on the page. */
export function listen() {
  const drop = $("drop"), input = $("file");
  input.addEventListener("change", () => { askAll(input.files); input.value = ""; });
  document.addEventListener("paste", (event) => askAll(event.clipboardData?.files ?? []));
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    askAll(event.dataTransfer?.files ?? []);
  });
}
