// The switches: their state, their load, and whether they get new calls.

import { ask, get } from './api.js';
import { askFor, clock, duration, h, moment, toast } from './dom.js';

const EVERY = 3000;
const CLASSES = { up: 'bridged', paused: 'ringing', draining: 'ringing', unreachable: 'failed', unknown: 'queued' };

export async function open(root, { signal }) {
  const list = h('div', { class: 'switches' });
  root.append(h('h1', null, 'Switches'), list);

  async function steer(name, verb) {
    let why = {};
    if (verb !== 'resume') {
      why = await askFor(`${verb === 'drain' ? 'Drain' : 'Pause'} ${name}?`, [
        h('p', null, 'The switch gets no new calls. Its present calls go on.'),
        h('label', null, 'Why', h('input', { name: 'why', maxlength: 255, autocomplete: 'off' })),
      ], verb === 'drain' ? 'Drain' : 'Pause');
      if (!why) return;
    }
    try {
      draw(await ask('POST', `switches/${encodeURIComponent(name)}/${verb}`, why));
      toast(`${name}: ${verb === 'resume' ? 'gets new calls again' : 'gets no new calls'}.`);
    } catch (error) {
      toast(error.message, 'bad');
    }
  }

  function draw({ switches }) {
    if (signal.aborted) return;
    const focus = list.contains(document.activeElement) ? document.activeElement.id : '';
    list.replaceChildren(...switches.map((each) => card(each, steer)));
    if (!switches.length) list.append(h('p', { class: 'note' }, 'No switch is registered. Run `ringback switch add`.'));
    if (focus) document.getElementById(focus)?.focus();
  }

  async function load() {
    try {
      draw(await get('switches'));
    } catch (error) {
      if (!list.children.length) list.append(h('p', { class: 'error', role: 'alert' }, error.message));
    }
  }
  await load();
  const timer = setInterval(load, EVERY);
  signal.addEventListener('abort', () => clearInterval(timer));
}

function card(each, steer) {
  const button = (verb, text, props) => h('button', { id: `${verb}-${each.name}`, onclick: () => steer(each.name, verb), ...props }, text);
  const { limit } = each;
  const most = limit.most || each.max_sessions;
  const ago = (at) => [moment(at), ` (${duration(clock() - at)} ago)`];
  return h('section', { class: 'card switch', 'data-name': each.name, 'aria-label': `Switch ${each.name}` },
    h('h2', null, each.name, h('span', { class: `state ${CLASSES[each.state]}` }, each.state)),
    each.paused && h('p', { class: 'why' }, each.paused.drain ? 'Draining' : 'Paused', each.paused.by && ` by ${each.paused.by}`, each.paused.at > 0 && [' since ', moment(each.paused.at)], each.paused.why && `: ${each.paused.why}`),
    h('label', { class: 'load' }, h('span', null, `${each.legs} legs of ours`, most ? ` of ${most}` : ''), h('meter', { min: 0, max: most || 1, value: most ? each.legs : 0, high: (most || 1) * 0.9 })),
    h('dl', null, [
      ['Calls', String(each.calls)],
      each.unreachable_since ? ['Unreachable since', ago(each.unreachable_since)] : each.up_since && ['Up since', ago(each.up_since)],
      each.sessions !== null && ['Sessions, as it tells', `${each.sessions} of ${each.max_sessions}`],
      ['Limits', `${limit.legs_per_second || 'no'} legs per second, ${limit.most || 'no'} at a time`],
      each.heartbeat && ['Last heartbeat', ago(each.heartbeat)],
      ['Listeners', `${each.listeners}${each.listener ? `, ${each.listener} leads` : ''}`],
      each.core_uuid && ['Core-UUID', h('code', null, each.core_uuid)],
    ].filter(Boolean).map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value)))),
    h('div', { class: 'buttons' }, each.paused
      ? button('resume', 'Resume', { class: 'primary' })
      : [button('pause', 'Pause'), button('drain', 'Drain')]));
}
