// The rules: state, error with its place, what they moved, who edited them.
import { h, get, table, tag, ago, count, link, setQuery } from "./lib.js";

const order = ["broken", "stale", "new", "ok", "disabled"];

export async function load(state, signal) {
  state.list = await get("rules", signal);
}

export const ruleError = (r) => [
  r.error && h("span", { class: "said" }, r.place && h("code", {}, r.place), r.place && " ", r.error),
  !r.error && r.last_failure && h("span", { class: "said quiet" }, r.last_failure),
  !r.error && (r.warnings ?? "").split("\n").filter(Boolean).map((w) => h("span", { class: "said quiet" }, w.replace(/^sync_control id=\d+ /, ""))),
];

export function show(state, { status: st }) {
  const q = state.query, l = state.list;
  const text = (q.get("q") ?? "").toLowerCase(), id = Number(q.get("id") ?? 0);
  const rows = (l?.rows ?? []).filter((r) => (!id || r.id === id) && (!q.get("state") || r.state === q.get("state")) && `${r.sync_table} ${r.sync_point_no} ${r.updated_by ?? ""}`.toLowerCase().includes(text))
    .sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || a.id - b.id);
  const pick = (value) => h("option", { value, selected: (q.get("state") ?? "") === value }, value ? `${value} (${count(st?.rules[value] ?? 0)})` : "every state");
  return [h("h1", {}, "Rules", l && h("small", {}, rows.length === l.total ? count(l.total) : `${count(rows.length)} of ${count(l.total)}`)),
    h("form", { class: "filter", role: "search", onsubmit: (e) => e.preventDefault() },
      h("input", { type: "search", placeholder: "Table, point or editor", "aria-label": "Search rules", value: q.get("q") ?? "", oninput: (e) => setQuery({ q: e.target.value, id: "" }) }),
      h("select", { "aria-label": "State", onchange: (e) => setQuery({ state: e.target.value, id: "" }) }, ["", ...order].map(pick)),
      id > 0 && h("a", { href: "#/rules" }, "all rules")),
    l ? table([
      { name: "Id", n: true, cell: (r) => h("a", { href: link(["rules"], { id: r.id }) }, r.id) },
      { name: "Table", cell: (r) => r.sync_table },
      { name: "Direction", cell: (r) => r.sync_type },
      { name: "Side", cell: (r) => r.sync_user },
      { name: "Point", cell: (r) => (r.sync_point_no === "*" ? "every point" : h("a", { href: link(["points", r.sync_point_no]) }, r.sync_point_no)) },
      { name: "State", cell: (r) => tag(r.state) },
      { name: "Rows moved", n: true, cell: (r) => count(r.rows_moved) },
      { name: "Failures", n: true, cell: (r) => count(r.failures) },
      { name: "Last run", cell: (r) => ago(r.last_run) },
      { name: "Edited", cell: (r) => [ago(r.updated_at, "–"), r.updated_by && h("span", { class: "quiet" }, " by ", r.updated_by)] },
      { name: "Problem", wide: true, cell: ruleError },
    ], rows.slice(0, 500), { caption: "Rules", empty: l.total ? "No rule is like that." : l.unknown ? "The rules are not known now." : "sync_control has no rows yet. 'syncgate rules init TABLE' writes some." })
      : h("p", { class: "quiet" }, "Loading…"),
    rows.length > 500 && h("p", { class: "quiet" }, `The first 500 of ${count(rows.length)}. The search finds the others.`)];
}
