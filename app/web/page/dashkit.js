// What the views of the dashboard share: talking about runs, waiting, failing,
// numbers. Text of runs and models only ever becomes text nodes.
import { call, make, Refused } from "./common.js";

export const { colour, alpha, format, percent } = drawing;

export const query = (path, values) => {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined && value !== null && value !== "") q.append(name, value);
  return call("GET", path + "?" + q);
};

export const swatch = (hex) => {
  const s = make("span", { class: "swatch", "aria-hidden": "true" });
  s.style.background = hex;
  return s;
};

export const interval = (v, form = percent) => (v.value === null || v.value === undefined ? "–" : form(v.value) +
  (v.low === null || v.low === undefined ? "" : " [" + form(v.low).replace(" %", "") + ", " + form(v.high).replace(" %", "") + "]"));

export const heads = (...names) => make("thead", {}, make("tr", {}, ...names.map((n) => (n === "" ? make("td", {}) : make("th", { scope: "col", class: n.startsWith("#") ? "number" : "" }, n.replace("#", ""))))));
// A table that scrolls sideways by itself where the window is narrow. A column's name with # in front: numbers.
export const table = (label, names, rows) => make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": label },
  make("table", {}, heads(...names), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, k) =>
    (k === 0 ? make("th", { scope: "row" }, cell) : make("td", { class: names[k].startsWith("#") ? "number" : "" }, cell))))))));

export const stateOf = (run) => make("span", { class: "state " + run.state, title: run.why || "" },
  run.state === "running" && run.role ? "running: " + run.role : run.state === "between" ? "between stages" : run.state);
export const progressOf = (run) => (run.stage ? run.stage + " " + run.step + (run.steps ? " of " + run.steps : "") : "–");
export const since = (seconds) => (seconds ? new Date(1000 * seconds).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "–");
export const nameOf = (run) => (run.run === "." ? run.name : run.run);

// Fills `into` with what `draw` makes of the answer; says that it waits, and what went wrong with a way to try again.
// Resolves to whether it worked. A second call for the same place makes the first one stale. again: where more than `into` hangs on it.
const turns = new WeakMap();
export async function fill(into, ask, draw, again = () => fill(into, ask, draw)) {
  const turn = (turns.get(into) || 0) + 1;
  turns.set(into, turn);
  const wait = setTimeout(() => { if (turns.get(into) === turn) into.replaceChildren(make("p", { class: "soft" }, "Loading …")); }, 150);
  into.setAttribute("aria-busy", "true");
  try {
    const answer = await ask();
    clearTimeout(wait);
    if (turns.get(into) !== turn) return false;
    into.replaceChildren(...[draw(answer)].flat().filter(Boolean));
    return true;
  } catch (why) {
    clearTimeout(wait);
    if (turns.get(into) !== turn) return false;
    const said = why instanceof Refused ? why.message : why instanceof TypeError ? "No connection to the server." : String(why);
    into.replaceChildren(make("div", { class: "fail", role: "alert" }, make("p", {}, said), make("button", { type: "button", onclick: again }, "Try again")));
    return false;
  } finally {
    if (turns.get(into) === turn) into.removeAttribute("aria-busy");
  }
}

export const empty = (...what) => make("p", { class: "soft" }, ...what);

export const options = (list, chosen) => list.map(([value, text]) => make("option", { value: String(value), selected: String(value) === String(chosen) }, text));
export const runOptions = (runs, chosen) => options(runs.map((r) => [r.run, nameOf(r) + ", seed " + r.seed]), chosen);
