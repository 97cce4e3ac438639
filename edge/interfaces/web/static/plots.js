// Small plots as SVG.

import { t } from "./words.js";

const HOUR_MS = 3_600_000;

function svg(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** One of eight colours, the same for a label every time. */
export function colourOf(label) {
  if (label === "unknown") return "none";
  let hash = 0;
  for (const character of label) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return String(hash % 8);
}

/** Draw one value of the last hour's points as a line; returns its newest value, or null. */
export function drawLine(element, note, points, key, unit) {
  const now = Date.now();
  const seen = points.filter((p) => p[key] !== null && p[key] !== undefined && now - p.time * 1000 < HOUR_MS);
  element.replaceChildren();
  element.toggleAttribute("hidden", !seen.length);
  if (!seen.length) {
    note.textContent = t("no_data");
    element.setAttribute("aria-label", t("no_data"));
    return null;
  }
  const values = seen.map((p) => p[key]);
  const low = Math.min(...values), high = Math.max(...values);
  const pad = Math.max((high - low) * 0.15, high * 0.02, 0.5);
  const x = (p) => (300 * (1 - (now - p.time * 1000) / HOUR_MS)).toFixed(1);
  const y = (p) => (86 - (80 * (p[key] - low + pad)) / (high - low + 2 * pad)).toFixed(1);
  const line = seen.map((p) => `${x(p)},${y(p)}`);
  const first = x(seen[0]), last = x(seen.at(-1));
  for (const level of [6, 46, 86]) element.append(svg("line", { x1: 0, x2: 300, y1: level, y2: level, class: "grid" }));
  element.append(svg("polygon", { points: `${first},90 ${line.join(" ")} ${last},90`, class: "area" }));
  element.append(svg("polyline", { points: line.join(" "), class: "line" }));
  const range = t("range", { min: low.toFixed(1), max: high.toFixed(1), unit });
  note.textContent = range;
  element.setAttribute("aria-label", range);
  return values.at(-1);
}

/** The parts of `from` to `to` outside the spans in `away`; spans are [from, to] in milliseconds, oldest first. */
function without(away, from, to) {
  const left = [];
  for (const [gone, back] of away) {
    if (back <= from) continue;
    if (gone >= to) break;
    if (gone > from) left.push([from, gone]);
    from = back;
  }
  if (from < to) left.push([from, to]);
  return left;
}

/** Draw the labels over time, with gaps where the camera was away; returns [label, share], longest first. */
export function drawTimeline(element, states, absences) {
  const now = Date.now(), began = now - HOUR_MS;
  const away = absences.map(({ since, until }) => [since * 1000, until === null ? now : until * 1000]);
  const spans = [];
  for (const [i, state] of states.entries()) {
    const from = Math.max(began, Date.parse(state.time));
    const to = Math.min(now, i + 1 < states.length ? Date.parse(states[i + 1].time) : now);
    for (const [begin, end] of without(away, from, to)) {
      const before = spans.at(-1);
      if (before?.label === state.label && before.to === begin) before.to = end;
      else spans.push({ label: state.label, from: begin, to: end });
    }
  }
  element.replaceChildren();
  const total = new Map();
  for (const { label, from, to } of spans) {
    const x = (600 * (from - began)) / HOUR_MS;
    const rect = svg("rect", { x, y: 0, width: Math.max(0.8, (600 * (to - from)) / HOUR_MS), height: 28, "data-colour": colourOf(label) });
    rect.append(svg("title", {}, `${label}, ${new Date(from).toLocaleTimeString()} – ${new Date(to).toLocaleTimeString()}`));
    element.append(rect);
    total.set(label, (total.get(label) ?? 0) + to - from);
  }
  const sum = [...total.values()].reduce((a, b) => a + b, 0) || 1;
  return [...total].sort((a, b) => b[1] - a[1]).map(([label, time]) => [label, time / sum]);
}
