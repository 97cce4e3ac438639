// Photos that are dropped, pasted or chosen: sent to /predict one at a time, with progress.

import { bars } from "./bars.js";
import { $, make, pause } from "./dom.js";
import { t } from "./words.js";

const MAX_BYTES = 12 << 20;
const TRIES = 5;

function send(file, onProgress) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch reports no upload progress
    request.open("POST", "/predict");
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => resolve({ status: request.status, body: request.response, retryAfter: Number(request.getResponseHeader("Retry-After")) });
    request.onerror = () => resolve({ status: 0 });
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}

async function ask(file) {
  const name = file.name || "photo";
  const progress = $("progress"), doing = $("doing");
  for (let attempt = 0; attempt < TRIES; attempt++) {
    doing.textContent = t("uploading", { name });
    progress.value = 0;
    const { status, body, retryAfter } = await send(file, (part) => {
      progress.value = part;
      if (part === 1) {
        progress.removeAttribute("value"); // sent; how long the answer takes is unknown
        doing.textContent = t("classifying", { name });
      }
    });
    if (status === 429) {
      doing.textContent = t("busy");
      await pause((retryAfter || 1) * 1000);
      continue;
    }
    if (status === 200) return body;
    throw new Error(status === 0 ? t("unreachable") : (body?.detail ?? String(status)));
  }
  throw new Error(t("busy"));
}

function show(file, ...contents) {
  const preview = make("img", { alt: file.name || "", src: URL.createObjectURL(file) });
  preview.onload = () => URL.revokeObjectURL(preview.src);
  $("answers").prepend(make("article", { className: "answer" }, preview, make("div", {}, ...contents)));
  while ($("answers").children.length > 6) $("answers").lastElementChild.remove();
}

let queue = Promise.resolve();

function askAll(files) {
  for (const file of [...files].filter((one) => one.type.startsWith("image/") || !one.type)) {
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
        show(file, make("p", { className: "wrong" }, t("failed", { why: error.message })));
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
