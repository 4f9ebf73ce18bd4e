// Model output as DOM: a small subset of markdown, everything else as it is. There
// is no HTML in here: nothing is parsed as markup, links are shown as text and
// lead nowhere, pictures are not loaded, characters that turn the direction of
// text or hide are shown by their numbers.
import { make } from "./common.js";

const PLAIN_FROM = 100000; // characters; longer texts are shown as they are, which takes no time
const WORDS_MAX = 4000;    // of a text whose differences are looked for
const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/;
const ODD_SPLIT = new RegExp("(" + ODD.source + ")", "u");

// Text as nodes; nothing of it is read as markup.
export function plain(text) {
  if (!ODD.test(text)) return [document.createTextNode(text)];
  return text.split(ODD_SPLIT).filter((part) => part !== "").map((part) => {
    if (!ODD.test(part)) return document.createTextNode(part);
    const number = "U+" + part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return make("span", { class: "odd", title: "a character that is not shown" }, number);
  });
}

const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\s][^*\n]*\*)|(\[[^\]\n]*\]\([^)\s]*\))/;

function inline(text) {
  const out = [];
  for (;;) {
    const found = text.length > PLAIN_FROM ? null : INLINE.exec(text);
    if (!found) break;
    if (found.index) out.push(...plain(text.slice(0, found.index)));
    const hit = found[0];
    if (found[1]) out.push(make("code", {}, ...plain(hit.slice(1, -1))));
    else if (found[2]) out.push(make("strong", {}, ...plain(hit.slice(2, -2))));
    else if (found[3]) out.push(make("em", {}, ...plain(hit.slice(1, -1))));
    else {
      const [, label, target] = /^\[(.*)\]\((.*)\)$/.exec(hit);
      out.push(...plain(label), make("span", { class: "link" }, ...plain(" (" + target + ")")));
    }
    text = text.slice(found.index + hit.length);
  }
  if (text) out.push(...plain(text));
  return out;
}

function list(lines, at, ordered) {
  const item = ordered ? /^\s{0,3}\d{1,9}[.)]\s+(.*)$/ : /^\s{0,3}[-*+]\s+(.*)$/;
  const e = make(ordered ? "ol" : "ul");
  if (ordered) e.setAttribute("start", parseInt(lines[at], 10));
  for (; at < lines.length; at++) {
    const found = item.exec(lines[at]);
    if (!found) break;
    e.append(make("li", {}, ...inline(found[1])));
  }
  return [e, at];
}

const BLOCK = /^(\s{0,3}(```|#{1,6}\s|[-*+]\s|\d{1,9}[.)]\s|>))|^\s*$/;

function blocks(text) {
  const lines = text.split("\n");
  const out = [];
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    if (/^\s{0,3}```/.test(line)) {
      let end = at + 1;
      while (end < lines.length && !/^\s{0,3}```\s*$/.test(lines[end])) end++;
      out.push(make("pre", { tabindex: "0" }, make("code", {}, ...plain(lines.slice(at + 1, end).join("\n")))));
      at = end + 1;
    } else if (/^\s*$/.test(line)) {
      at++;
    } else if (/^\s{0,3}#{1,6}\s/.test(line)) {
      out.push(make("p", { class: "heading" }, ...inline(line.replace(/^\s*#+\s+/, ""))));
      at++;
    } else if (/^\s{0,3}[-*+]\s/.test(line) || /^\s{0,3}\d{1,9}[.)]\s/.test(line)) {
      const [e, next] = list(lines, at, /^\s*\d/.test(line));
      out.push(e);
      at = next;
    } else if (/^\s{0,3}>/.test(line)) {
      let end = at;
      while (end < lines.length && /^\s{0,3}>/.test(lines[end])) end++;
      out.push(make("blockquote", {}, ...inline(lines.slice(at, end).map((l) => l.replace(/^\s*>\s?/, "")).join("\n"))));
      at = end;
    } else {
      let end = at + 1;
      while (end < lines.length && !BLOCK.test(lines[end])) end++;
      out.push(make("p", {}, ...inline(lines.slice(at, end).join("\n"))));
      at = end;
    }
  }
  return out;
}

export function showText(into, text, language) {
  into.replaceChildren(...(text.length > PLAIN_FROM ? [make("p", {}, ...plain(text))] : text.trim() === "" ? [make("p", { class: "empty" }, "(empty)")] : blocks(text)));
  into.dir = "auto";
  if (language) into.lang = language;
}

// A conversation: turns with their roles; or a text.
export function showPrompt(into, prompt, format, language) {
  if (format !== "chat") {
    showText(into, prompt, language);
    return;
  }
  const turns = JSON.parse(prompt);
  into.replaceChildren(...turns.map((turn) => {
    const body = make("div", { class: "text" });
    showText(body, String(turn.content), language);
    return make("div", { class: "turn" }, make("p", { class: "role" }, ...plain(String(turn.role))), body);
  }));
}

// ---- differences of two texts, word by word (Myers 1986) ----

function path(a, b) {
  const most = a.length + b.length;
  const trace = [];
  const v = new Map([[1, 0]]);
  for (let d = 0; d <= most; d++) {
    trace.push(new Map(v));
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1)) ? v.get(k + 1) : v.get(k - 1) + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) x++, y++;
      v.set(k, x);
      if (x >= a.length && y >= b.length) return trace;
    }
    if (d > 1500) return null; // too different for marks to help
  }
  return trace;
}

// For each word whether the other text has it too, in the same course.
export function common(a, b) {
  const inA = new Uint8Array(a.length);
  const inB = new Uint8Array(b.length);
  if (a.length > WORDS_MAX || b.length > WORDS_MAX) return null;
  const trace = path(a, b);
  if (!trace) return null;
  let x = a.length;
  let y = b.length;
  for (let d = trace.length - 1; d >= 0; d--) {
    const v = trace[d];
    const k = x - y;
    const from = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1)) ? k + 1 : k - 1;
    const px = d ? v.get(from) : 0;
    const py = d ? px - from : 0;
    while (x > px && y > py && x > 0 && y > 0 && a[x - 1] === b[y - 1]) {
      inA[--x] = 1;
      inB[--y] = 1;
    }
    x = px;
    y = py;
  }
  return [inA, inB];
}

const words = (text) => text.match(/\s*\S+/g) || [];

// Both texts as they are, with what the other one lacks marked; false when they are too long or too different.
export function showDifference(first, second, a, b) {
  const wa = words(a);
  const wb = words(b);
  const both = common(wa.map((w) => w.trim()), wb.map((w) => w.trim()));
  if (!both) return false;
  [[first, wa, both[0]], [second, wb, both[1]]].forEach(([into, list, same]) => {
    const out = make("p", { class: "raw" });
    for (let i = 0; i < list.length;) {
      let end = i + 1;
      while (end < list.length && same[end] === same[i]) end++;
      const part = list.slice(i, end).join("");
      out.append(...(same[i] ? plain(part) : [make("mark", {}, ...plain(part))]));
      i = end;
    }
    into.replaceChildren(out);
    into.dir = "auto";
  });
  return true;
}
