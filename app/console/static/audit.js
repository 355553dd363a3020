// The audit: who asked for what, from where, with which result. Newest first.

import { get } from './api.js';
import { h, moment } from './dom.js';

const FIELDS = [
  ['what', 'What', 'place'], ['result', 'Result', 'refused'], ['app', 'App', ''], ['user', 'User', ''],
  ['organization', 'Organization', '0003'], ['on', 'Call, switch, …', ''],
];
const HEADS = ['When', 'What', 'On', 'Result', 'Who', 'From', ''];

export async function open(root, { signal, go }) {
  const query = new URLSearchParams(location.search);
  const form = h('form', { class: 'filters', role: 'search' },
    FIELDS.map(([name, label, hint]) => h('label', null, label,
      h('input', { name, value: query.get(name) ?? '', placeholder: hint, autocomplete: 'off', spellcheck: 'false' }))),
    h('button', { class: 'primary' }, 'Filter'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const wanted = [...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
    go(`/console/audit${wanted.length ? `?${new URLSearchParams(wanted)}` : ''}`);
  });
  const rows = h('tbody');
  const more = h('button', { hidden: true }, 'Earlier');
  const note = h('p', { class: 'note', role: 'status' });
  root.append(h('h1', null, 'Audit'), form,
    h('div', { class: 'card wide', tabindex: 0, role: 'region', 'aria-label': 'Audit' },
      h('table', { class: 'trail' }, h('thead', null, h('tr', null, HEADS.map((head) => h('th', { scope: 'col' }, head)))), rows)),
    note, h('div', { class: 'buttons' }, more));

  let before = '';
  async function load() {
    more.disabled = true;
    const asked = new URLSearchParams(FIELDS.map(([name]) => [name, query.get(name) ?? '']).filter(([, value]) => value));
    if (before) asked.set('before', before);
    try {
      const found = await get(`audit?${asked}`);
      if (signal.aborted) return;
      rows.append(...found.entries.map(row));
      before = found.next ?? '';
      more.hidden = !before;
      note.textContent = rows.children.length ? '' : before ? 'Nothing found yet.' : 'Nothing is found.';
    } catch (error) {
      note.textContent = error.message;
    }
    more.disabled = false;
  }
  more.addEventListener('click', load);
  await load();
}

function row(entry) {
  const good = entry.result === 'accepted';
  const who = [entry.app ?? (entry.kind === 'operator' ? '' : 'unknown app'), entry.user && `(user ${entry.user})`].filter(Boolean).join(' ');
  return h('tr', { 'data-id': entry.id },
    h('td', null, moment(Number(entry.at))),
    h('td', null, h('strong', null, entry.what), entry.count && ` × ${entry.count}`),
    h('td', { class: 'number' }, /^[0-9a-f]{20}$/.test(entry.on ?? '') ? h('a', { href: `/console/calls/${entry.on}` }, entry.on) : entry.on ?? ''),
    h('td', null, h('span', { class: good ? '' : 'bad' }, entry.result)),
    h('td', null, `${entry.kind} `, who),
    h('td', null, entry.address ?? ''),
    h('td', null, entry.data ?? ''));
}
