// The points: a list that is searched, sorted and paged by the server, and the page of one point.
import { h, get, post, table, tag, ago, count, span, bytes, plural, link, setQuery, action } from "./lib.js";
import { follow, line } from "./log.js";
import { ruleError } from "./rules.js";

const pageSize = 100;
const stateWords = { connected: "connected", away: "away", silent: "silent", new: "never connected", revoked: "revoked", trouble: "in trouble" };

export async function load(state, signal) {
  if (state.path[1] != null) {
    state.point = await get("points/" + encodeURIComponent(state.path[1]), signal);
    return;
  }
  const q = new URLSearchParams(state.query);
  q.set("limit", pageSize);
  state.list = await get("points?" + q, signal);
}

export function enter(state, shared, signal) {
  if (state.path[1] == null || state.log) return;
  state.log = follow("synclog", { point: state.path[1], limit: 50 }, () => shared.render(), 200);
}

export function leave(state) {
  state.log?.close();
}

export function show(state, shared) {
  return state.path[1] != null ? one(state, shared) : list(state, shared);
}

function list(state, { status: st }) {
  const q = state.query, l = state.list;
  const offset = Number(q.get("offset") ?? 0);
  let wait;
  const search = (e) => {
    const value = e.target.value;
    clearTimeout(wait);
    wait = setTimeout(() => setQuery({ q: value, offset: "" }), 150);
  };
  const pick = (value) => h("option", { value, selected: (q.get("state") ?? "") === value }, value ? `${stateWords[value]} (${count(st?.points[value] ?? 0)})` : "every state");
  return [h("h1", {}, "Points", l && h("small", {}, l.matched === l.total ? count(l.total) : `${count(l.matched)} of ${count(l.total)}`)),
    h("form", { class: "filter", role: "search", onsubmit: (e) => e.preventDefault() },
      h("input", { type: "search", placeholder: "Name, note or address", "aria-label": "Search points", value: q.get("q") ?? "", oninput: search }),
      h("select", { "aria-label": "State", onchange: (e) => setQuery({ state: e.target.value, offset: "" }) }, ["", "trouble", "silent", "new", "away", "connected", "revoked"].map(pick))),
    l ? table([
      { name: "Point", sort: "point", cell: (p) => h("a", { class: "name", href: link(["points", p.point]) }, p.point) },
      { name: "State", sort: "state", cell: pointTag },
      { name: "Last seen", sort: "seen", cell: (p) => ago(p.seen) },
      { name: "Lag", sort: "lag", n: true, cell: (p) => (p.report ? span(p.report.lag_ms / 1000) : none(p)) },
      { name: "Backlog", sort: "backlog", n: true, cell: (p) => (p.report ? count(p.report.backlog_rows) : none(p)) },
      { name: "Rows up", sort: "rows_up", n: true, cell: (p) => count(p.rows_up) },
      { name: "Rows down", sort: "rows_down", n: true, cell: (p) => count(p.rows_down) },
      { name: "Version", sort: "version", cell: (p) => (p.report ? short(p.report.software) : none(p)) },
      { name: "Wire", sort: "wire", cell: (p) => ({ modern: "v2", legacy: "v1" })[p.last_wire] ?? "" },
      { name: "Note", wide: true, cell: (p) => h("span", { class: "quiet" }, p.note) },
    ], l.rows, {
      caption: "Points", sort: q.get("sort") ?? "point", desc: q.get("desc") === "1",
      onsort: (sort, desc) => setQuery({ sort, desc: desc ? "1" : "", offset: "" }),
      empty: l.total ? "No point is like that. Change the search, or choose every state." : l.unknown ? "The points are not known now." : "No point is enrolled. 'syncgate point add NAME' enrols one.",
    }) : h("p", { class: "quiet" }, "Loading…"),
    l && l.matched > pageSize && h("nav", { class: "pages", "aria-label": "Pages" },
      h("button", { disabled: offset === 0, onclick: () => setQuery({ offset: Math.max(0, offset - pageSize) || "" }) }, "Before"),
      h("span", {}, `${count(offset + 1)} to ${count(Math.min(offset + pageSize, l.matched))} of ${count(l.matched)}`),
      h("button", { disabled: offset + pageSize >= l.matched, onclick: () => setQuery({ offset: offset + pageSize }) }, "Next"))];
}

