// The login: an app's token, or its client id and secret.

import { ask } from './api.js';
import { h } from './dom.js';

export function open(root, { logIn, session, go }) {
  if (session) return go('/console', { replace: true });
  const wrong = h('p', { class: 'error', role: 'alert', hidden: true });
  const field = (name, label, props) =>
    h('label', null, label, h('input', { name, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', ...props }));
  const byToken = h('fieldset', { id: 'by-token' }, h('legend', { class: 'hidden' }, 'Token'),
    field('token', 'Token of the app', { type: 'password', required: true, autocomplete: 'current-password' }));
  const bySecret = h('fieldset', { id: 'by-secret', disabled: true, hidden: true }, h('legend', { class: 'hidden' }, 'Client'),
    field('client_id', 'Client id', { required: true, autocomplete: 'username' }),
    field('client_secret', 'Client secret', { type: 'password', required: true, autocomplete: 'current-password' }));
  const choose = (secret) => {
    bySecret.hidden = bySecret.disabled = !secret;
    byToken.hidden = byToken.disabled = secret;
    form.querySelector('fieldset:enabled input').focus();
  };
  const choice = (value, label, checked) => h('label', { class: 'choice' },
    h('input', { type: 'radio', name: 'way', value, checked, onchange: () => choose(value === 'secret') }), label);
  const button = h('button', { class: 'primary' }, 'Log in');
  const form = h('form', { class: 'card' },
    h('h1', null, h('img', { src: '/console/static/icon.svg', alt: '', width: 32, height: 32 }), 'Ringback'),
    h('div', { class: 'choices', role: 'radiogroup', 'aria-label': 'With' },
      choice('token', 'Token', true), choice('secret', 'Client id and secret')),
    byToken, bySecret, wrong, button);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const { way, ...given } = Object.fromEntries(new FormData(form));
    button.disabled = true;
    wrong.hidden = true;
    try {
      await logIn(await ask('POST', 'session', given));
    } catch (error) {
      wrong.textContent = error.message;
      wrong.hidden = false;
      button.disabled = false;
      form.querySelector('fieldset:enabled input').select();
    }
  });
  root.append(form);
  form.querySelector('input[name=token]').focus();
}
