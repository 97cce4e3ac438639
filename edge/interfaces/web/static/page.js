// The page: shows server-sent events, the newest frame and the last hour.

import { bars } from "./bars.js";
import { $, make, pause } from "./dom.js";
import { listen } from "./photos.js";
import { colourOf, drawLine, drawTimeline } from "./plots.js";
import { switchLanguage, t, translate } from "./words.js";

const PICTURE_EVERY_MS = 150, NO_PICTURE_WAIT_MS = 2000, HISTORY_EVERY_MS = 10_000, RECONNECT_MS = 3000;
const KEPT_LINES = 100;
const seen = { status: null, label: "", top: [], history: { points: [], states: [], away: [] }, model: null, link: "connecting" };

// --- state ---

function showState(id, mood, text) {
  const item = $(id);
  item.dataset.mood = mood;
  if (item.textContent !== text) item.textContent = text;
}

function showStatus() {
  const s = seen.status;
  if (!s) return;
  $("device").textContent = s.device ?? "edge-classifier";
  document.title = `${(seen.top.length && seen.label) || "…"} · ${s.device ?? ""}`;
  $("version").textContent = `edge-classifier ${s.version ?? ""}`;
  const rate = (s.frames_per_s ?? 0).toFixed(1);
  if (s.camera === "online") showState("camera", "good", t("camera_online", { rate }));
  else if (s.camera === "ended") showState("camera", "fair", t("camera_ended"));
  else showState("camera", "bad", s.camera_error || t("camera_waiting"));
  const notes = [s.discovery_error, s.unheard, s.broker_limits].filter(Boolean).map((note) => ` ${note}`).join("");
  if (s.broker === "online") showState("broker", "good", t("broker_online", { n: s.events_published ?? 0 }) + notes);
  else showState("broker", "bad", s.broker_error ? `${t("broker_offline")} ${s.broker_error}` : t("broker_offline"));
  if (s.log_error) showState("disk", "bad", s.log_error);
  else if (s.events_dropped) showState("disk", "bad", t("disk_lost", { n: s.events_dropped }));
  else if (s.log_depth) showState("disk", "fair", t("disk_some", { n: s.log_depth, kb: Math.ceil((s.log_bytes ?? 0) / 1000) }));
  else showState("disk", "good", t("disk_empty"));
  $("heat-card").hidden = s.temperature_celsius == null; // not every board has a sensor
  const board = s.board ? `${s.board}. ` : "";
  if (s.throttled || s.under_voltage) showState("board", "bad", t("board_throttled", { board }));
  else if (s.time_synced === false) showState("board", "fair", t("board_clock", { board }));
  else showState("board", "good", t("board_fine", { board }));
  const changed = Object.entries(s.overrides ?? {}).map(([key, value]) => `${key} = ${value}`).join(", ");
  $("overrides").hidden = !changed;
  showState("overrides", "fair", changed && t("overridden", { changed }));
}

function showLink(state) {
  seen.link = state;
  $("link").dataset.state = state;
  $("link").firstElementChild.textContent = t(state);
}

function whyNoLabel() {
  if (seen.link === "reconnecting") return t("unreachable");
  if (seen.status?.camera === "ended") return t("camera_ended");
  return seen.status && seen.status.camera !== "online" ? t("camera_away") : "–";
}

function showLabel() {
  const { label, top } = seen;
  bars($("top"), top);
  const text = (top.length && (label === "unknown" ? t("unknown") : label)) || whyNoLabel();
  if ($("label").textContent !== text) $("label").textContent = text;
  $("picture").alt = t("picture", { label: text });
  showStatus();
}

// --- the last hour ---

