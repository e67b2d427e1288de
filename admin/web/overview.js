// The first view: what needs a person, then how much moves and how fast.
import { h, get, lines, count, about, seconds, plural, ago, day, span, bytes, link, tag } from "./lib.js";
import { chart, bars } from "./chart.js";
import { line } from "./log.js";

export async function load(state, signal) {
  const now = Date.now();
  const jobs = [];
  if (!(now - state.at < 9000)) {
    jobs.push(get("history", signal).then((all) => { state.history = all; state.at = now; }));
  }
  jobs.push(get("points?sort=lag&limit=5", signal).then((l) => { state.slowest = l.rows; }));
  jobs.push(get("synclog?follow=0&limit=8", signal, lines).then((all) => { state.recent = all.reverse(); }));
  await Promise.all(jobs);
}

export function show(state, { status: st, render }) {
  if (!st) return h("p", { class: "quiet" }, "Loading…");
  return [problems(st), tiles(state, st), charts(state, render), latest(state), failures(st)];
}

function problems(st) {
  if (!st.problems.length) {
    return h("section", { class: "calm" }, h("h1", {}, "Nothing needs you"), h("p", {}, calm(st)));
  }
  return h("section", {}, h("h1", {}, st.problems.length === 1 ? "One thing needs you" : `${st.problems.length} things need you`),
    h("ul", { class: "problems" }, st.problems.map((p) => h("li", { class: p.severe ? "severe" : "mild" },
      h("h2", {}, p.link ? h("a", { href: p.link }, p.title) : p.title),
      p.items && h("ul", {}, p.items.map((i) => h("li", {}, i.link ? h("a", { href: i.link }, i.name) : h("b", {}, i.name),
        i.at && h("span", { class: "quiet" }, " for ", h("time", { datetime: i.at, title: day(i.at) }, span((Date.now() - new Date(i.at)) / 1000))), i.text && h("span", { class: "said" }, i.text)))),
      h("p", { class: "remedy" }, p.remedy)))));
}

function calm(st) {
  const points = st.points.connected ?? 0;
  if (!Object.keys(st.points).length) return "No point is enrolled. 'syncgate point add NAME' enrols one.";
  return `${plural(points, "point")} connected, ${plural(st.rules.ok ?? 0, "rule")} in force, all rows on their way.`;
}

function tiles(state, st) {
  const last = state.history?.at(-1);
  const of = (n, most) => [about(n), most ? h("small", {}, " of " + about(most)) : null];
  const enrolled = Object.entries(st.points).reduce((n, [k, v]) => n + (k === "revoked" ? 0 : v), 0);
  const tile = (value, name, href) => h(href ? "a" : "div", { class: "tile", href }, h("b", {}, value), h("span", {}, name));
  return h("section", { class: "tiles", "aria-label": "Load" },
    tile(of(st.points.connected ?? 0, enrolled), st.unknown && !enrolled ? "points, not known now" : "points connected", "#/points"),
    tile([last ? about(last.up) : "–", h("small", {}, " /s")], "rows up"),
    tile([last ? about(last.down) : "–", h("small", {}, " /s")], "rows down"),
    tile(last?.p99 ? seconds(last.p99) : "–", "p99 of requests"),
    st.figures.filter((f) => f.name !== "connections").map((f) => tile(f.unit === "B" ? [bytes(f.value), h("small", {}, " of " + bytes(f.limit))] : of(f.value, f.limit), f.name)));
}

function charts(state, render) {
  const all = state.history ?? [];
  const times = all.map((s) => +new Date(s.at));
  const values = (name) => all.map((s) => s[name]);
  const rate = (v) => about(v) + "/s";
  const lag = (p) => (p.report?.lag_ms ?? 0) / 1000;
  return h("section", { class: "charts", "aria-label": "The last hour" },
    chart("Rows", { times, format: rate, redraw: render, series: [{ name: "up", color: "c1", values: values("up") }, { name: "down", color: "c2", values: values("down") }] }),
    chart("Time of a request", { times, format: seconds, redraw: render, series: [{ name: "p50", color: "c1", values: values("p50") }, { name: "p99", color: "c3", values: values("p99") }] }),
    chart("Oldest row not sent", { times, format: (v) => span(v), redraw: render, series: [{ name: "worst point", color: "c3", values: all.map((s) => s.lag ?? 0) }] }),
    bars("Points that are behind", (state.slowest ?? []).filter((p) => lag(p) > 0).map((p) => ({ name: p.point, href: link(["points", p.point]), value: lag(p), text: span(lag(p)) })), "No point reports rows that wait."));
}

function latest(state) {
  return h("section", {}, h("h2", {}, "Latest", h("a", { class: "more", href: "#/log" }, "Live log")),
    state.recent?.length ? h("ol", { class: "lines" }, state.recent.map((l) => line(l))) : h("p", { class: "none" }, "No rows have moved yet."));
}

function failures(st) {
  if (!st.failures?.length) return null;
  return h("section", {}, h("h2", {}, "Last failed requests"),
    h("ol", { class: "lines" }, st.failures.slice(0, 8).map((f) => h("li", {}, h("span", { class: "when" }, ago(f.at)), tag("bad", f.code),
      f.point && h("a", { href: link(["points", f.point]) }, f.point), f.table && h("b", {}, f.table), h("span", { class: "said" }, f.message)))));
}
