// A form that places a call. The API's error stands beside the field that it is about.

import { ask } from './api.js';
import { h } from './dom.js';

const KINDS = {
  simple: ['Call', ['phone_terminal']],
  callback: ['Callback', ['callback']],
  conferenceInvite: ['Invite to a conference', ['conference']],
};
// The field that an error code is about.
const FIELDS = {
  extension_invalid: 'extension', pc_source_invalid: 'source', pc_destination_invalid: 'destination', pc_callerid_invalid: 'callerId',
  pc_source_barred: 'source', pc_destination_barred: 'destination', pc_nonce_invalid: 'nonce', pc_timeout_invalid: 'waitForPickup', pc_duration_invalid: 'callDuration',
  pc_number_invalid: 'number', pc_pin_invalid: 'pin',
};

export function open(root, { session, go, signal }) {
  const inputs = {};
  const field = (name, label, props = {}, hint = '') => {
    const error = h('span', { class: 'error', id: `${name}-error`, role: 'alert' });
    const input = h(props.options ? 'select' : 'input', { name, id: name, autocomplete: 'off', 'aria-describedby': `${name}-error`, ...props, options: null }, props.options ?? []);
    const node = h('div', { class: 'field' }, h('label', { for: name }, label, hint && h('small', null, ` ${hint}`)), input, error);
    inputs[name] = { input, error, node };
    return node;
  };
  const numbers = h('datalist', { id: 'numbers' }, session.extensions.filter((each) => each.type !== 'callback').map((each) =>
    h('option', { value: each.number }, each.callerId ?? '')));
  const wrong = h('p', { class: 'error', role: 'alert', hidden: true });
  const button = h('button', { class: 'primary' }, 'Place the call');
  const form = h('form', { class: 'card place', novalidate: true },
    h('h1', null, 'Place a call'),
    field('kind', 'What', { options: Object.entries(KINDS).map(([value, [label]]) => h('option', { value }, label)), onchange: choose }),
    field('extension', 'Charged to', { options: [] }, 'extension'),
    field('source', 'From', { list: 'numbers', inputmode: 'tel' }, 'all ring; the first that answers is connected'),
    field('destination', 'To', { list: 'numbers', inputmode: 'tel' }, 'several with commas between'),
    h('details', null, h('summary', null, 'More'),
      field('callerId', 'Caller id', { placeholder: 'John Doe <4242425>' }, 'as the source sees it'),
      field('callerIdDestination', 'Caller id at the destination', { placeholder: 'John Doe <4242425>' }),
      field('waitForPickup', 'Rings for', { inputmode: 'numeric', placeholder: '25' }, 'seconds'),
      field('callDuration', 'Lasts at most', { inputmode: 'numeric', placeholder: '7200' }, 'seconds'),
      field('nonce', 'Nonce', { maxlength: 255 }, 'a repeated request with it places one call'),
      field('number', 'Conference number', { inputmode: 'numeric' }),
      field('pin', 'Conference PIN', { inputmode: 'numeric' }),
      field('allowPublicTransfer', 'May be transferred to another public number', { type: 'checkbox' })),
    numbers, wrong, button);

  function choose() {
    const kind = inputs.kind.input.value;
    const invite = kind === 'conferenceInvite';
    const fit = session.extensions.filter((each) => KINDS[kind][1].includes(each.type));
    inputs.extension.input.replaceChildren(...fit.map((each) => h('option', { value: each.number }, each.number)));
    for (const name of ['source', 'callDuration', 'callerIdDestination', 'allowPublicTransfer']) inputs[name].node.hidden = invite;
    for (const name of ['number', 'pin']) inputs[name].node.hidden = !invite;
  }

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const kind = inputs.kind.input.value;
    const value = (name) => (inputs[name].node.hidden ? '' : inputs[name].input.value.trim());
    const list = (name) => value(name).split(/[,;\s]+/).filter(Boolean);
    const query = new URLSearchParams();
    for (const name of ['waitForPickup', 'callDuration', 'number', 'pin']) if (value(name)) query.set(name, value(name));
    if (kind !== 'conferenceInvite') query.set('allowPublicTransfer', String(inputs.allowPublicTransfer.input.checked));
    const view = { source: list('source'), destination: list('destination') };
    for (const name of ['callerId', 'callerIdDestination']) if (value(name)) view[name] = value(name);
    const body = { extension: value('extension'), phoneCallView: [view] };
    if (value('nonce')) body.nonce = value('nonce');
    clear();
    button.disabled = true;
    try {
      const { ids } = await ask('POST', `calls/${kind}?${query}`, body);
      if (!signal.aborted) await go(`/console/calls/${ids[0]}`);
    } catch (error) {
      button.disabled = false;
      const at = inputs[FIELDS[error.code]];
      if (!at || at.node.hidden) {
        wrong.textContent = `${error.message}${error.code ? ` (${error.code})` : ''}`;
        wrong.hidden = false;
        return;
      }
      at.error.textContent = error.message;
      at.input.setAttribute('aria-invalid', 'true');
      at.node.closest('details')?.setAttribute('open', '');
      at.input.focus();
    }
  });

  function clear() {
    wrong.hidden = true;
    for (const { input, error } of Object.values(inputs)) {
      error.textContent = '';
      input.removeAttribute('aria-invalid');
    }
  }

  root.append(form);
  choose();
  inputs.source.input.focus();
}
