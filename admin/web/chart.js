// A line chart as SVG. It is drawn again at every refresh; the pointer's place is kept beside it.
import { h, clock, span } from "./lib.js";

const W = 640, H = 150, left = 46, right = 8, top = 8, bottom = 20;
const hover = {}; // by the chart's title: the index of a sample

// chart draws series {name, color, values} over times. format writes a value; redraw is called when the pointer moves.
export function chart(title, { times, series, format, redraw }) {
  if (times.length < 2) return h("figure", { class: "chart" }, h("figcaption", {}, title), h("p", { class: "quiet wait" }, "The first figures come within half a minute."));
  const begin = Math.min(times[0], times.at(-1) - 600e3), end = times.at(-1);
  const most = nice(Math.max(...series.flatMap((s) => s.values), 0));
  const x = (t) => left + ((t - begin) / (end - begin)) * (W - left - right);
  const y = (v) => top + (1 - v / most) * (H - top - bottom);
  const at = Math.min(hover[title] ?? times.length - 1, times.length - 1);
  const path = (values) => values.map((v, i) => `${i ? "L" : "M"}${x(times[i]).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const move = (e) => {
    const box = e.currentTarget.getBoundingClientRect();
    const t = begin + (((e.clientX - box.left) / box.width) * W - left) / (W - left - right) * (end - begin);
    hover[title] = times.reduce((best, one, i) => (Math.abs(one - t) < Math.abs(times[best] - t) ? i : best), 0);
    redraw();
  };
  const leave = () => { delete hover[title]; redraw(); };
  const said = series.map((s) => `${s.name} ${format(s.values.at(-1))}, at most ${format(Math.max(...s.values))}`).join("; ");
  return h("figure", { class: "chart" },
    h("figcaption", {}, title,
      h("span", { class: "legend" }, series.map((s) => h("span", { class: s.color }, s.name, h("b", {}, format(s.values[at])))),
        h("time", {}, hover[title] == null ? "now" : clock(times[at])))),
    h("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}, the last ${span((end - times[0]) / 1000)}: ${said}`, onpointermove: move, onpointerleave: leave },
      [0, most / 2, most].map((v) => [h("line", { class: "grid", x1: left, x2: W - right, y1: y(v), y2: y(v) }), label(left - 6, y(v) + 4, format(v), "end")]),
      ticks(begin, end).map((t) => label(x(t), H - 4, clock(t).slice(0, 5), "middle")),
      series.map((s) => h("path", { class: "line " + s.color, d: path(s.values) })),
      hover[title] != null && h("line", { class: "cursor", x1: x(times[at]), x2: x(times[at]), y1: top, y2: H - bottom })));
}

function label(x, y, text, anchor) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", "text");
  e.setAttribute("x", x.toFixed(1));
  e.setAttribute("y", y.toFixed(1));
  e.setAttribute("text-anchor", anchor);
  e.append(text);
  return e;
}

// nice is a round number that is not less than v.
function nice(v) {
  if (v <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 4, 5, 10].find((n) => n * unit >= v) * unit;
}

function ticks(begin, end) {
  const step = end - begin > 1800e3 ? 600e3 : end - begin > 900e3 ? 300e3 : 120e3;
  const all = [];
  for (let t = Math.ceil(begin / step) * step; t <= end - step / 5; t += step) all.push(t);
  return all;
}

// bars shows the largest of some values: {name, href, value, text}.
export function bars(title, rows, empty) {
  const most = Math.max(...rows.map((r) => r.value), 1e-9);
  return h("figure", { class: "chart" }, h("figcaption", {}, title),
    rows.length ? h("ol", { class: "bars" }, rows.map((r) => h("li", {}, h("a", { href: r.href }, r.name), h("meter", { min: 0, max: most, value: r.value, "aria-label": r.name }, r.text), h("b", {}, r.text)))) : h("p", { class: "quiet wait" }, empty));
}
