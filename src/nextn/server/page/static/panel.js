// The panel on the right: how fast an answer is written, and what its drafts bring.

import { element } from "./dom.js";
import { acceptanceChart, legend, shareBar } from "./tokens.js";

const oneDecimal = (value) => value.toFixed(1);

/** Seconds for people, such as "0.31 s" and "12.4 s". */
export const seconds = (value) => `${value.toFixed(value < 9.95 ? 2 : 1)} s`;

/** One line about an answer. */
export function speedLine(speed) {
  const parts = [`${oneDecimal(speed.rate)} tokens/s`];
  if (speed.perStep) parts.push(`${speed.perStep.toFixed(2)} tokens/step`);
  return parts.join(" · ");
}

/** Put an answer's figures into the panel; null for none. */
export function fillPanel(body, answer) {
  const speed = answer?.speed;
  if (!speed) {
    body.replaceChildren(element("p", { class: "empty" }, "Figures appear here while an answer is written."));
    return;
  }
  const figures = [
    [oneDecimal(speed.rate), "tokens per second"],
    [speed.perStep ? speed.perStep.toFixed(2) : "–", "tokens per step"],
    [String(speed.tokens), "tokens"],
    [speed.firstSeconds === null ? "–" : seconds(speed.firstSeconds), "until the first token"],
  ];
  if (speed.drafted) figures.push([`${Math.round((100 * speed.accepted) / speed.drafted)}%`, "of the drafted tokens accepted"]);
  if (speed.cachedTokens) figures.push([`${speed.cachedTokens}/${speed.promptTokens}`, "prompt tokens were in the cache"]);
  const parts = [element("dl", { class: "figures" }, figures.map(([value, name]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))))];
  if (Object.keys(speed.byOrigin).length) {
    parts.push(element("h3", {}, "Who foresaw the tokens"), shareBar(speed.byOrigin), legend(speed.byOrigin));
  }
  if (speed.positions.length) parts.push(element("h3", {}, "Accepted by position in the draft, %"), acceptanceChart(speed.positions));
  body.replaceChildren(...parts);
}
