// One call: its timeline, its fields, and the actions on it.

import { ask, get } from './api.js';
import { askFor, clock, duration, h, legState, moment, setText, stateOf, toast } from './dom.js';
import { lanes } from './lanes.js';
import { listen } from './live.js';

const TIMES = new Set(`accepted claimed sent hangup_requested answered bridged ended created early_media ringing held unheld parked
  unparked recording recorded voicemail brought`.split(/\s+/));

/** Who asked: “by app boss (user 12) from 192.0.2.7”. */
const asker = ({ app, user, address }) => `by app ${app}${user ? ` (user ${user})` : ''}${address ? ` from ${address}` : ''}`;

export async function open(root, { live, signal, keys, session, go, parameters: [id] }) {
  document.title = `${id} · Ringback`;
  const path = `calls/${encodeURIComponent(id)}`;
  let call;
  try {
    call = await get(path);
  } catch (error) {
    root.append(h('h1', null, id), h('p', { class: 'error', role: 'alert' },
      error.code === 'pc_phonecall_invalid' ? 'There is no such call, or Ringback no longer keeps it.' : error.message));
    return;
  }
  if (signal.aborted) return;

  const drawing = lanes(call);
  const title = h('h1');
  const state = h('span', { class: 'state' });
  const time = h('span', { class: 'time' });
  const copy = h('button', { class: 'quiet id', title: 'Copy the id', onclick: () => navigator.clipboard?.writeText(id).then(() => toast('Copied.')) }, id);
  const whole = h('button', { class: 'danger', id: 'hang-up', title: 'Hang up the call (x)', onclick: () => hangUp() }, 'Hang up the call');
  const result = h('p', { class: 'result', role: 'status' });
  const parties = h('div', { class: 'parties' });
  const story = h('ol', { class: 'story' });
  const fields = h('div', { class: 'fields' });
  root.append(
    h('p', { class: 'back' }, h('a', { href: '/console' }, '← Calls')),
    h('div', { class: 'head' }, title, h('div', null, state, time, copy, whole)),
    h('section', { class: 'card', 'aria-label': 'Legs over time' }, drawing.node),
    parties, result,
    h('div', { class: 'columns' },
      h('section', { class: 'card', 'aria-label': 'What happened' }, h('h2', null, 'What happened'), story),
      h('section', { class: 'card', 'aria-label': 'Fields' }, h('h2', null, 'Fields'), fields)));

  async function load() {
    try {
      call = await get(path);
      if (!signal.aborted) draw();
    } catch (error) {
      if (!signal.aborted && error.status !== 401) toast(error.message, 'bad');
    }
  }

  async function run(verb, work) {
    result.className = 'result';
    setText(result, `${verb} …`);
    try {
      const { status } = await work();
      result.className = 'result good';
      setText(result, status === 202 ? `${verb}: asked for; the switch has not done it yet.` : `${verb}: done.`);
    } catch (error) {
      result.className = 'result bad';
      setText(result, `${verb}: ${error.message}${error.code ? ` (${error.code})` : ''}`);
    }
    if (!signal.aborted) load();
  }

  const act = (action, body) => run(words(action), () => ask('PUT', path, { action, ...body }));

  async function actTo(action, leg, body) {
    const numbers = session.extensions.filter((each) => each.type === 'phone_terminal').map((each) => each.number);
    const given = await askFor(`${words(action)}: ${leg.number}`, [
      h('label', null, action === 'Transfer' ? 'To an extension or a public number' : 'Telephone that rings',
        h('input', { name: 'sendCallTo', required: true, list: 'numbers', autocomplete: 'off', inputmode: 'tel' })),
      h('datalist', { id: 'numbers' }, numbers.map((number) => h('option', { value: number }))),
      action === 'Whisper' && h('label', { class: 'choice' }, h('input', { type: 'checkbox', name: 'private', value: '1' }), 'the whispering phone hears nothing'),
    ], words(action));
    if (given) await act(action, { ...body, ...given });
  }

  async function hangUp(number) {
    const sure = await askFor(number ? `Hang up ${number}?` : call.supervises ? 'Hang up this call?' : 'Hang up your party?', null, 'Hang up', { danger: true });
    if (sure) await run('Hang up', () => ask('DELETE', number ? `${path}?phoneNumber=${encodeURIComponent(number)}` : path));
  }

  const button = (text, press, props) => h('button', { onclick: press, ...props }, text);

  // The server refuses what the app has no right to: these buttons are left out.
  function buttons(leg, talking) {
    if (call.supervises) return all(leg, talking);
    const own = (each) => call.own.includes(each.id);
    const other = talking.filter((each) => each !== leg && !each.listens);
    const view = { phoneCallViewId: leg.view };
    if (call.state === 'answered' && leg.role === 'source' && call.own.length) {
      return [button('Pick up …', () => actTo('PickUp', leg, {})), own(leg) && hangsUp(leg)];
    }
    if (call.state === 'bridged' && other.length === 1 && own(other[0]) && leg.lot === undefined) {
      return [
        button('Park', () => act('Park', { phoneCallViewId: other[0].view }), { title: 'This party waits in the parking lot; your party leaves' }),
        button('Transfer …', () => actTo('Transfer', leg, { transferNumber: leg.number, transferFromNumber: other[0].number }), { title: 'This party goes to an extension; your party leaves' }),
      ];
    }
    if (!own(leg)) return [];
    return [
      leg.lot !== undefined && button('Unpark …', () => actTo('UnPark', leg, view)),
      leg.lot === undefined && call.state === 'bridged' && (leg.hold ? button('Resume', () => act('OffHold', view)) : button('Hold', () => act('OnHold', view), { title: 'This party puts the other on hold' })),
      hangsUp(leg),
    ];
  }

  const hangsUp = (leg) => button('Hang up', () => hangUp(leg.number), { class: 'danger' });

  function all(leg, talking) {
    const view = { phoneCallViewId: leg.view };
    const other = talking.filter((each) => each !== leg && !each.listens);
    if (leg.lot !== undefined) {
      return [button('Unpark …', () => actTo('UnPark', leg, view)), hangsUp(leg)];
    }
    if (call.state === 'answered' && leg.role === 'source') {
      return [button('Pick up …', () => actTo('PickUp', leg, {})), hangsUp(leg)];
    }
    if (call.state !== 'bridged') return [hangsUp(leg)];
    return [
      leg.hold ? button('Resume', () => act('OffHold', view)) : button('Hold', () => act('OnHold', view), { title: 'This party puts the other on hold' }),
      other.length === 1 && button('Park', () => act('Park', { phoneCallViewId: other[0].view }), { title: 'This party waits in the parking lot; the other party leaves' }),
      other.length === 1 && button('Transfer …', () => actTo('Transfer', leg, { transferNumber: leg.number, transferFromNumber: other[0].number }), { title: 'This party goes there; the other leaves' }),
      leg.rec ? button('Stop recording', () => act('StopRecording', view)) : button('Record', () => act('StartRecording', view)),
      button('Monitor …', () => actTo('Monitor', leg, view)),
      button('Whisper …', () => actTo('Whisper', leg, view)),
      button('Barge in …', () => actTo('BargeIn', leg, view)),
      hangsUp(leg),
    ];
  }

  // The state that the buttons depend on. Buttons are made again only if it changes, so that the
  // focus stays.
  let drawn = '';

  function drawParties() {
    const there = call.legs.filter((leg) => !leg.ended && (leg.created || leg.id.indexOf('.') < 0 && leg.role !== 'third'));
    const key = JSON.stringify([call.state, call.supervises, call.own, there.map((leg) => [leg.id, leg.state, leg.hold, leg.lot, leg.rec])]);
    if (key === drawn) return;
    drawn = key;
    const focus = parties.contains(document.activeElement) ? document.activeElement.textContent : null;
    const talking = there.filter((leg) => leg.answered).map((leg) => Object.assign(leg, { listens: ['Monitor', 'Whisper', 'BargeIn'].includes(leg.action) }));
    parties.hidden = call.state === 'ended';
    parties.replaceChildren(...there.map((leg) => h('section', { class: 'card party', 'aria-label': `Party ${leg.number}`, 'data-leg': leg.id },
      h('h2', null, leg.number, h('small', null, ` ${leg.action ?? leg.role}`)),
      h('p', null, h('span', { class: `state ${legState(leg).class}` }, legState(leg).text),
        leg.hold && h('b', { class: 'mark hold' }, 'holds the other'),
        leg.rec && h('b', { class: 'mark recorded' }, 'recorded')),
      leg.answered && h('div', { class: 'buttons' }, leg.listens ? [(call.supervises || call.own.includes(leg.id)) && hangsUp(leg)] : buttons(leg, talking)))));
    whole.hidden = call.state === 'ended' || !(call.supervises || call.own.length);
    setText(whole, call.supervises ? 'Hang up the call' : 'Hang up your party');
    if (focus) [...parties.querySelectorAll('button')].find((each) => each.textContent === focus)?.focus();
  }

  function draw() {
    const shown = stateOf(call);
    setText(title, `${call.source.join(', ')} → ${call.destination.join(', ')}`);
    state.className = `state ${shown.class}`;
    setText(state, shown.text + (call.ended ? ` by ${call.endedBy ?? 'unknown'}, ${call.cause ?? ''}` : ''));
    drawing.draw(call);
    drawParties();
    drawStory();
    drawFields();
    tick();
  }

  function drawStory() {
    const have = story.children.length;
    // New entries come at the end. Only if the oldest were removed, all are drawn again.
    const same = have && call.timeline[have - 1]?.id === story.lastChild.dataset.id;
    if (!same) story.replaceChildren();
    story.append(...call.timeline.slice(same ? have : 0).map((entry) => {
      const long = entry.data?.length > 160;
      const data = entry.data && (long
        ? h('details', null, h('summary', null, h('code', null, `${entry.data.slice(0, 120)} …`)), h('code', null, entry.data))
        : h('code', null, entry.data));
      return h('li', {
        class: entry.kind, 'data-id': entry.id,
        onmouseenter: () => drawing.point(entry.at), onmouseleave: () => drawing.point(),
      },
      h('time', { datetime: new Date(entry.at * 1000).toISOString(), title: new Date(entry.at * 1000).toISOString() }, `+${(entry.at - call.accepted).toFixed(3)}`),
      h('span', { class: 'kind' }, entry.kind), h('strong', null, entry.name), entry.leg && h('span', { class: 'on' }, entry.leg), data,
      entry.app && h('span', { class: 'by' }, asker(entry)));
    }));
  }

  function drawFields() {
    const open = new Set([...fields.querySelectorAll('details[open]')].map((each) => each.dataset.of));
    const list = (values) => h('dl', null, Object.entries(values).map(([name, value]) =>
      h('div', null, h('dt', null, name), h('dd', null, TIMES.has(name) ? moment(value) : String(value)))));
    const skip = new Set(['view', 'state', 'hold', 'lot', 'id', 'number', 'role', 'kind']);
    fields.replaceChildren(list(call.fields), ...call.legs.map((leg) => h('details', { 'data-of': leg.id, open: open.has(leg.id) },
      h('summary', null, `${leg.id} · ${leg.number} · ${leg.kind}`),
      list(Object.fromEntries(Object.entries(leg).filter(([name, value]) => !skip.has(name) && typeof value !== 'boolean'))))));
  }

  function tick() {
    const now = clock();
    setText(time, duration((call.ended ?? now) - (call.ended ? call.accepted : call.bridged ?? call.accepted)));
  }

  Object.assign(keys, { x: () => { if (!whole.hidden) hangUp(); }, Escape: () => go('/console') });
  listen(live, signal, { open: load, calls: (ids) => { if (ids.includes(id)) load(); } });
  const ticking = setInterval(() => { if (!call.ended) { drawing.draw(call); tick(); } }, 1000);
  const sizes = new ResizeObserver(() => drawing.draw());
  sizes.observe(drawing.node);
  signal.addEventListener('abort', () => { clearInterval(ticking); sizes.disconnect(); });
  draw();
}

const WORDS = {
  OnHold: 'Hold', OffHold: 'Resume', UnPark: 'Unpark', PickUp: 'Pick up', BargeIn: 'Barge in',
  StartRecording: 'Record', StopRecording: 'Stop recording',
};
const words = (action) => WORDS[action] ?? action;
