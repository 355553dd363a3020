// Organizations and apps: who may place calls. Suspend, resume, disable, enable.

import { ask, get } from './api.js';
import { askFor, h, moment, toast } from './dom.js';

const EVERY = 5000;
const KINDS = {
  organizations: { title: 'Organizations', bar: 'suspend', free: 'resume', barred: 'suspended',
    about: 'New calls and actions are refused, and calls that wait are not dialled. The organization may still read and hang up.' },
  apps: { title: 'Apps', bar: 'disable', free: 'enable', barred: 'disabled', about: 'Every request of the app is refused.' },
};

export async function open(root, { signal, session }) {
  const body = h('div', { class: 'columns' });
  root.append(h('h1', null, 'Access'), body);

  async function change(kind, name, verb) {
    const { bar, about } = KINDS[kind];
    let values = {};
    if (verb === bar) {
      values = await askFor(`${upper(verb)} ${name}?`, [
        h('p', null, about),
        h('label', null, 'Why', h('input', { name: 'why', maxlength: 255, autocomplete: 'off' })),
        h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'hangUp' }), 'Hang up its live calls'),
      ], upper(verb), { danger: true });
      if (!values) return;
    }
    try {
      const found = await ask('POST', `${kind}/${encodeURIComponent(name)}/${verb}`, { why: values.why, hangUp: values.hangUp === 'on' });
      draw(found);
      toast(`${name}: ${verb === bar ? KINDS[kind].barred : 'active again'}.${values.hangUp ? ` ${found.ended} calls hung up.` : ''}`);
    } catch (error) {
      toast(error.message, 'bad');
    }
  }

  function draw(found) {
    if (signal.aborted) return;
    const focus = body.contains(document.activeElement) ? document.activeElement.id : '';
    body.replaceChildren(...Object.keys(KINDS).map((kind) => table(kind, found[kind], change, session)));
    if (focus) document.getElementById(focus)?.focus();
  }

  async function load() {
    try {
      draw(await get('access'));
    } catch (error) {
      if (!body.children.length) body.append(h('p', { class: 'error', role: 'alert' }, error.message));
    }
  }
  await load();
  const timer = setInterval(load, EVERY);
  signal.addEventListener('abort', () => clearInterval(timer));
}

const upper = (word) => word[0].toUpperCase() + word.slice(1);

function table(kind, rows, change, session) {
  const { title, bar, free, barred } = KINDS[kind];
  return h('section', { class: 'card', 'aria-label': title }, h('h2', null, title), rows.length
    ? h('table', null,
      h('thead', null, h('tr', null, ['', 'State', ''].map((head) => h('th', { scope: 'col' }, head)))),
      h('tbody', null, rows.map((row) => {
        const verb = row.barred ? free : bar;
        const own = kind === 'apps' && row.name === session.app && !row.barred;
        return h('tr', { 'data-name': row.name },
          h('td', null, h('span', { class: 'number' }, row.name), h('small', null, row.about)),
          h('td', null, h('span', { class: `state ${row.barred ? 'failed' : 'bridged'}` }, row.barred ? barred : 'active'),
            row.barred && h('small', null, 'by ', row.by, ' since ', moment(row.at), row.why && `: ${row.why}`)),
          h('td', null, h('button', {
            id: `${verb}-${row.name}`, class: row.barred ? 'primary' : 'danger', disabled: own,
            title: own && 'An app cannot disable itself', onclick: () => change(kind, row.name, verb),
          }, upper(verb))));
      })))
    : h('p', { class: 'note' }, 'None.'));
}
