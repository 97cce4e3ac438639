// The page: shows server-sent events, the newest frame and the last hour.

import { bars } from "./bars.js";
import { $, make } from "./dom.js";
import { hangUp, receiveJson } from "./net.js";
import { listen } from "./photos.js";
import { watch } from "./picture.js";
import { colourOf, drawLine, drawTimeline } from "./plots.js";
import { follow } from "./stream.js";
import { isShown, watchTab } from "./tabs.js";
import { switchLanguage, t, translate } from "./words.js";

const HISTORY_EVERY_MS = 10_000;
const KEPT_LINES = 100;
const seen = { status: null, label: "", top: [], history: { points: [], states: [], away: [] }, model: null, link: "connecting", failure: null };

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

function showLink(state, failure = null) {
  Object.assign(seen, { link: state, failure });
  $("link").dataset.state = state;
  $("states").toggleAttribute("data-old", state !== "connected");
  $("link").firstElementChild.textContent = t(state);
}

function whyNoLabel() {
  if (seen.failure) return seen.failure.reason;
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

/** Add what the stream has brought, unless the history had it already. */
function addState(event) {
  const { states } = seen.history;
  if (event.reason === "change" && !states.some((state) => state.time === event.time)) states.push(event);
}

let since = []; // events that came while the history was on its way

async function fetchHistory() {
  const mine = since = [];
  const history = await receiveJson("/api/history").catch(() => null); // the event stream shows what is wrong
  if (mine !== since) return; // a newer request is on its way
  if (history) seen.history = history;
  since.forEach(addState);
  showHistory();
}

// --- the model ---

async function fetchModel() {
  seen.model = await receiveJson("/api/model").catch(() => seen.model);
  showModel();
}

function showModel() {
  const m = seen.model;
  if (!m) return;
  const file = m.files?.trunk ?? m.files?.model ?? {};
  const engine = [m.engine?.name, ...Object.values(m.engine?.options ?? {})].filter(Boolean).join(" ");
  const rows = [["name", m.name], ["engine", engine], ["checksum", file.sha256]];
  rows.push(["weights", m.weights?.source], ["classes", m.classes]);
  if (m.agreement) rows.push(["agreement", t(`on_${m.agreement.on}`, m.agreement)]);
  const known = rows.filter(([, value]) => value);
  $("model").replaceChildren(...known.flatMap(([key, value]) => [make("dt", {}, t(key, file)), make("dd", {}, value)]));
}

// --- the log ---

function addLine({ number, time, level, text }) {
  const log = $("log"), line = `${number} ${time}`;
  // Each stream begins with the last lines. Numbers begin again with each start of the daemon.
  if ([...log.children].some((item) => item.dataset.line === line)) return;
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  const when = make("time", { dateTime: time }, new Date(time).toLocaleTimeString());
  const item = make("li", {}, when, ` ${text}`);
  Object.assign(item.dataset, { level, line });
  log.append(item);
  while (log.children.length > KEPT_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// --- the event stream and the picture ---

async function fetchLatest() {
  const latest = await receiveJson("/api/latest").catch(() => null); // there may be none yet
  if (latest) seen.label = latest.label;
  showLabel();
}

let leaves = false;

function goToLogin() {
  if (!leaves) location.assign("/login"); // a second one would cancel the first
  leaves = true;
}

const stream = {
  opened() {
    showLink("connected");
    showLabel();
    fetchHistory();
    fetchLatest();
    fetchModel();
  },
  failed(failure) {
    if (failure.status === 401) goToLogin();
    showLink(failure.isBusy ? "crowded" : "reconnecting", failure);
    seen.top = [];
    showLabel();
  },
  on: {
    top({ top }) { seen.top = top; showLabel(); }, // empty while the camera is away
    status(status) {
      if (seen.status && status.version !== seen.status.version) location.reload(); // the box was upgraded, and has newer scripts
      if (status.model && status.model !== seen.model?.name) fetchModel(); // another one, or the first was lost
      seen.status = status;
      showLabel();
    },
    event(event) {
      seen.label = event.label;
      since.push(event);
      addState(event);
      showLabel();
      showHistory();
    },
    log: addLine,
  },
};

function showNoPicture(failure) {
  if (failure.status === 401) goToLogin();
  const camera = failure.status === 503 && seen.status?.camera !== "online";
  $("no-picture").textContent = camera ? t("waiting") : failure.reason;
}

watchTab({
  hidden() {
    hangUp();
    seen.top = []; // a label that is not followed would be out of date, in the tab's title too
    showLink("connecting");
    showLabel();
  },
  again() {
    leaves = false; // back from the login
    showLabel();
  },
});
$("language").addEventListener("click", () => {
  switchLanguage();
  showLink(seen.link, seen.failure);
  showLabel();
  showHistory();
  showModel();
});
translate();
listen();
follow("/api/stream", stream);
watch(showNoPicture);
setInterval(() => isShown() && fetchHistory(), HISTORY_EVERY_MS);
