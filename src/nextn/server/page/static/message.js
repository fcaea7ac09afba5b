// One message on the page: what a user said, or an answer, or two answers beside each other.

import { compareAnswers } from "./answer.js";
import { copyButton } from "./copy.js";
import { element, icon, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { seconds, speedLine } from "./panel.js";
import { legend, TokenView } from "./tokens.js";

const ENDED = { length: "Ended at the limit of tokens.", stopped: "Stopped.", context: "Ended: the context is full." };

/** A user's message; `edit` is told the new text. */
export class UserMessage {
  constructor(message, edit) {
    this.message = message;
    this.submit = edit;
    this.element = element("article", { class: "message user", "aria-label": "You" });
    this.show();
  }

  update() {}

  show() {
    this.element.replaceChildren(
      element("div", { class: "said" }, this.message.content),
      element("div", { class: "actions" }, copyButton("Copy the message", () => this.message.content), iconButton("edit", "Edit the message", () => this.edit())),
    );
  }

  edit() {
    const area = element("textarea", { "aria-label": "Edit the message" });
    area.value = this.message.content;
    const leave = () => {
      this.show();
      this.element.querySelector(".actions button:last-child").focus();
    };
    const send = () => area.value.trim() && this.submit(area.value);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        leave();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    });
    this.element.replaceChildren(
      element(
        "div",
        { class: "edit" },
        area,
        element(
          "div",
          {},
          element("button", { type: "button", class: "button", onclick: leave }, "Cancel"),
          element("button", { type: "button", class: "button primary", onclick: send }, "Send"),
        ),
      ),
    );
    area.focus();
  }
}

/** An answer, with the one without MTP beside it if there is one. */
export class AssistantMessage {
  /**
   * @param {Object} actions `again` writes the answer anew, `select` shows its figures
   */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.element = element("article", { class: "message assistant", "aria-label": "Answer" });
    this.views = [];
    this.layout = null;
  }

  /**
   * Show what has changed.
   * @param {Object} state `origins`: show tokens; `writing`: which answer is written, null for none;
   *     `last`: it can be written again; `selected`: its figures are shown
   */
  update(state) {
    const { message } = this;
    const layout = message.plain ? "two" : "one";
    if (this.layout !== layout) {
      this.layout = layout;
      this.verdict = element("div");
      this.views = (message.plain ? [message, message.plain] : [message]).map((answer) => new AnswerView(answer));
      this.legend = legend();
      this.foot = element("div");
      this.element.replaceChildren(
        this.verdict,
        this.legend,
        message.plain ? element("div", { class: "comparison" }, this.views.map((view, n) => this.side(view, n))) : this.views[0].element,
        this.foot,
      );
    }
    const { writing } = state;
    this.element.setAttribute("aria-busy", String(writing !== null));
    for (const view of this.views) view.update(state.origins, writing === view.answer);
    this.legend.hidden = !this.views.some((view) => view.mode === "tokens");
    if (message.plain) this.updateSides(writing);
    const key = JSON.stringify([writing !== null, state.last, state.selected, message.speed?.rate, message.finish, message.error]);
    if (key !== this.footKey) this.showFoot(state);
    this.footKey = key;
  }

  side(view, n) {
    view.note = element("span", {}, "");
    view.pace = element("i");
    return element(
      "section",
      { class: n ? "side plain" : "side", "aria-label": n ? "Without MTP" : "With MTP" },
      element("div", { class: "side-head" }, element("h3", {}, n ? "Without MTP" : "With MTP"), view.note),
      element("div", { class: "pace", "aria-hidden": "true" }, view.pace),
      view.element,
    );
  }

  updateSides(writing) {
    const [ours, plain] = this.views.map((view) => view.answer);
    const slowest = Math.max(ours.speed?.seconds ?? 0, plain.speed?.seconds ?? 0);
    for (const view of this.views) {
      const { speed } = view.answer;
      view.note.textContent = speed ? `${seconds(speed.seconds)} · ${speed.rate.toFixed(1)} tokens/s` : writing === null ? "" : "waits";
      view.pace.style.width = `${slowest ? (100 * (speed?.seconds ?? 0)) / slowest : 0}%`;
    }
    const done = writing === null && ours.finish && plain.finish && ours.finish !== "stopped" && plain.finish !== "stopped";
    this.verdict.hidden = !done;
    if (done) this.showVerdict(compareAnswers(ours, plain));
  }

  showVerdict({ equal, first, ratio, times }) {
    const saved = ratio === null ? null : ratio >= 1 ? `${ratio.toFixed(2)}× faster` : `${(1 / ratio).toFixed(2)}× slower`;
    const parts = [
      element("span", {}, icon(equal ? "check" : "close"), equal ? "The texts are equal" : `The texts differ from character ${first + 1} on`),
      saved === null ? null : element("span", {}, element("strong", {}, saved), `with MTP: ${seconds(times[0])} instead of ${seconds(times[1])}`),
    ];
    const timed = this.views.every((view) => view.answer.tokens.some((token) => token[2] > 0));
    if (timed) parts.push(element("button", { type: "button", class: "button", onclick: () => this.replay() }, "Replay side by side"));
    const key = JSON.stringify([equal, saved, times, timed]);
    if (key === this.verdictKey) return;
    this.verdictKey = key;
    this.verdict.className = "verdict";
    this.verdict.dataset.equal = equal;
    this.verdict.replaceChildren(...parts.filter(Boolean));
  }

  /** Show both answers again at the times at which their tokens came. */
  replay() {
    cancelAnimationFrame(this.frame);
    const started = performance.now();
    const ends = this.views.map((view) => view.begin());
    this.legend.hidden = false;
    const longest = Math.max(...ends);
    const step = () => {
      const now = performance.now() - started;
      this.views.forEach((view, n) => {
        view.replay(now);
        view.pace.style.width = `${(100 * Math.min(now, ends[n])) / longest}%`;
      });
      if (now < longest && this.element.isConnected) this.frame = requestAnimationFrame(step);
      else this.endReplay();
    };
    step();
  }

  endReplay() {
    for (const view of this.views) view.end();
    this.legend.hidden = !this.views.some((view) => view.mode === "tokens");
  }

  showFoot({ writing, last, selected }) {
    const { message } = this;
    const parts = [];
    if (writing === null) {
      parts.push(copyButton("Copy the answer", () => message.content));
      if (last) parts.push(iconButton("again", "Write the answer again", this.actions.again));
    }
    if (message.speed) {
      const attributes = { type: "button", class: "speed", title: "Show its figures", "aria-current": selected ? "true" : null, onclick: this.actions.select };
      parts.push(element("button", attributes, speedLine(message.speed)));
    }
    const notes = [];
    if (message.error) notes.push(element("div", { class: "failure", role: "alert" }, message.error));
    if (ENDED[message.finish] && writing === null) notes.push(element("div", { class: "ended" }, ENDED[message.finish]));
    // An update must not take the focus from a button that is still there.
    const focused = this.foot.contains(document.activeElement) ? document.activeElement.getAttribute("class") : null;
    this.foot.replaceChildren(...notes, element("div", { class: "actions" }, parts));
    if (focused) this.foot.querySelector(`button.${focused.split(" ").join(".")}`)?.focus();
  }
}

