// Which calls change, as the server tells it. The browser connects again by itself and says what
// it heard last; whoever listens reads the calls that changed.

import { get } from './api.js';

// Milliseconds for which changes are gathered (where many come: longer), and a tab may be out of
// sight.
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
    // A browser has few connections to one server: tabs that nobody sees give theirs back.
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
      // The browser gives up where the answer is none it can use: a server that starts, say.
      if (source.readyState === EventSource.CLOSED) {
        this.#retry = setTimeout(() => this.#again(), 2000);
      }
    });
    source.addEventListener('call', (event) => this.#note(JSON.parse(event.data).id));
    // What was missed is more than the server remembers.
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