function showHistory() {
  const { points, states, away } = seen.history;
  const shares = drawTimeline($("timeline"), states, away);
  $("timeline").setAttribute("aria-label", t("timeline", { list: shares.map(([label, part]) => `${label} ${Math.round(part * 100)} %`).join(", ") }));
  $("shares").replaceChildren(...shares.slice(0, 8).map(([label, part]) => {
    const percent = t("share", { percent: Math.round(part * 100) });
    const item = make("li", {}, `${label === "unknown" ? t("unknown") : label} ${percent}`);
    item.dataset.colour = colourOf(label);
    return item;
  }));
  const latency = drawLine($("latency"), $("latency-range"), points, "inference_ms", "ms");
  $("latency-now").textContent = latency === null ? "" : `${latency.toFixed(1)} ms`;
  const heat = drawLine($("heat"), $("heat-range"), points, "temperature_celsius", "°C");
  $("heat-now").textContent = heat === null ? "" : `${heat.toFixed(1)} °C`;
}

async function fetchHistory() {
  try {
    const response = await fetch("/api/history");
    if (response.ok) seen.history = await response.json();
  } catch { /* the event stream shows that the box is unreachable */ }
  showHistory();
}

// --- the model ---

async function fetchModel() {
  const response = await fetch("/api/model").catch(() => null);
  if (response?.ok) seen.model = await response.json();
  showModel();
}

function showModel() {
  const m = seen.model;
  if (!m) return;
  const rows = [["name", m.name], ["checksum", m.files?.["model.ts"]], ["weights", m.weights?.source], ["classes", m.classes]];
  if (m.agreement) rows.push(["agreement", t(`on_${m.agreement.on}`, m.agreement)]);
  const known = rows.filter(([, value]) => value);
  $("model").replaceChildren(...known.flatMap(([key, value]) => [make("dt", {}, t(key)), make("dd", {}, value)]));
}

// --- the log ---

function addLine({ time, level, text }) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  const when = make("time", { dateTime: time }, new Date(time).toLocaleTimeString());
  const item = make("li", {}, when, ` ${text}`);
  item.dataset.level = level;
  log.append(item);
  while (log.children.length > KEPT_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// --- server-sent events and pictures ---

function connect() {
  const stream = new EventSource("/api/stream");
  const on = (kind, handle) => stream.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  stream.onopen = () => {
    $("log").replaceChildren(); // the stream begins with the last lines
    showLink("connected");
    fetchHistory();
    fetch("/api/latest").then((r) => (r.ok ? r.json() : null)).then((e) => { if (e) { seen.label = e.label; showLabel(); } }).catch(() => {});
  };
  stream.onerror = () => {
    showLink("reconnecting");
    seen.top = [];
    showLabel();
    if (stream.readyState !== EventSource.CLOSED) return; // the browser reconnects
    setTimeout(connect, RECONNECT_MS);
  };
  on("top", ({ top }) => { seen.top = top; showLabel(); }); // empty while the camera is away
  on("status", (status) => {
    if (seen.model && status.model && status.model !== seen.model.name) fetchModel(); // another model is in use
    seen.status = status;
    showLabel();
  });
  on("event", (event) => {
    seen.label = event.label;
    showLabel();
    if (event.reason === "change") { seen.history.states.push(event); showHistory(); }
  });
  on("log", addLine);
}

async function watch() {
  const picture = $("picture");
  let shown = "";
  for (;;) {
    if (document.hidden) { await pause(500); continue; }
    const response = await fetch("/snapshot.jpg").catch(() => null);
    if (response?.status === 401) { location.assign("/login"); return; }
    const works = response?.ok ?? false;
    if (works) {
      const url = URL.createObjectURL(await response.blob());
      picture.src = url;
      await picture.decode().catch(() => {});
      if (shown) URL.revokeObjectURL(shown);
      shown = url;
    }
    picture.hidden = !works;
    $("no-picture").hidden = works;
    await pause(works ? PICTURE_EVERY_MS : NO_PICTURE_WAIT_MS);
  }
}

$("language").addEventListener("click", () => {
  switchLanguage();
  showLink(seen.link);
  showLabel();
  showHistory();
  showModel();
});
translate();
listen();
connect();
watch();
fetchModel();
setInterval(() => document.hidden || fetchHistory(), HISTORY_EVERY_MS);
