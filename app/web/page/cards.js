// The state of one question and its drawing: which is best, which is worst, which
// side of a duel and how much, the order tapped so far. No network in here.
import { make } from "./common.js";
import { showText, showDifference } from "./text.js";

const SCALE = ["much better", "better", "slightly better", "a tie", "slightly better", "better", "much better"];

export class Question {
  // changed: called after every change of the answer, and when a card came into view.
  constructor(ask, into, draft, changed) {
    this.ask = ask;
    this.n = ask.shown.length;
    this.changed = changed;
    this.state = draft || { best: -1, worst: -1, scale: null, order: [], join: false };
    this.seen = new Set();
    this.marked = ask.difference;
    this.draw(into);
  }

  // ---- what is answered ----

  // The ranks of the shown, or null while something is missing; {tie: true} for a tie.
  result() {
    const s = this.state;
    if (this.ask.kind === "duel") {
      if (s.scale === null) return null;
      if (s.scale === 0) return { tie: true };
      return { ranks: s.scale < 0 ? [1, 2] : [2, 1], strength: Math.abs(s.scale) };
    }
    if (this.ask.kind === "best_worst") {
      if (s.best < 0 || s.worst < 0) return null;
      return { ranks: this.ask.shown.map((_, i) => (i === s.best ? 1 : i === s.worst ? 3 : 2)), strength: 0 };
    }
    const placed = s.order.flat().length;
    if (placed < this.n - 1) return null;
    const order = placed === this.n ? s.order : [...s.order, [this.ask.shown.findIndex((_, i) => !s.order.flat().includes(i))]];
    if (order.length === 1) return { tie: true };
    const ranks = new Array(this.n);
    let next = 1;
    for (const block of order) {
      for (const i of block) ranks[i] = next;
      next += block.length;
    }
    return { ranks, strength: 0 };
  }

  allSeen() { return this.seen.size === this.n; }
  firstUnseen() { return this.ask.shown.findIndex((_, i) => !this.seen.has(i)); }
  empty() {
    const s = this.state;
    return s.best < 0 && s.worst < 0 && s.scale === null && !s.order.length;
  }

  best(i) {
    const s = this.state;
    if (i >= this.n) return;
    if (this.ask.kind === "duel") {
      const side = i === 0 ? -1 : 1;
      s.scale = s.scale !== null && Math.sign(s.scale) === side ? side * (Math.abs(s.scale) % 3 + 1) : side;
    } else if (this.ask.kind === "order") {
      this.tap(i);
    } else {
      s.best = s.best === i ? -1 : i;
      if (s.worst === i) s.worst = -1;
    }
    this.redraw();
  }

  worst(i) {
    const s = this.state;
    if (i >= this.n || this.ask.kind !== "best_worst") return;
    s.worst = s.worst === i ? -1 : i;
    if (s.best === i) s.best = -1;
    this.redraw();
  }

  scale(value) {
    this.state.scale = value;
    this.redraw();
  }

  move(step) {
    if (this.ask.kind !== "duel") return;
    const now = this.state.scale;
    this.scale(now === null ? step : Math.max(-3, Math.min(3, now + step)));
  }

  tap(i) {
    const s = this.state;
    const at = s.order.findIndex((block) => block.includes(i));
    if (at >= 0) {
      s.order[at] = s.order[at].filter((k) => k !== i);
      if (!s.order[at].length) s.order.splice(at, 1);
    } else if (s.join && s.order.length) {
      s.order[s.order.length - 1].push(i);
    } else {
      s.order.push([i]);
    }
    s.join = false;
  }

  join() {
    this.state.join = !this.state.join;
    this.redraw();
  }

  // Takes the last step back; false when there is none.
  stepBack() {
    const s = this.state;
    if (this.empty()) return false;
    if (this.ask.kind === "order") {
      const last = s.order[s.order.length - 1];
      last.pop();
      if (!last.length) s.order.pop();
      s.join = false;
    } else if (this.ask.kind === "duel") {
      s.scale = null;
    } else if (s.worst >= 0) {
      s.worst = -1;
    } else {
      s.best = -1;
    }
    this.redraw();
    return true;
  }

  toggleDifference() {
    if (this.ask.kind !== "duel") return;
    this.marked = !this.marked;
    this.drawTexts();
  }

  // ---- drawing ----

