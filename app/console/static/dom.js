// Functions that all pages share: elements, times and messages.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An element with attributes (`on…`: listeners) and children; texts are never read as HTML. */
export const h = (name, props, ...children) => fill(document.createElement(name), props, children);
export const svg = (name, props, ...children) =>
  fill(document.createElementNS(SVG, name), props, children);

/** Set a text only where it changes, so that nothing flickers or loses its selection. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Seconds by which the server's clock is ahead of the browser's.
let ahead = 0;
export const setClock = (now) => { ahead = now - Date.now() / 1000; };
export const clock = () => Date.now() / 1000 + ahead;

/** 0:07, 12:30, 1:02:03 */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, '0');
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

const ofDay = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const ofDate = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });

/** A time in the browser's zone, with UTC in its title, and with the date unless that is today. */
export function moment(at) {
  if (!at) return '–';
  const date = new Date(at * 1000);
  const utc = date.toISOString();
  const today = date.toDateString() === new Date().toDateString();
  return h('time', { datetime: utc, title: utc }, (today ? ofDay : ofDate).format(date));
}

/** A message for a few seconds; read out by screen readers. */
export function toast(text, kind = 'good') {
  const node = h('div', { class: `toast ${kind}` }, text);
  document.getElementById('toasts').append(node);
  setTimeout(() => node.remove(), kind === 'bad' ? 9000 : 4000);
}

/** Ask for values in a dialog; resolves to them by name, or to null. */
export function askFor(title, fields, verb, { danger = false } = {}) {
  return new Promise((resolve) => {
    const form = h('form', { method: 'dialog' },
      h('h2', null, title),
      fields,
      h('div', { class: 'buttons' },
        h('button', { value: 'cancel', type: 'button', onclick: () => dialog.close() }, 'Cancel'),
        h('button', { value: 'ok', class: danger ? 'danger' : 'primary' }, verb)));
    const dialog = h('dialog', { 'aria-label': title }, form);
    let values = null;
    form.addEventListener('submit', () => { values = Object.fromEntries(new FormData(form)); });
    dialog.addEventListener('close', () => { dialog.remove(); resolve(values); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** The words for a state, and a class that colours it. */
const STATES = {
  queued: 'waiting', dialing: 'dialling', ringing: 'ringing', answered: 'answered', bridged: 'talking', ended: 'ended',
};
const DISPOSITIONS = ['answered', 'busy', 'failed', 'no answer', 'unknown', 'not allowed'];

export function stateOf(call) {
  if (call.parked) return { text: 'parked', class: 'parked' };
  if (call.state !== 'ended') return { text: STATES[call.state], class: call.state };
  const good = call.disposition === 0 || call.disposition === undefined;
  return { text: good ? 'ended' : DISPOSITIONS[call.disposition], class: good ? 'ended' : 'failed' };
}

/** The words for a leg's state, and a class that colours it. */
export const legState = (leg) => (leg.lot === undefined
  ? { text: STATES[leg.state], class: leg.state }
  : { text: `parked at ${leg.lot}`, class: 'parked' });
