// Labels with their confidence as bars.

import { make } from "./dom.js";

/** Show [{label, confidence}] in a list; existing items are reused, so that the bars animate. */
export function bars(list, top) {
  while (list.children.length > top.length) list.lastElementChild.remove();
  for (const [i, { label, confidence }] of top.entries()) {
    if (!list.children[i]) {
      const bar = make("i", {});
      bar.setAttribute("aria-hidden", "true");
      list.append(make("li", {}, make("span", { className: "name" }), make("span", { className: "value" }), bar));
    }
    const [name, value, bar] = list.children[i].children;
    if (name.textContent !== label) name.textContent = label;
    value.textContent = `${confidence.toFixed(1)} %`;
    bar.style.setProperty("--part", `${Math.max(0.5, confidence)}%`);
  }
}
