// Every text of the page, in English and Chinese; t() fills in {name}.

const WORDS = {
  en: {
    other: "中文", skip: "Skip to the live view", connecting: "connecting …", connected: "live",
    reconnecting: "reconnecting …", crowded: "busy …", live: "Live view", waiting: "Waiting for the camera …",
    picture: "What the camera sees: {label}", state: "State", ask: "Ask about a photo",
    drop: "Drop, paste or choose a photo", hour: "The last hour", ago60: "60 min ago", ago30: "30 min", now: "now",
    latency: "Inference", heat: "Temperature", model: "Model", log: "Log", api: "API", metrics: "metrics",
    unknown: "unknown",
    camera_online: "The camera delivers; {rate} frames/s are classified.", camera_waiting: "Waiting for the camera.",
    camera_away: "The camera is away", camera_ended: "The source has ended.", broker_online: "The broker is connected; {n} events published.",
    broker_offline: "The broker is away; events wait on disk.", disk_empty: "Nothing waits on disk.",
    disk_some: "{n} events wait on disk ({kb} kB).", disk_lost: "{n} events were dropped because the log was full.",
    board_fine: "{board}The clock is set.", board_clock: "{board}The clock is not set yet.",
    board_throttled: "{board}It runs slower: heat or too little power.",
    overridden: "{changed}: set by a request, until the next reload.",
    uploading: "Sending {name} …", classifying: "Classifying {name} …", busy: "The box is busy; trying again …",
    took: "{total} ms in all, {inference} ms inference", remembered: "{total} ms, from the cache",
    failed: "This did not work: {why}", unreachable: "The box does not answer.",
    too_many: "The box is busy with other requests.", overloaded: "The box cannot answer at the moment.",
    logged_out: "The token has changed; log in again.", wrong_token: "This is not the token.",
    too_big: "This is larger than the box or its proxy accepts.", proxy_only: "The proxy answers, but not the box behind it.",
    faulty: "The box failed because of a fault in it; its log has the details.", answered: "The box answered with status {status}.",
    too_large: "{name} is larger than 12 MB.",
    no_data: "no data yet", range: "{min} to {max} {unit} in the last hour", share: "{percent} %",
    timeline: "Labels of the last hour: {list}", name: "name", engine: "engine", checksum: "SHA-256 of {name}", weights: "weights",
    classes: "classes", agreement: "agrees with FP32", on_photos: "{top1} % of {photos} photos",
    on_shipped: "{top1} % of {photos} views of shipped photos",
    on_both: "{top1} % of {photos} photos and views of shipped ones",
  },
  zh: {
    other: "English", skip: "跳到实时画面", connecting: "正在连接 …", connected: "实时",
    reconnecting: "正在重新连接 …", crowded: "繁忙 …", live: "实时画面", waiting: "等待摄像头 …",
    picture: "摄像头画面：{label}", state: "状态", ask: "识别一张照片",
    drop: "拖放、粘贴或选择照片", hour: "最近一小时", ago60: "60 分钟前", ago30: "30 分钟", now: "现在",
    latency: "推理", heat: "温度", model: "模型", log: "日志", api: "接口", metrics: "指标",
    unknown: "未知",
    camera_online: "摄像头正常；每秒识别 {rate} 帧。", camera_waiting: "等待摄像头。",
    camera_away: "摄像头离线", camera_ended: "视频源已结束。", broker_online: "已连接 MQTT 服务器；已发布 {n} 个事件。",
    broker_offline: "MQTT 服务器离线；事件暂存于磁盘。", disk_empty: "磁盘上没有等待的事件。",
    disk_some: "{n} 个事件在磁盘上等待（{kb} kB）。", disk_lost: "日志已满，丢弃了 {n} 个事件。",
    board_fine: "{board}时钟已同步。", board_clock: "{board}时钟尚未同步。",
    board_throttled: "{board}因过热或供电不足而降速。",
    overridden: "{changed}：由请求设置，下次重新加载前有效。",
    uploading: "正在发送 {name} …", classifying: "正在识别 {name} …", busy: "设备繁忙，正在重试 …",
    took: "共 {total} 毫秒，推理 {inference} 毫秒", remembered: "{total} 毫秒，来自缓存",
    failed: "操作失败：{why}", unreachable: "设备没有响应。",
    too_many: "设备正忙于其他请求。", overloaded: "设备暂时无法响应。",
    logged_out: "令牌已更改，请重新登录。", wrong_token: "令牌不正确。",
    too_big: "超过了设备或代理服务器允许的大小。", proxy_only: "代理服务器有响应，但其后的设备没有。",
    faulty: "设备因内部故障未能响应，详情见其日志。", answered: "设备返回了状态码 {status}。",
    too_large: "{name} 超过 12 MB。",
    no_data: "暂无数据", range: "最近一小时 {min} 至 {max} {unit}", share: "{percent} %",
    timeline: "最近一小时的标签：{list}", name: "名称", engine: "引擎", checksum: "{name} 的 SHA-256", weights: "权重",
    classes: "类别数", agreement: "与 FP32 一致", on_photos: "{photos} 张照片的 {top1} %",
    on_shipped: "{photos} 张自带照片视图的 {top1} %",
    on_both: "{photos} 张照片及自带照片视图的 {top1} %",
  },
};

function stored() {
  try { return localStorage.getItem("language"); } catch { return null; }
}

let language = stored() ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
if (!(language in WORDS)) language = "en";

/** One phrase in the chosen language. */
export function t(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Show every element that has data-t in the chosen language. */
export function translate() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  const button = document.getElementById("language");
  button.textContent = t("other");
  button.lang = language === "en" ? "zh" : "en";
}

/** Switch to the other language. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  try { localStorage.setItem("language", language); } catch { /* private mode: kept until the page is closed */ }
  translate();
}
