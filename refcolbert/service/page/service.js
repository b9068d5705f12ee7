// What the page asks of the service, and what can go wrong.

export class Problem extends Error {
  constructor(status, message, wait) {
    super(message);
    this.status = status; // 0: no answer at all
    this.wait = wait; // seconds after which to try again, if the service says so
  }
}

const TOKEN = "refcolbert-token"; // kept as long as the tab, where a service wants one

export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

/** POST `body` to `path`, or GET without one; the answer's JSON. Throws `Problem`, and AbortError when aborted. */
export async function ask(path, body, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...(body ? { "Content-Type": "application/json" } : {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { headers, signal, ...(body ? { method: "POST", body: JSON.stringify(body) } : {}) });
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
