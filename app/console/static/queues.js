// RQ's queues and workers, and the calls that wait for their turn.

import { get } from './api.js';
import { clock, duration, h } from './dom.js';

const EVERY = 3000;

export async function open(root, { signal }) {
  const body = h('div', { class: 'columns' });
  root.append(h('h1', null, 'Queues and workers'), body);

  async function load() {
    try {
      const found = await get('queues');
      if (!signal.aborted) body.replaceChildren(...draw(found));
    } catch (error) {
      if (!body.children.length) body.append(h('p', { class: 'error', role: 'alert' }, error.message));
    }
  }
  await load();
  const timer = setInterval(load, EVERY);
  signal.addEventListener('abort', () => clearInterval(timer));
}

function draw({ queues, workers, lines }) {
  const now = clock();
  const ago = (at) => (at ? duration(now - at) : '–');
  return [
    table('Queues', ['Queue', 'Waiting', 'Under way', 'Failed'], queues.map((each) =>
      [each.name, each.waiting, each.started, each.failed ? h('b', { class: 'bad' }, each.failed) : 0]), 'No queues.'),
    table('Waiting calls', ['Organization', 'Calls', 'The first for'], lines.map((each) =>
      [each.organization, each.waiting, ago(each.since)]), 'No call waits for its turn.'),
    table('Workers', ['Worker', 'Queue', 'State', 'Age', 'Heard', 'Jobs', 'Failed'], workers.map((each) =>
      [each.name, each.queues, each.state, ago(each.born), `${ago(each.heartbeat)} ago`, each.done, each.failed ? h('b', { class: 'bad' }, each.failed) : 0]), 'No worker: calls wait.'),
  ];
}

function table(title, heads, rows, none) {
  return h('section', { class: 'card', 'aria-label': title }, h('h2', null, title), rows.length
    ? h('div', { class: 'wide', tabindex: 0, role: 'region', 'aria-label': title }, h('table', null,
      h('thead', null, h('tr', null, heads.map((head, index) => h('th', { scope: 'col', class: index && typeof rows[0][index] === 'number' ? 'count' : null }, head)))),
      h('tbody', null, rows.map((row) => h('tr', null, row.map((cell, index) => h('td', { class: index && typeof rows[0][index] === 'number' ? 'count' : null }, cell instanceof Node ? cell : String(cell))))))))
    : h('p', { class: 'note' }, none));
}
