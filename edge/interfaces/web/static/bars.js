// Labels with their confidence as bars.

/** Show [{label, confidence}] in a list; existing items are reused, so that the bars animate. */
export function bars(list, top) {
  while (list.children.length > top.length) list.lastElementChild.remove();
  for (const [i, { label, confidence }] of top.entries()) {
    let item = list.children[i];
    if (!item) {
      item = document.createElement("li");
      const name = document.createElement("span"), value = document.createElement("span"), bar = document.createElement("i");
      name.className = "name";
      value.className = "value";
      bar.setAttribute("aria-hidden", "true");
      item.append(name, value, bar);
      list.append(item);
    }
    const [name, value, bar] = item.children;
    if (name.textContent !== label) name.textContent = label;
    value.textContent = `${confidence.toFixed(1)} %`;
    bar.style.setProperty("--part", `${Math.max(0.5, confidence)}%`);
  }
}
