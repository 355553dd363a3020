// The list of live calls as they change, and the search for all calls.

import { get } from './api.js';
import { clock, duration, h, legState, setText, stateOf, toast } from './dom.js';
import { listen } from './live.js';

// Seconds that an ended call stays in the list; the most calls in the list.
const LINGER = 12;
const MOST = 200;
const GROUPS = {
  all: () => true,
  waiting: (call) => call.state === 'queued' || call.state === 'dialing',
  // The source rings, or the destination does.
  ringing: (call) => call.state === 'ringing' || call.state === 'answered',
  talking: (call) => call.state === 'bridged' && !call.parked,
  parked: (call) => Boolean(call.parked),
};

export async function open(root, { live, signal, keys, go }) {
  const query = new URLSearchParams(location.search);
  let group = query.get('show') in GROUPS ? query.get('show') : 'all';
  // The rows by the call's id, and the number of all live calls.
  const rows = new Map();
  let total = 0;
  let asked = 0;

  const search = h('input', {
    type: 'search', placeholder: 'Search id, nonce, number, extension', 'aria-label': 'Search calls', value: query.get('q') ?? '',
    autocomplete: 'off', spellcheck: 'false', maxlength: 255,
  });
  const text = () => search.value.trim();
  const chips = Object.fromEntries(Object.keys(GROUPS).map((name) => [name,
    h('button', { class: `chip ${name}`, onclick: () => { group = name; remember(); draw(); } })]));
  const note = h('p', { class: 'note', role: 'status' });
  const body = h('tbody');
  const table = h('table', { class: 'calls' },
    h('thead', null, h('tr', null, ['State', 'From', 'To', 'Parties', 'Time', 'Id'].map((name) => h('th', { scope: 'col' }, name)))),
    body);
  root.append(
    h('h1', { class: 'hidden' }, 'Calls'),
    h('div', { class: 'tools' }, h('div', { class: 'find' }, search, h('kbd', { 'aria-hidden': 'true' }, '/')), h('div', { class: 'chips', role: 'group', 'aria-label': 'Show' }, Object.values(chips))),
    table, note);

  function remember() {
    const words = new URLSearchParams();
    if (text()) words.set('q', text());
    if (group !== 'all') words.set('show', group);
    history.replaceState(null, '', `/console${words.size ? `?${words}` : ''}`);
  }

  function put(call) {
    const known = rows.get(call.id);
    if (known) known.update(call);
    else rows.set(call.id, new Row(call));
  }

  async function load() {
    const mine = ++asked;
    try {
      const found = await get(text() ? `calls?q=${encodeURIComponent(text())}` : 'calls');
      if (mine !== asked || signal.aborted) return;
      total = found.total ?? found.calls.length;
      const ids = new Set(found.calls.map((call) => call.id));
      for (const [id, row] of rows) {
        // A call that has just ended leaves the list by itself.
        if (!ids.has(id) && !(row.call.ended && !text())) rows.delete(id);
      }
      found.calls.forEach(put);
      draw();
    } catch (error) {
      if (!signal.aborted && error.status !== 401) toast(error.message, 'bad');
    }
  }

  async function refresh(ids) {
    // More ids do not fit into a URL.
    if (ids.length > 150) return load();
    try {
      const found = await get(`calls?ids=${ids.join(',')}`);
      if (signal.aborted) return;
      const words = text();
      if (!words) total = found.total;
      const told = new Set(found.calls.map((call) => call.id));
      // A call of somebody else that the own phone has left is shown no longer.
      for (const id of ids) if (!told.has(id)) rows.delete(id);
      for (const call of found.calls) {
        // A new call that has already ended is shown too.
        const recent = !call.ended || clock() - call.ended < LINGER;
        if (rows.has(call.id) || (words ? has(call, words) : recent)) put(call);
      }
      draw();
    } catch { /* The list is read anew with the next connection. */ }
  }

  function draw() {
    const now = clock();
    const all = [...rows.values()].sort((a, b) => b.call.accepted - a.call.accepted || (a.call.id < b.call.id ? 1 : -1));
    for (const row of text() ? [] : all.splice(2 * MOST)) rows.delete(row.call.id);
    let shown = all.filter((row) => GROUPS[group](row.call));
    if (!text()) shown = shown.slice(0, MOST);
    // Rows move only if the order changes, so that the focus stays.
    shown.forEach((row, index) => {
      if (body.children[index] !== row.node) body.insertBefore(row.node, body.children[index] ?? null);
    });
    while (body.children.length > shown.length) body.lastChild.remove();
    for (const [name, chip] of Object.entries(chips)) {
      const count = all.filter((row) => !row.call.ended && GROUPS[name](row.call)).length;
      setText(chip, `${name} ${name === 'all' && !text() ? total : count}`);
      chip.setAttribute('aria-pressed', String(name === group));
    }
    table.hidden = !shown.length;
    note.replaceChildren();
    if (!shown.length) {
      note.append(...(text() ? [`Nothing found for “${text()}”.`]
        : group !== 'all' ? [`No calls are ${group}.`]
          : ['No live calls. ', h('a', { href: '/console/place' }, 'Place one'), ' or press ', h('kbd', null, 'n'), '.']));
    } else if (!text() && total > MOST) {
      note.append(`The newest ${shown.length} of ${total} live calls. Search finds the others.`);
    }
    tick(now);
  }

  function tick(now = clock()) {
    for (const [id, row] of rows) {
      if (row.call.ended && !text() && now - row.call.ended > LINGER) {
        rows.delete(id);
        row.node.remove();
        table.hidden = !body.children.length;
        if (table.hidden) draw();
      } else row.tick(now);
    }
  }

  function step(by) {
    const links = [...body.querySelectorAll('a')];
    const at = links.indexOf(document.activeElement);
    links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by))]?.focus();
  }

  Object.assign(keys, {
    '/': () => search.select(),
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
  });
  let wait = 0;
  search.addEventListener('input', () => {
    clearTimeout(wait);
    wait = setTimeout(() => { remember(); rows.clear(); load(); }, 250);
  });
  search.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown') { event.preventDefault(); step(1); }
    if (event.key === 'Enter') { const only = body.querySelectorAll('a'); if (only.length === 1) go(only[0].getAttribute('href')); else step(1); }
  });
  listen(live, signal, { open: load, calls: refresh });
  const ticking = setInterval(tick, 1000);
  signal.addEventListener('abort', () => { clearInterval(ticking); clearTimeout(wait); });
  await load();
}