  card(i) {
    const name = "Answer " + (i + 1);
    const text = make("div", { class: "text" });
    const buttons = make("div", { class: "choose" });
    const kind = this.ask.kind;
    if (kind === "best_worst") {
      buttons.append(
        make("button", { type: "button", class: "best", "aria-pressed": "false", "aria-label": name + " is the best", onclick: () => this.best(i) }, "Best ", make("kbd", {}, String(i + 1))),
        make("button", { type: "button", class: "worst", "aria-pressed": "false", "aria-label": name + " is the worst", onclick: () => this.worst(i) }, "Worst ", make("kbd", {}, "⇧" + (i + 1))));
    } else if (kind === "duel") {
      buttons.append(make("button", { type: "button", class: "best", "aria-pressed": "false", "aria-label": name + " is better", onclick: () => this.best(i) }, "Better ", make("kbd", {}, String(i + 1))));
    } else {
      buttons.append(make("button", { type: "button", class: "best", "aria-pressed": "false", "aria-label": name + " is next", onclick: () => this.best(i) }, "Next ", make("kbd", {}, String((i + 1) % 10))));
    }
    const end = make("div", { class: "end" });
    const badge = make("span", { class: "badge" });
    const e = make("section", { class: "card", "aria-label": name }, make("div", { class: "top" }, make("h3", {}, name), badge, buttons), text, end);
    if (kind === "order") {
      e.addEventListener("click", (event) => {
        if (!event.target.closest("button") && getSelection().isCollapsed) this.best(i);
      });
    }
    return { e, text, badge, end, best: buttons.querySelector(".best"), worst: buttons.querySelector(".worst") };
  }

  drawScale() {
    const legend = make("legend", {}, "How much better?");
    this.radios = SCALE.map((word, k) => {
      const value = k - 3;
      const side = value < 0 ? "answer 1 " : value > 0 ? "answer 2 " : "";
      const input = make("input", { type: "radio", name: "scale", value: String(value), "aria-label": side + word });
      input.addEventListener("change", () => this.scale(value));
      return [input, make("label", {}, input, make("span", { "aria-hidden": "true" }, (value < 0 ? "1 " : value > 0 ? "2 " : "") + word))];
    });
    return make("fieldset", { class: "scale" }, legend, ...this.radios.map((r) => r[1]));
  }

  draw(into) {
    this.cards = this.ask.shown.map((_, i) => this.card(i));
    const grid = make("div", { class: "cards " + this.ask.kind }, ...this.cards.map((c) => c.e));
    into.append(grid);
    if (this.ask.kind === "duel") into.append(this.drawScale());
    this.drawTexts();
    this.watch();
    this.redraw(true);
  }

  drawTexts() {
    const [a, b] = this.cards;
    const done = this.marked && this.ask.kind === "duel" && showDifference(a.text, b.text, this.ask.shown[0], this.ask.shown[1]);
    if (!done) this.cards.forEach((c, i) => showText(c.text, this.ask.shown[i], this.ask.language));
  }

  // A card has been seen when its end was on the screen.
  watch() {
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        this.seen.add(this.cards.findIndex((c) => c.end === entry.target));
        this.observer.unobserve(entry.target);
      }
      this.changed();
    });
    this.cards.forEach((c) => this.observer.observe(c.end));
  }

  redraw(first) {
    const s = this.state;
    this.cards.forEach((c, i) => {
      let badge = "";
      let best = false;
      let worst = false;
      if (this.ask.kind === "best_worst") {
        best = s.best === i;
        worst = s.worst === i;
        badge = best ? "best" : worst ? "worst" : "";
      } else if (this.ask.kind === "duel") {
        best = s.scale !== null && (i === 0 ? s.scale < 0 : s.scale > 0);
        badge = best ? SCALE[s.scale + 3] : s.scale === 0 ? "tie" : "";
      } else {
        let rank = 1;
        for (const block of s.order) {
          if (block.includes(i)) {
            badge = (block.length > 1 ? "shares place " : "place ") + rank;
            best = true;
          }
          rank += block.length;
        }
      }
      c.e.classList.toggle("is-best", best);
      c.e.classList.toggle("is-worst", worst);
      c.badge.textContent = badge;
      c.best.setAttribute("aria-pressed", String(best));
      if (c.worst) c.worst.setAttribute("aria-pressed", String(worst));
    });
    if (this.radios) for (const [input] of this.radios) input.checked = s.scale !== null && Number(input.value) === s.scale;
    if (!first) this.changed();
  }

  close() { this.observer.disconnect(); }
}
