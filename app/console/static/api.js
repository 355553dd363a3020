// Requests of the pages to the server. Scripts cannot read the cookie that names the session.

import { setClock } from './dom.js';

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Send a request. Returns the server's JSON with `status` added. Throws Refused. */
export async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(`/console/api/${path}`, {
      method,
      headers: { 'X-Ringback-Console': '1', 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, 'unreachable', 'The Ringback server is unreachable.');
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    if (response.status === 401 && path !== 'session') dispatchEvent(new Event('logged-out'));
    const { code, message = `The server answered ${response.status}.`, reason } = answer.error ?? {};
    throw new Refused(response.status, code, [message, reason].filter(Boolean).join(' '));
  }
  if (answer.now) setClock(answer.now);
  return { ...answer, status: response.status };
}

export const get = (path) => ask('GET', path);