/** The text of an answer: as Markdown with its reasoning folded, or token by token. */
class AnswerView {
  constructor(answer) {
    this.answer = answer;
    this.element = element("div", { class: "answer" });
    this.mode = null;
    this.replaying = false;
  }

  update(origins, writing) {
    if (this.replaying) return;
    this.asked = origins;
    const { answer } = this;
    const empty = !answer.content && !answer.reasoning && !answer.tokens.length;
    const mode = empty ? (writing ? "waiting" : "empty") : origins && answer.tokens.length ? "tokens" : "text";
    if (mode !== this.mode) this.show(mode);
    if (mode === "tokens") this.tokens.update(answer.tokens);
    if (mode === "text") {
      this.reasoning.hidden = !answer.reasoning;
      this.reasoning.firstChild.textContent = writing && !answer.content ? "Thinking …" : "Reasoning";
      this.thoughts.update(answer.reasoning);
      this.text.update(answer.content);
    }
  }

  show(mode) {
    this.mode = mode;
    if (mode === "waiting") {
      this.element.replaceChildren(element("span", { class: "waiting", role: "img", "aria-label": "Writing" }, element("i"), element("i"), element("i")));
    } else if (mode === "tokens") {
      this.tokens = new TokenView();
      this.element.replaceChildren(this.tokens.element);
    } else if (mode === "text") {
      this.text = new MarkdownView();
      this.thoughts = new MarkdownView();
      this.reasoning = element("details", { class: "reasoning" }, element("summary", {}, "Reasoning"), this.thoughts.element);
      this.element.replaceChildren(this.reasoning, this.text.element);
    } else {
      this.element.replaceChildren();
    }
  }

  /** Begin a replay; returns how many milliseconds it takes, from the first token on. */
  begin() {
    this.replaying = true;
    this.show("tokens");
    const times = this.answer.tokens.map((token) => token[2]).filter((at) => at !== null);
    this.origin = times[0];
    return times.at(-1) - this.origin;
  }

  replay(now) {
    const { tokens } = this.answer;
    let end = tokens.findIndex(([, , at]) => at !== null && at - this.origin > now);
    if (end < 0) end = tokens.length;
    this.tokens.update(tokens.slice(0, end));
  }

  end() {
    this.replaying = false;
    this.mode = null;
    this.update(this.asked, false);
  }
}
