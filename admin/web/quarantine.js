// Rows that no operation of their rule took: by rule and error, then one by one.
import { h, get, post, table, ago, count, plural, link, setQuery, action, ask } from "./lib.js";

const filters = ["point", "table", "rule", "error"];

// exact reads JSON and keeps numbers as they are written: a BIGINT is more than a number of JavaScript holds.
const exact = (text) => JSON.parse(text, (_, v, at) => (typeof v === "number" && at?.source && !Number.isSafeInteger(v) ? new Exact(at.source) : v));
class Exact {
  constructor(text) { this.text = text; }
}
const written = (v) => (v instanceof Exact ? v.text : JSON.stringify(v));

export async function load(state, signal) {
  const q = new URLSearchParams(filters.filter((f) => state.query.get(f)).map((f) => [f, state.query.get(f)]));
  state.chosen = [...q.keys()].length > 0;
  state.counts = await get("quarantine/counts?" + q, signal);
  if (!state.chosen) { state.rows = null; return; }
  q.set("after", state.query.get("after") ?? 0);
  state.rows = await get("quarantine?" + q, signal, exact);
}

export function show(state, shared) {
  const may = shared.status?.actions;
  const total = state.counts?.reduce((n, c) => n + c.rows, 0) ?? 0;
  return [h("h1", {}, "Quarantine", state.counts && h("small", {}, plural(total, "row"))),
    h("p", { class: "quiet" }, "Rows that no operation of their rule took. Each leaves by itself when a later version of it is applied."),
    state.chosen && h("p", { class: "filter" }, filters.filter((f) => state.query.get(f)).map((f) => h("span", { class: "chip" }, `${f} ${state.query.get(f)}`)), h("a", { href: "#/quarantine" }, "all rows")),
    state.said && h("p", { class: "note", role: "status" }, state.said),
    state.counts ? table([
      { name: "Table", cell: (c) => h("a", { href: link(["quarantine"], { ...Object.fromEntries(state.query), rule: c.rule_id, error: c.error_code, after: "" }) }, c.sync_table) },
      { name: "Rule", n: true, cell: (c) => h("a", { href: link(["rules"], { id: c.rule_id }) }, c.rule_id) },
      { name: "Error", n: true, cell: (c) => c.error_code },
      { name: "Rows", n: true, cell: (c) => count(c.rows) },
      { name: "Tried again", n: true, cell: (c) => count(c.waiting) },
      { name: "Oldest", cell: (c) => ago(c.oldest) },
      { name: "Reason of one", wide: true, cell: (c) => h("span", { class: "said" }, c.reason) },
      { name: "", cell: (c) => h("div", { class: "row" },
        action("Replay", may && !state.busy, () => replay(state, shared, group(state, c), plural(c.rows, "row"))),
        action("Drop", may && !state.busy, () => drop(state, shared, group(state, c), plural(c.rows, "row")))) },
    ], state.counts, { caption: "Rows by rule and error", empty: state.chosen ? "No row is like that." : "The quarantine is empty." }) : h("p", { class: "quiet" }, "Loading…"),
    state.rows?.length > 0 && [h("h2", {}, "Rows"), h("ul", { class: "rows" }, state.rows.map((q) => row(q, state, shared, may)))],
    state.rows?.length === 100 && h("button", { onclick: () => setQuery({ after: state.rows.at(-1).id }) }, "Next rows")];
}

// group chooses the rows of a line of the table.
const group = (state, c) => ({ rule: c.rule_id, table: c.sync_table, error: c.error_code, ...(state.query.get("point") ? { point: state.query.get("point") } : {}) });

function row(q, state, shared, may) {
  const editing = state.editing === q.id;
  return h("li", { "data-id": q.id },
    h("div", { class: "row" }, h("b", {}, `${q.sync_table}, row ${q.id}`), h("a", { href: link(["points", q.point]) }, q.point), ago(q.created_at),
      q.waits_until && h("span", { class: "quiet" }, "tried again by itself"), q.edited_at && h("span", { class: "quiet" }, "edited ", ago(q.edited_at))),
    h("p", { class: "said" }, `${q.error_code} ${q.reason}`),
    h("form", { onsubmit: (e) => { e.preventDefault(); save(q, e.target, state, shared); } },
      h("dl", { class: "values" }, Object.entries(q.row_values).map(([name, value]) => h("div", {}, h("dt", {}, name),
        h("dd", {}, editing ? h("input", { name, "data-keep": `${q.id} ${name}`, "aria-label": name, "data-was": written(value), value: written(value), spellcheck: "false" }) : h("code", {}, clip(written(value))))))),
      editing && h("p", { class: "quiet" }, "Values are JSON: text in quotes, numbers without, null for nothing."),
      h("div", { class: "row" },
        editing ? [h("button", {}, "Save"), h("button", { type: "button", onclick: () => { state.editing = null; shared.render(); } }, "Cancel")]
          : [action("Edit", may && !state.busy, () => { state.editing = q.id; shared.render(); }),
            action("Replay", may && !state.busy, () => replay(state, shared, { id: q.id }, "The row")),
            action("Drop", may && !state.busy, () => drop(state, shared, { id: q.id }, "the row"))])));
}

const clip = (text) => (text.length > 400 ? text.slice(0, 400) + "…" : text);

async function act(state, shared, work) {
  state.busy = true;
  state.said = "Working…";
  shared.render();
  try {
    state.said = await work();
  } catch (err) {
    state.said = err.message;
  }
  state.busy = false;
  await shared.refresh();
}

async function replay(state, shared, chosen, what) {
  await act(state, shared, async () => {
    let done = 0, error = null;
    await post("quarantine/replay", chosen, (l) => { if (l.error) error = l.error; else if (l.id) done++; });
    return error ? `${count(done)} applied. At least one stays: ${error}` : `${what} applied.`;
  });
}

async function drop(state, shared, chosen, what) {
  if (!(await ask(`Drop ${what} of the quarantine? What is dropped cannot be brought back.`, "Drop"))) return;
  await act(state, shared, async () => {
    let n = 0;
    await post("quarantine/drop", chosen, (l) => { n = l.dropped; });
    return `${plural(n, "row")} dropped.`;
  });
}

// save sends the fields that were changed, as they are written.
async function save(q, form, state, shared) {
  const set = [];
  for (const input of form.querySelectorAll("input")) {
    if (input.value === input.dataset.was) continue;
    try {
      JSON.parse(input.value);
    } catch {
      state.said = `${input.name}: ${input.value} is not JSON. Text stands in quotes.`;
      input.focus();
      return shared.render();
    }
    set.push(`${JSON.stringify(input.name)}: ${input.value}`);
  }
  if (!set.length) { state.editing = null; return shared.render(); }
  await act(state, shared, async () => {
    await post("quarantine/edit", `{"id": ${q.id}, "set": {${set.join(", ")}}}`);
    state.editing = null;
    return `Row ${q.id} is saved. Replay applies it.`;
  });
}
