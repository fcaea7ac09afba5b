// One answer while it is written: its text, its tokens with their origins, and how fast it goes.

import { ServerError, streamChat } from "./api.js";

export const ORIGINS = ["trunk", "head", "suffix", "grammar", "other"];

const NAMES = {
  trunk: "the model itself",
  head: "prediction head",
  suffix: "copied from before",
  grammar: "forced by the grammar",
  other: "another drafter",
};

/** What an origin is called on the page. */
export const nameOfOrigin = (origin) => NAMES[origin];

export function newAnswer(model) {
  return { content: "", reasoning: "", tokens: [], model, speed: null, finish: null, error: null };
}

/**
 * Let the server write into an answer.
 * @param {Function} changed called after every chunk
 * @returns once it is finished, was stopped, or failed; the answer says which.
 */
export async function write(answer, settings, request, signal, changed) {
  const meter = new Meter();
  try {
    for await (const chunk of streamChat(settings, request, signal)) {
      const choice = chunk.choices?.[0];
      answer.content += choice?.delta?.content ?? "";
      answer.reasoning += choice?.delta?.reasoning_content ?? "";
      if (choice?.finish_reason) answer.finish = choice.finish_reason;
      answer.tokens.push(...meter.read(chunk, performance.now()));
      answer.speed = meter.speed();
      changed();
    }
  } catch (error) {
    if (signal.aborted) answer.finish = "stopped";
    else if (error instanceof ServerError) answer.error = error.message;
    else if (error instanceof TypeError) answer.error = "The server cannot be reached.";
    else answer.error = `The answer cannot be read: ${error.message}`;
  }
  if (answer.speed) answer.speed.live = false;
  changed();
}

/** Counts tokens and steps, and takes the time. */
class Meter {
  constructor() {
    this.started = performance.now();
    this.first = null; // when the first token came
    this.firstTokens = 0; // tokens that came with it
    this.last = null;
    this.tokens = 0;
    this.steps = 0;
    this.byOrigin = {};
    this.begins = true; // whether the next token is the first of its step
    this.positions = []; // for each position in the draft: how many were judged, and the accepted share
    this.timings = null;
  }

  /** Take in a chunk; returns its tokens as [text, origin, milliseconds if it begins a step]. */
  read(chunk, now) {
    this.timings = chunk.timings ?? this.timings;
    const { acceptance_at: shares, judged_at: judged } = chunk.nextn ?? {};
    if (shares && judged) this.positions = shares.map((share, n) => [judged[n] ?? 0, share]);
    const tokens = chunk.nextn?.tokens ?? [];
    if (!tokens.length) return [];
    this.tokens += tokens.length;
    if (this.first === null) {
      this.first = now;
      this.firstTokens = tokens.length;
    }
    this.last = now;
    return tokens.map(({ text, origin }) => {
      const known = ORIGINS.includes(origin) ? origin : "other";
      const at = this.begins ? Math.round(now - this.started) : null;
      this.steps += this.begins ? 1 : 0;
      this.byOrigin[known] = (this.byOrigin[known] ?? 0) + 1;
      // A step yields the drafted tokens that were right, and then the one that it yields anyway.
      this.begins = known === "trunk";
      return [text, known, at];
    });
  }

  /** The figures so far; those that the server took are better than ours, and come last. */
  speed() {
    if (!this.tokens && !this.timings) return null;
    const { timings } = this;
    const seconds = timings ? timings.predicted_ms / 1000 : (this.last - this.first) / 1000;
    const measured = this.tokens - this.firstTokens;
    return {
      live: true,
      tokens: timings?.predicted_n ?? this.tokens,
      seconds,
      rate: timings ? timings.predicted_per_second : seconds > 0 ? measured / seconds : 0,
      firstSeconds: this.first === null ? null : (this.first - this.started) / 1000,
      steps: this.steps,
      perStep: this.steps ? this.tokens / this.steps : null,
      drafted: timings?.draft_n ?? null,
      accepted: timings?.draft_n_accepted ?? null,
      promptTokens: timings ? timings.prompt_n + (timings.cache_n ?? 0) : null,
      cachedTokens: timings?.cache_n ?? null,
      byOrigin: { ...this.byOrigin },
      positions: this.positions.map((counts) => [...counts]),
    };
  }
}

/** How two answers compare: whether the texts are equal, and where they first differ. */
export function compareAnswers(answer, plain) {
  const texts = [answer, plain].map((one) => one.reasoning + one.content);
  const equal = texts[0] === texts[1];
  let first = 0;
  while (!equal && texts[0][first] === texts[1][first]) first += 1;
  const times = [answer, plain].map((one) => one.speed?.seconds ?? 0);
  return { equal, first, ratio: times[0] > 0 && times[1] > 0 ? times[1] / times[0] : null, times };
}
