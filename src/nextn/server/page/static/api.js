// Speaks to the server: the list of models, and answers as they are written.

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];

/** What the server said no to, in its own words. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The names of the models that can be asked, as [{ id }]. */
export async function listModels(settings) {
  const response = await fetch("v1/models", { headers: headersOf(settings) });
  if (!response.ok) throw await errorOf(response);
  const { data } = await response.json();
  return data;
}

/** The body of a request; settings that are not set are left to the server. */
export function requestOf(settings, model, messages) {
  const request = {
    model: model || undefined,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    mtp: /^\d+$/.test(settings.mtp) ? Number(settings.mtp) : settings.mtp,
    nextn: { tokens: true },
  };
  if (settings.system.trim()) request.messages = [{ role: "system", content: settings.system }, ...messages];
  for (const name of NUMBERS) if (settings[name] !== null) request[name] = settings[name];
  return request;
}

/**
 * The chunks of an answer as they arrive.
 * @param {AbortSignal} signal ends the answer, also at the server
 */
export async function* streamChat(settings, request, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headersOf(settings) },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok) throw await errorOf(response);
  for await (const data of readEvents(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message ?? "The server reported an error.", 500);
    yield chunk;
  }
  throw new ServerError("The connection ended before the answer did.", 0);
}

/** The data of server-sent events. */
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    pending += value;
    const lines = pending.split(/\r\n|\n|\r(?!$)/);
    pending = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}

function headersOf(settings) {
  return settings.api_key ? { Authorization: `Bearer ${settings.api_key}` } : {};
}

async function errorOf(response) {
  let message = `The server answered with status ${response.status}.`;
  try {
    message = (await response.json()).error.message ?? message;
  } catch {
    // It is not one of the server's own errors; a proxy may be between.
  }
  return new ServerError(message, response.status);
}
