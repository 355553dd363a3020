// Navigation: the pages and their addresses, the bar above them, and the keys.

import { ask, get } from './api.js';
import { h, toast } from './dom.js';
import { Live } from './live.js';

const PAGES = [
  { path: /^\/console\/?$/, module: './calls.js', name: 'Calls', href: '/console', key: 'c' },
  { path: /^\/console\/calls\/([^/]+)$/, module: './call.js' },
  { path: /^\/console\/place$/, module: './place.js', name: 'Place', href: '/console/place', key: 'n', scope: 'calls:place' },
  { path: /^\/console\/switches$/, module: './switches.js', name: 'Switches', href: '/console/switches', key: 's', scope: 'admin' },
  { path: /^\/console\/queues$/, module: './queues.js', name: 'Queues', href: '/console/queues', key: 'q', scope: 'admin' },
  { path: /^\/console\/charts$/, module: './charts.js', name: 'Charts', href: '/console/charts', key: 'g', scope: 'cdr:read' },
  { path: /^\/console\/audit$/, module: './audit.js', name: 'Audit', href: '/console/audit', key: 'u', scope: 'admin' },
  { path: /^\/console\/access$/, module: './access.js', name: 'Access', href: '/console/access', key: 'a', scope: 'admin' },
  { path: /^\/console\/login$/, module: './login.js' },
];
const KEYS = [
  ['/', 'search calls'],
  ['j  k', 'next and previous call'],
  ['Enter', 'open the call'],
  ['x', 'hang up the open call'],
  ['Esc', 'leave a field; back to the calls'],
  ['?', 'these keys'],
];

const main = document.getElementById('main');
const bar = document.getElementById('bar');
const live = new Live();
let session = null;
// Whether the app of the session may open a page.
const may = (page) => (!page.scope || session?.scopes.includes(page.scope)) && (!page.level || page.level === session?.level);
// The open page: an AbortController that ends its listeners, and its keys.
let page = { closing: new AbortController(), keys: {} };

export async function go(href, { replace = false } = {}) {
  history[replace ? 'replaceState' : 'pushState'](null, '', href);
  await show();
}

async function show() {
  page.closing.abort();
  page = { closing: new AbortController(), keys: {} };
  const mine = page;
  const path = decodeURIComponent(location.pathname);
  const found = PAGES.find((each) => each.path.test(path)) ?? PAGES[0];
  if (!session && found.module !== './login.js') {
    const from = location.pathname + location.search;
    return go(`/console/login?from=${encodeURIComponent(from)}`, { replace: true });
  }
  for (const link of bar.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === (found.href ?? '/console')) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = found.name ? `${found.name} · Ringback` : 'Ringback';
  let open;
  try {
    ({ open } = await import(found.module));
  } catch {
    main.replaceChildren(h('p', { class: 'error', role: 'alert' }, 'The Ringback server is unreachable. Load the page again.'));
    return;
  }
  if (mine !== page) return;
  main.replaceChildren();
  main.className = `on-${found.module.slice(2, -3)}`;
  scrollTo(0, 0);
  // Screen readers read this next. A page may move the focus to one of its fields.
  main.focus({ preventScroll: true });
  await open(main, {
    session, live, go, signal: mine.closing.signal, keys: mine.keys, parameters: path.match(found.path)?.slice(1) ?? [],
    logIn,
  });
}

function logIn(found) {
  session = found;
  drawBar();
  live.start();
  const from = new URLSearchParams(location.search).get('from') ?? '';
  // Only a path of this console is allowed.
  return go(/^\/console(\/(?!login)[^\\]*|\?[^\\]*)?$/.test(from) ? from : '/console', { replace: true });
}

async function logOut() {
  await ask('DELETE', 'session').catch((error) => toast(error.message, 'bad'));
  forget();
}

function forget() {
  if (!session) return;
  session = null;
  live.stop();
  bar.hidden = true;
  show();
}

function drawBar() {
  const pages = PAGES.filter((each) => each.name && may(each));
  bar.replaceChildren(
    h('a', { class: 'brand', href: '/console' }, h('img', { src: '/console/static/icon.svg', alt: '', width: 22, height: 22 }), 'Ringback'),
    h('nav', { 'aria-label': 'Pages' }, pages.map((each) =>
      h('a', { href: each.href, title: `${each.name} (${each.key})` }, each.name))),
    h('div', { class: 'who' },
      h('span', { id: 'live', class: 'down', role: 'status' }, 'connecting'),
      h('span', { class: 'app', title: `${session.level}’s app${session.organization ? ` of ${session.organization}` : ''}` }, session.app),
      h('button', { class: 'quiet', title: 'Keys (?)', 'aria-label': 'Keys', onclick: help }, '?'),
      h('button', { class: 'quiet', onclick: logOut }, 'Log out')));
  bar.hidden = false;
}

function sign(name, text) {
  const state = document.getElementById('live');
  if (!state) return;
  state.className = name;
  state.textContent = text;
}

function help() {
  const dialog = h('dialog', { class: 'help', 'aria-label': 'Keys' },
    h('h2', null, 'Keys'),
    h('dl', null,
      [...KEYS, ...PAGES.filter((each) => each.key && may(each))
        .map((each) => [each.key, `the page “${each.name}”`])].map(([key, what]) =>
        h('div', null, h('dt', null, h('kbd', null, key)), h('dd', null, what)))),
    h('form', { method: 'dialog' }, h('button', { class: 'primary' }, 'Close')));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[href^="/console"]');
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.hash && link.pathname === location.pathname) return;
  event.preventDefault();
  go(link.getAttribute('href'));
});

document.addEventListener('keydown', (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || document.querySelector('dialog[open]')) return;
  const field = event.target.closest?.('input, textarea, select');
  if (event.key === 'Escape' && field) return field.blur();
  if (field || !session) return;
  const target = PAGES.find((each) => each.key === event.key && may(each));
  const action = page.keys[event.key]
    ?? (event.key === '?' && help)
    ?? null;
  if (action) action(event);
  else if (event.key === '/') go('/console').then(() => document.querySelector('input[type=search]')?.focus());
  else if (event.key === 'Escape') go('/console');
  else if (target) go(target.href);
  else return;
  event.preventDefault();
});

live.addEventListener('open', () => sign('up', 'live'));
live.addEventListener('down', () => sign('down', 'reconnecting'));
addEventListener('popstate', show);
addEventListener('logged-out', forget);

try {
  const found = await get('session');
  if (found.app) {
    session = found;
    drawBar();
    live.start();
  }
} catch (error) {
  toast(error.message, 'bad');
}
await show();
