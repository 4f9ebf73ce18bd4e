// What the pages share: building elements, talking to the server, the theme.
// Text from people and models only ever becomes text nodes.

export function make(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") e.className = value;
    else if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

export const find = (id) => document.getElementById(id);

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let csrf = "";
export const setCsrf = (token) => { csrf = token; };

// Resolves to the JSON of the answer; throws Refused (the server said no) or TypeError (no connection).
export async function call(method, path, body) {
  const options = { method, credentials: "same-origin", cache: "no-store", headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  if (csrf) options.headers["X-CSRF-Token"] = csrf;
  const answer = await fetch(path, options);
  const text = await answer.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch (why) {
    throw new TypeError("not an answer of this server");
  }
  if (!answer.ok) throw new Refused(answer.status, json.error || String(answer.status));
  return json;
}

// The session, after signing in with what stands behind # in the address, if anything does.
export async function session() {
  const match = /^#login=([A-Za-z0-9_-]+)$/.exec(location.hash);
  if (match) {
    history.replaceState(null, "", location.pathname);
    try {
      await call("POST", "/api/login", { token: match[1] });
    } catch (why) {
      if (!(why instanceof Refused)) throw why;
      const s = await call("GET", "/api/session");
      if (s.role === "none") return { role: "none", why: why.message };
      setCsrf(s.csrf);
      return s;
    }
  }
  const s = await call("GET", "/api/session");
  setCsrf(s.csrf || "");
  return s;
}

// A link opened in the window that is here already changes nothing but what stands behind #.
addEventListener("hashchange", () => location.reload());

export function newKey() {
  const raw = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(raw, (b) => b.toString(16).padStart(2, "0")).join("");
}

// Storage that does not fail where there is none (private windows).
export const kept = {
  get(name) {
    try {
      return JSON.parse(localStorage.getItem(name));
    } catch (why) {
      return null;
    }
  },
  set(name, value) {
    try {
      if (value === null) localStorage.removeItem(name);
      else localStorage.setItem(name, JSON.stringify(value));
    } catch (why) {
      // without storage a draft lives as long as the page
    }
  },
};

export function theme(button) {
  const show = (name) => {
    if (name) document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
  };
  show(kept.get("theme"));
  button.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    const next = dark === "dark" ? "light" : "dark";
    kept.set("theme", next);
    show(next);
  });
}
