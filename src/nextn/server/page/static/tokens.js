// The view that is nextn's own: tokens by origin, the legend, and acceptance by position.

import { drawing, element } from "./dom.js";
import { nameOfOrigin, ORIGINS } from "./answer.js";

const MAX_BARS = 8;

/** Shows tokens, which may become more. */
export class TokenView {
  constructor() {
    this.element = element("div", { class: "tokens" });
    this.shown = 0;
  }

  update(tokens) {
    if (tokens.length < this.shown) {
      this.element.replaceChildren();
      this.shown = 0;
    }
    const fresh = tokens.slice(this.shown).map(([text, origin, at]) =>
      element("span", { class: at === null ? "token" : "token step-start", "data-origin": origin, title: nameOfOrigin(origin) }, text),
    );
    this.element.append(...fresh);
    this.shown = tokens.length;
  }
}

/** What the colours and lines mean; with counts, how many tokens there are of each. */
export function legend(counts = null) {
  const total = counts ? Object.values(counts).reduce((sum, count) => sum + count, 0) : 0;
  const shown = ORIGINS.filter((origin) => (counts ? counts[origin] : origin !== "other"));
  return element(
    "ul",
    { class: "legend", "aria-label": "Origins of tokens" },
    shown.map((origin) =>
      element(
        "li",
        {},
        element("span", { class: "swatch token", "data-origin": origin, "aria-hidden": "true" }, "abc"),
        nameOfOrigin(origin),
        counts ? element("b", {}, `${Math.round((100 * counts[origin]) / total)}%`) : null,
      ),
    ),
  );
}

/** The shares of the origins as one bar; the legend beside it has the figures. */
export function shareBar(counts) {
  const parts = ORIGINS.filter((origin) => counts[origin]);
  const bar = element("div", { class: "share", "aria-hidden": "true" }, parts.map((origin) => element("i", { "data-origin": origin })));
  parts.forEach((origin, n) => (bar.children[n].style.flexGrow = counts[origin]));
  return bar;
}

/**
 * A chart of the drafted tokens that were accepted, by their position in the draft.
 * @param {number[][]} positions for each: how many tokens were judged, and the accepted share
 */
export function acceptanceChart(positions) {
  const shares = positions.slice(0, MAX_BARS).map(([, share]) => share);
  const [width, height, left, bottom, top] = [280, 150, 30, 20, 16];
  const plot = height - bottom - top;
  const step = (width - left) / Math.max(shares.length, 4);
  const percent = (share) => `${Math.round(100 * share)}%`;
  const y = (share) => top + plot * (1 - share);
  const lines = [0, 0.5, 1].flatMap((share) => [
    drawing("line", { class: "grid", x1: left, x2: width, y1: y(share), y2: y(share) }),
    drawing("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, String(100 * share)),
  ]);
  const bars = shares.flatMap((share, n) => {
    const middle = left + step * (n + 0.5);
    const wide = Math.min(step * 0.62, 34);
    return [
      drawing("rect", { class: "column", x: middle - wide / 2, y: y(share), width: wide, height: plot * share, rx: 3 }),
      drawing("text", { class: "value", x: middle, y: y(share) - 4, "text-anchor": "middle" }, String(Math.round(100 * share))),
      drawing("text", { x: middle, y: height - 5, "text-anchor": "middle" }, String(n + 1)),
    ];
  });
  const told = shares.map((share, n) => `position ${n + 1}: ${percent(share)} of ${positions[n][0]}`).join("; ");
  return drawing(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Accepted by position in the draft: ${told}` },
    lines,
    bars,
  );
}
