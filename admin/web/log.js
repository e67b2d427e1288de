// The live log: what moved and what failed, or the server's own lines, as they are written.
import { h, clock, day, count, tag, link, plural, setQuery, seconds } from "./lib.js";

// follow keeps the last lines of a stream, the newest first. The browser comes again after a break, with the id of the
// last line it has, and misses nothing that the server keeps.
export function follow(stream, query, changed, most = 500) {
  const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v));
  const source = new EventSource(`/api/${stream}?${q}`);
  const log = { lines: [], held: [], paused: false, open: false, close: () => source.close() };
  let queued = false;
  const tell = () => {
    if (queued) return;
    queued = true;
    setTimeout(() => { queued = false; changed(); }, 50); // one drawing for many lines
  };
  source.onopen = () => { log.open = true; tell(); };
  source.onerror = () => { log.open = false; tell(); };
  source.onmessage = (e) => {
    const to = log.paused ? log.held : log.lines;
    to.unshift(JSON.parse(e.data));
    if (to.length > most) to.length = most;
    tell();
  };
  log.pause = (on) => {
    log.paused = on;
    if (!on) { log.lines = [...log.held, ...log.lines].slice(0, most); log.held = []; }
    changed();
  };
  return log;
}

// line shows a line of sync_log.
export function line(l, ofPoint = false) {
  const moved = l.batches > 0;
  return h("li", { class: l.status ? "failed" : null },
    h("time", { class: "when", datetime: l.at, title: day(l.at) }, clock(l.at)),
    l.status ? tag("bad", "SG" + String(l.status).padStart(4, "0")) : tag("good", moved ? l.type : "run"),
    !ofPoint && h("a", { href: link(["points", l.point]) }, l.point),
    h("b", {}, l.table),
    h("span", { class: "said" }, [moved && (l.rows || !l.status) && `${plural(l.rows, "row")} in ${plural(l.batches, "request")}, ${seconds(l.ms / 1000)}`, l.text].filter(Boolean).join(" · ")));
}

// serverLine shows a line of the server's own log.
function serverLine(l) {
  const { level, time, message, point, ...rest } = l;
  const more = Object.entries(rest).map(([k, v]) => `${k}=${typeof v === "object" ? JSON.stringify(v) : v}`).join(" ");
  const mark = { warn: "warn", error: "bad", fatal: "bad", panic: "bad" }[level] ?? "off";
  return h("li", { class: mark === "bad" ? "failed" : null }, h("time", { class: "when", title: time && day(time) }, time ? clock(time) : ""), tag(mark, level ?? ""),
    point && h("a", { href: link(["points", point]) }, point), h("b", {}, message), h("span", { class: "said quiet" }, more));
}

export const load = async () => {};

export function enter(state, shared) {
  const q = state.query;
  const key = q.toString();
  if (state.log && state.of === key) return;
  state.log?.close();
  state.of = key;
  const server = q.get("of") === "server";
  const wanted = server ? { point: q.get("point"), q: q.get("q"), level: q.get("level") } : { point: q.get("point"), table: q.get("table"), failed: q.get("failed") };
  state.log = follow(server ? "log" : "synclog", wanted, () => shared.render());
}

export function leave(state) {
  state.log?.close();
}

export function show(state) {
  const q = state.query, log = state.log, server = q.get("of") === "server";
  let wait;
  const input = (name, text) => h("input", { type: "search", placeholder: text, "aria-label": text, value: q.get(name) ?? "", oninput: (e) => { const v = e.target.value; clearTimeout(wait); wait = setTimeout(() => setQuery({ [name]: v.trim() }), 250); } });
  const choose = (name, label, options) => h("select", { "aria-label": label, onchange: (e) => setQuery({ [name]: e.target.value }) }, options.map(([value, text]) => h("option", { value, selected: (q.get(name) ?? "") === value }, text)));
  return [h("h1", {}, "Log", h("small", {}, log.open ? (log.paused ? `paused, ${count(log.held.length)} more` : "live") : "connecting…")),
    h("form", { class: "filter", onsubmit: (e) => e.preventDefault() },
      choose("of", "Which log", [["", "What moved and failed"], ["server", "The server's own log"]]),
      input("point", "Point"), server ? input("q", "Text") : input("table", "Table"),
      server ? choose("level", "Level", [["", "every level"], ["info", "info and above"], ["warn", "warnings and errors"], ["error", "errors"]]) : choose("failed", "Outcome", [["", "every outcome"], ["1", "failures"]]),
      h("button", { type: "button", "aria-pressed": String(log.paused), onclick: () => log.pause(!log.paused) }, log.paused ? "Go on" : "Pause")),
    log.lines.length ? h("div", { role: "log", "aria-live": "off" }, h("ol", { class: "lines" }, log.lines.map((l) => (server ? serverLine(l) : line(l)))))
      : h("p", { class: "none" }, q.size > (server ? 1 : 0) ? "No line is like that. New ones appear here." : "No lines yet. New ones appear here.")];
}
