// The page's shell: the head with the server's state, and the view that the address names.
import { h, patch, get, place, span, ago } from "./lib.js";
import * as overview from "./overview.js";
import * as points from "./points.js";
import * as rules from "./rules.js";
import * as quarantine from "./quarantine.js";
import * as log from "./log.js";

const views = { "": overview, points, rules, quarantine, log };
const names = [["", "Overview"], ["points", "Points"], ["rules", "Rules"], ["quarantine", "Quarantine"], ["log", "Log"]];

// shared is what the views know of the server: its last status, or why it cannot be read.
const shared = { status: null, error: null, render, refresh };
let view, state, stop; // the view shown, what it has read, and what ends its requests
let timer;

function head() {
  const { status: st, error } = shared;
  const here = place().path[0];
  const bad = st?.problems.filter((p) => p.severe).length ?? 0, all = st?.problems.length ?? 0;
  const [mark, words] = error ? ["bad", "no answer"] : !st ? ["", "…"] : !st.healthy ? ["bad", st.state === "draining" ? "draining" : "not ready"] : bad ? ["bad", `serving, ${bad} severe`] : all ? ["warn", `serving, ${all} to look at`] : ["good", "serving"];
  document.title = (error || bad ? "● " : all ? "○ " : "") + "syncgate";
  return h("header", { id: "top" },
    h("a", { class: "brand", href: "#/" }, "syncgate"),
    h("span", { class: "state " + mark, role: "status" }, words),
    h("nav", { "aria-label": "Views" }, names.map(([path, name]) => h("a", { href: "#/" + path, "aria-current": here === path ? "page" : null }, name))),
    st && h("small", {}, st.actions ? null : h("span", { title: "admin.allow_actions in the server's settings lets this page act" }, "read-only · "), st.program.replace("syncgate ", ""), " · up ", h("span", { title: st.started }, span((Date.now() - new Date(st.started)) / 1000))));
}

// render shows what is known now.
function render() {
  patch(document.getElementById("top"), head());
  const main = h("main", { id: "main", tabindex: "-1" });
  if (shared.error) main.append(h("p", { class: "alarm", role: "alert" }, shared.error, " This is what was known ", shared.status ? ago(shared.status.now) : "before", "."));
  else if (shared.status?.unknown) main.append(h("p", { class: "alarm", role: "alert" }, shared.status.unknown));
  main.append(...[view.show(state, shared)].flat(Infinity).filter(Boolean));
  patch(document.getElementById("main"), main);
}

// refresh reads the server's status and what the view needs, and reads again later.
async function refresh() {
  clearTimeout(timer);
  const of = stop;
  try {
    const [status] = await Promise.all([get("status", of.signal), view.load(state, of.signal)]);
    shared.status = status;
    shared.error = null;
  } catch (err) {
    if (err.name === "AbortError") return;
    shared.error = err.message;
  }
  if (of !== stop) return;
  render();
  if (!performance.getEntriesByName("shown").length && shared.status) performance.mark("shown");
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, 2000);
}

function go() {
  const { path, query } = place();
  const next = views[path[0]] ?? overview;
  const key = JSON.stringify(path);
  stop?.abort();
  stop = new AbortController();
  if (view !== next || state?.key !== key) {
    view?.leave?.(state);
    view = next;
    state = { key };
    if (shared.status) scrollTo(0, 0);
  }
  Object.assign(state, { path, query });
  view.enter?.(state, shared, stop.signal);
  if (shared.status) render();
  refresh();
}

addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
go();
