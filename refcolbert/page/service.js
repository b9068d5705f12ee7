// What the page asks of the service, and what can go wrong.

export class Problem extends Error {
  constructor(status, message, wait) {
    super(message);
    this.status = status; // 0: no answer at all
    this.wait = wait; // seconds after which to try again, if the service says so
  }
}

/** POST `body` to `path`, or GET without one; the answer's JSON. Throws `Problem`, and AbortError when aborted. */
export async function ask(path, body, signal) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, { ...(body ? post : {}), signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer. Is it still running?");
  }
  const found = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (response.ok && found) return found;
  const wait = Number(response.headers.get("Retry-After")) || 0;
  throw new Problem(response.status, found?.error?.message ?? `The service answered ${response.status}.`, wait);
}