const has = (call, words) =>
  [call.id, call.nonce, call.extension, ...call.source, ...call.destination, ...call.legs.map((leg) => leg.number)]
    .some((word) => word?.includes(words));

/** The row of one call. Its nodes stay, so that focus and selection stay when the call changes. */
class Row {
  constructor(call) {
    this.state = h('span', { class: 'state' });
    this.from = h('td', { class: 'number from' });
    this.to = h('td', { class: 'number to' });
    this.legs = h('td', { class: 'legs' });
    this.time = h('td', { class: 'time' });
    this.link = h('a', { href: `/console/calls/${call.id}` }, call.id);
    this.node = h('tr', { 'data-id': call.id, onclick: (event) => { if (!event.target.closest('a') && !String(getSelection())) this.link.click(); } },
      h('td', null, this.state), this.from, this.to, this.legs, this.time, h('td', { class: 'id' }, this.link));
    this.update(call);
  }

  update(call) {
    this.call = call;
    const state = stateOf(call);
    this.state.className = `state ${state.class}`;
    setText(this.state, call.ahead === undefined ? state.text : `waiting, ${call.ahead} before it`);
    this.state.title = call.ended ? `${call.cause ?? ''} by ${call.endedBy ?? 'unknown'}` : call.unreachable ? 'The switch of this call is unreachable' : '';
    this.node.classList.toggle('over', Boolean(call.ended));
    this.node.classList.toggle('unreachable', Boolean(call.unreachable));
    setText(this.from, call.source.join(', '));
    setText(this.to, call.destination.join(', '));
    this.link.setAttribute('aria-label', `${state.text}: ${call.source.join(', ')} to ${call.destination.join(', ')}, call ${call.id}`);
    this.legs.replaceChildren(...call.legs.map((leg) => h('span', { class: `leg ${legState(leg).class}`, title: `${leg.role} ${leg.number}: ${leg.cause ?? legState(leg).text}` },
      leg.number,
      leg.hold && h('b', { class: 'mark hold' }, 'hold'),
      leg.lot !== undefined && h('b', { class: 'mark parked' }, `P${leg.lot}`),
      leg.rec && h('b', { class: 'mark recorded' }, 'rec'),
      leg.action && h('b', { class: 'mark' }, leg.action))));
    this.tick(clock());
  }

  tick(now) {
    const { accepted, bridged, ended } = this.call;
    setText(this.time, duration((ended ?? now) - (ended ? accepted : bridged ?? accepted)));
    this.time.title = ended ? 'from acceptance to the end' : bridged ? 'talking' : 'since acceptance';
  }
}
