// The server's events about changed calls. The browser reconnects by itself and names the last
// event that it got. Listeners of Live read the calls that changed.

import { get } from './api.js';

// Milliseconds for which changes are gathered, longer if many come; and for which a hidden tab stays
// connected.
const GATHER = 200;
const GATHER_MANY = 1000;
const MANY = 20;
const UNSEEN = 30_000;

export class Live extends EventTarget {
  #source = null;
  #changed = new Set();
  #timer = 0;
  #gather = GATHER;
  #retry = 0;
  #hidden = 0;
  up = false;

  constructor() {
    super();
    // A browser has few connections to one server, so hidden tabs close theirs.
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.#hidden);
      if (document.hidden) this.#hidden = setTimeout(() => this.#source?.close(), UNSEEN);
      else if (this.#source?.readyState === EventSource.CLOSED) this.start();
    });
  }

  start() {
    this.stop();
    const source = new EventSource('/console/api/events');
    this.#source = source;
    source.addEventListener('open', () => this.#tell(true));
    source.addEventListener('error', () => {
      this.#tell(false);
      // The browser gives up after an unusable answer, for example from a server that is starting.
      if (source.readyState === EventSource.CLOSED) {
        this.#retry = setTimeout(() => this.#again(), 2000);
      }
    });
    source.addEventListener('call', (event) => this.#note(JSON.parse(event.data).id));
    // The server no longer keeps all missed changes: the pages load everything again.
    source.addEventListener('reset', () => this.dispatchEvent(new Event('open')));
  }

  async #again() {
    try {
      if ((await get('session')).app) this.start();
      else dispatchEvent(new Event('logged-out'));
    } catch {
      this.#retry = setTimeout(() => this.#again(), 2000);
    }
  }

  stop() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #tell(up) {
    this.up = up;
    this.dispatchEvent(new Event(up ? 'open' : 'down'));
  }

  #note(id) {
    this.#changed.add(id);
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      const ids = [...this.#changed];
      this.#changed.clear();
      this.#gather = ids.length > MANY ? GATHER_MANY : GATHER;
      this.dispatchEvent(new CustomEvent('calls', { detail: ids }));
    }, this.#gather);
  }
}

/** Listen until the signal is aborted. */
export function listen(live, signal, { open, calls, down }) {
  if (open) live.addEventListener('open', open, { signal });
  if (down) live.addEventListener('down', down, { signal });
  if (calls) live.addEventListener('calls', (event) => calls(event.detail), { signal });
}
