// What all views share: elements, patching, the API, and how numbers and times are written.

// h makes an element. A string becomes a text node, so that nothing that a point, a rule or a row says is markup.
// Properties that begin with "on" are handlers; the others are attributes, left out when they are false or null.
export function h(tag, props, ...children) {
  const svg = tags.has(tag);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) e[name] = value;
    else if (value === true) e.setAttribute(name, "");
    else if (value !== false && value != null) e.setAttribute(name, value);
  }
  e.append(...children.flat(Infinity).filter((c) => c != null && c !== false).map((c) => (c instanceof Node ? c : String(c))));
  return e;
}
const tags = new Set(["svg", "path", "line", "rect", "g"]);

const handlers = ["onclick", "oninput", "onchange", "onsubmit", "onpointermove", "onpointerleave", "onkeydown"];

// patch makes an element look like another, and keeps the nodes that stay: the focus, a selection, and what a person
// types survive a refresh. An element with data-keep is left alone.
export function patch(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName) return old.replaceWith(next);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  if (old.dataset.keep != null && old.dataset.keep === next.dataset.keep) return;
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name of handlers) if (old[name] !== next[name]) old[name] = next[name];
  const was = [...old.childNodes], will = [...next.childNodes];
  will.forEach((n, i) => (was[i] ? patch(was[i], n) : old.append(n)));
  was.slice(will.length).forEach((n) => n.remove());
  if ((old.nodeName === "SELECT" || old.nodeName === "INPUT") && old !== document.activeElement && old.value !== next.value) old.value = next.value;
}

// get reads an answer of the API. An error has the server's words. read makes something else of the text than JSON.
export async function get(path, signal, read = JSON.parse) {
  return read(await (await call(path, { signal })).text());
}

// lines reads a stream that ends.
export const lines = (text) => text.split("\n").filter(Boolean).map((l) => JSON.parse(l)).filter((l) => l.id);

// post does an action and calls line for each line of the answer. body is an object or JSON.
export async function post(path, body, line = () => {}) {
  const res = await call(path, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body ?? {}) });
  const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", done = false; !done; ) {
    const chunk = await reader.read();
    done = chunk.done;
    const lines = (rest + (chunk.value ?? "")).split("\n");
    rest = lines.pop();
    for (const text of lines.filter(Boolean)) {
      const value = JSON.parse(text);
      if (Object.keys(value).length === 1 && value.error) throw new Error(value.error);
      line(value);
    }
  }
}

async function call(path, options) {
  let res;
  try {
    res = await fetch("/api/" + path, options);
  } catch (err) {
    if (err.name === "AbortError") throw err;
    throw new Error("The server does not answer. It is stopped, or the link to it is down.");
  }
  if (res.ok) return res;
  const text = await res.text();
  let said = res.status + " " + res.statusText;
  try {
    said = JSON.parse(text).error ?? said;
  } catch {
    // not JSON: a proxy's page
  }
  throw new Error(said);
}

// A place is a view and its parameters, written in the address behind #.
export const place = () => {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").map(decodeURIComponent), query: new URLSearchParams(query) };
};

export const link = (path, query = {}) => {
  const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v != null && v !== "" && v !== false)).toString();
  return "#/" + path.map(encodeURIComponent).join("/") + (q ? "?" + q : "");
};

// setQuery changes parameters of the present place without an entry in the browser's history.
export function setQuery(changes) {
  const { path, query } = place();
  const all = { ...Object.fromEntries(query), ...changes };
  history.replaceState(null, "", link(path, all));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const count = (n) => whole.format(n ?? 0);
export const about = (n) => (n >= 10000 ? short.format(n) : whole.format(n >= 100 ? Math.round(n) : Math.round(n * 10) / 10));
export const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i ? n.toFixed(n < 10 ? 1 : 0) : n} ${units[i]}`;
}

export const seconds = (s) => (s === 0 ? "0" : s < 0.0095 ? `${(s * 1000).toFixed(1)} ms` : s < 1 ? `${Math.round(s * 1000)} ms` : s < 60 ? `${s.toFixed(1)} s` : span(s));

// span writes a length of time, in seconds, in its largest unit or two.
export function span(s) {
  s = Math.max(0, Math.round(s));
  const two = (big, unit, rest, small) => `${big} ${unit}` + (rest ? ` ${rest} ${small}` : "");
  if (s < 60) return `${s} s`;
  if (s < 600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

const pad = (n) => String(n).padStart(2, "0");
export const clock = (at) => {
  const t = new Date(at);
  return `${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}`;
};
export const day = (at) => {
  const t = new Date(at);
  return `${t.getFullYear()}-${pad(t.getMonth() + 1)}-${pad(t.getDate())} ${clock(at)}`;
};

// ago is a time as distance from now, with the time itself when the pointer rests on it.
export function ago(at, never = "never") {
  if (!at) return h("span", { class: "quiet" }, never);
  const s = (Date.now() - new Date(at)) / 1000;
  return h("time", { datetime: at, title: day(at) }, s < 5 ? "now" : span(s) + " ago");
}

// tag is a state as a word with a mark beside it, so that it is not told by colour alone.
export const tag = (state, text = state) => h("span", { class: "tag " + state }, text);

// table makes a table. A column is {name, cell(row), n: a number, wide, sort: what the API sorts by}.
export function table(columns, rows, { caption, sort, desc, onsort, empty, row = () => ({}) }) {
  if (!rows.length) return h("p", { class: "none" }, empty);
  const head = columns.map((c) => {
    if (!c.sort) return h("th", { scope: "col", class: c.n && "n" }, c.name);
    const on = c.sort === sort;
    return h("th", { scope: "col", class: c.n && "n", "aria-sort": on ? (desc ? "descending" : "ascending") : "none" },
      h("button", { class: "sort", onclick: () => onsort(c.sort, on && !desc) }, c.name, h("i", { "aria-hidden": "true" }, on ? (desc ? "▴" : "▾") : "")));
  });
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, rows.map((r) => h("tr", row(r), columns.map((c) => h("td", { class: [c.n && "n", c.wide && "wide"].filter(Boolean).join(" ") || null, "data-name": c.name }, c.cell(r))))))));
}

// action is a button that does something at the server. It says so when the page may only read.
export const action = (text, allowed, onclick, more = {}) =>
  h("button", { type: "button", onclick, disabled: !allowed, title: allowed ? null : "Read-only. admin.allow_actions in the server's settings lets this page act.", ...more }, text);

// ask shows a question and tells whether the answer is yes.
export function ask(question, yes) {
  return new Promise((answer) => {
    const box = h("dialog", { "aria-label": question, onclose: () => { answer(box.returnValue === "yes"); box.remove(); } },
      h("p", {}, question),
      h("div", { class: "row" }, h("button", { class: "danger", onclick: () => box.close("yes") }, yes), h("button", { autofocus: true, onclick: () => box.close("no") }, "Cancel")));
    document.body.append(box);
    box.showModal();
  });
}