// short is a program's name and version without the commit that it was built from.
const short = (software) => software.replace(/^syncgate-agent[ /]/, "").replace(/ \(.*/, "");
const none = (p) => h("span", { class: "quiet", title: p.connections ? "The agent is older and reports nothing, or has not reported yet." : null }, "–");
const pointTag = (p) => tag({ connected: "good", away: "off", silent: "bad", new: "off", revoked: "off", trouble: "warn" }[p.state] ?? "off", stateWords[p.state] ?? p.state);

function one(state, shared) {
  const p = state.point;
  const title = h("h1", {}, h("a", { class: "up", href: "#/points" }, "Points"), state.path[1], p && h("small", {}, pointTag(p)));
  if (!p) return [title, h("p", { class: "none" }, shared.error ?? "Loading…")];
  const fact = (name, value) => value != null && value !== "" && value !== false && h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const r = p.report;
  return [title,
    h("dl", { class: "facts" },
      fact("Last seen", p.connections ? "now" : ago(p.seen)),
      fact("Connections", p.connections ? `${p.connections}, from ${p.remote}` : "none"),
      fact("Wire", { modern: "v2", legacy: "v1, the original's" }[p.last_wire]),
      fact("Agent", r?.software || (p.connections ? "reports nothing" : null)),
      fact("Database", r?.database),
      fact("Lag", r && (r.lag_ms ? span(r.lag_ms / 1000) : "none")),
      fact("Backlog", r && `${plural(r.backlog_rows, "row")}, ${bytes(r.backlog_bytes)}`),
      fact("Clock", r && (Math.abs(r.clock_ahead_ms) < 2000 ? "right" : `${span(Math.abs(r.clock_ahead_ms) / 1000)} ${r.clock_ahead_ms > 0 ? "ahead" : "behind"}`)),
      fact("Free disk", r?.disk_free && bytes(r.disk_free)),
      fact("Memory", r?.memory && bytes(r.memory)),
      fact("Reported", r && ago(r.reported_at)),
      fact("Rows since the start", `${count(p.rows_up)} up, ${count(p.rows_down)} down`),
      fact("Keys", p.keys?.filter((k) => !k.revoked_at).map((k) => k.id).join(", ")),
      fact("Note", p.note)),
    p.failure && h("p", { class: "none" }, tag("bad", p.failure.code), " ", ago(p.failure.at), p.failure.table && ` at ${p.failure.table}: `, p.failure.message),
    h("h2", {}, "Tables"), tables(state, shared),
    state.run && run(state),
    h("p", {}, h("a", { href: link(["quarantine"], { point: p.point }) }, "Rows of this point in quarantine"), r?.quarantined > 0 && `, and ${plural(r.quarantined, "row")} in the point's own ('syncgate-agent quarantine list' there)`),
    h("h2", {}, "Log", h("a", { class: "more", href: link(["log"], { point: p.point }) }, "Whole log")),
    state.log?.lines.length ? h("div", { role: "log", "aria-live": "off" }, h("ol", { class: "lines" }, state.log.lines.map((l) => line(l, true)))) : h("p", { class: "none" }, "Nothing moved or failed yet.")];
}

// pairs are the tables and directions of a point: the rules of both sides, and what the point reports of each.
function pairs(p) {
  const all = new Map();
  const of = (table, direction) => {
    const key = JSON.stringify([table, direction]);
    if (!all.has(key)) all.set(key, { table, direction, rules: [] });
    return all.get(key);
  };
  for (const r of p.rules ?? []) of(r.sync_table, r.sync_type).rules.push(r);
  for (const r of p.reported?.rules ?? []) of(r.table, r.direction).there = r;
  return [...all.values()];
}

const worst = ["broken", "stale", "failing", "new", "disabled"];

function tables(state, shared) {
  const p = state.point;
  const may = shared.status?.actions && p.connections > 0 && !state.running;
  const back = (ms) => ms && new Date(Date.now() - ms).toISOString();
  return table([
    { name: "Table", cell: (t) => (t.rules.length ? h("a", { href: link(["rules"], { id: t.rules[0].id }) }, t.table) : t.table) },
    { name: "Direction", cell: (t) => t.direction },
    { name: "State", cell: (t) => tag(worst.find((w) => t.there?.state === w || t.rules.some((r) => r.state === w)) ?? "ok") },
    { name: "Lag", n: true, cell: (t) => (t.there ? (t.there.lag_ms ? span(t.there.lag_ms / 1000) : "none") : "–") },
    { name: "Backlog", n: true, cell: (t) => (t.there ? count(t.there.backlog_rows) : "–") },
    { name: "Quarantined", n: true, cell: (t) => (t.there ? count(t.there.quarantined) : "–") },
    { name: "Rows", n: true, cell: (t) => count(t.there?.moved ?? t.rules[0]?.rows_moved) },
    { name: "Last success", cell: (t) => ago(t.there ? back(t.there.succeeded_ms) : t.rules[0]?.last_run) },
    { name: "Problem", wide: true, cell: (t) => [t.there?.text && h("span", { class: "said" }, `At the point: ${[t.there.code, t.there.text].filter(Boolean).join(" ")}`, t.there.failing_ms && h("span", { class: "quiet" }, ` for ${span(t.there.failing_ms / 1000)}`)), t.rules.map(ruleError)] },
    { name: "", cell: (t) => action(state.running === t.table + t.direction ? "Running…" : "Sync now", may, () => sync(state, t, shared), { "aria-label": `Sync now: ${t.direction} of ${t.table}`, ...(p.connections ? {} : { title: "The point is not connected." }) }) },
  ], pairs(p), { caption: "Tables of this point", empty: "No rule of sync_control concerns this point." });
}

async function sync(state, t, shared) {
  state.running = t.table + t.direction;
  state.run = { of: t, lines: [] };
  shared.render();
  try {
    await post("sync-now", { point: state.path[1], table: t.table, direction: t.direction }, (l) => { state.run.lines.push(l); shared.render(); });
  } catch (err) {
    state.run.error = err.message;
  }
  state.running = null;
  shared.refresh();
}

// run shows the lines of a run that this page has asked for.
function run(state) {
  const { of: t, lines, error } = state.run;
  return h("section", { class: "run", role: "log", "aria-label": "Run" }, h("h3", {}, `${t.direction} of ${t.table}`),
    h("ol", {}, lines.map((l) => h("li", { class: l.status ? "failed" : null }, l.text))),
    error && h("p", { class: "alarm" }, error),
    !state.running && !error && h("p", { class: "quiet" }, "Done."));
}
