// A drawing of a call over time: its states, and a lane for each leg with its marks.

import { clock, duration, h, svg } from './dom.js';

const LEFT = 2;
const TOP = 22;
const LANE = 40;
const BAR = 14;

/** The drawing of a call. `draw()` updates it as time goes on; `point(at)` marks a moment. */
export function lanes(call) {
  const root = h('div', { class: 'lanes' });
  const picture = svg('svg', { role: 'img' });
  // The drawing shows all of the call, or only its set-up: a long call hides those seconds.
  const zoom = h('button', { class: 'chip', 'aria-pressed': 'false', onclick: () => {
    zoom.setAttribute('aria-pressed', String(zoom.getAttribute('aria-pressed') === 'false'));
    draw();
  } }, 'set-up');
  root.append(h('div', { class: 'chips' }, zoom), picture, legend());
  let current = call;
  let x = () => 0;
  let cursor = null;

  function draw(next = current) {
    current = next;
    const width = Math.max(260, root.clientWidth);
    const begin = current.accepted;
    const whole = Math.max(current.ended ?? clock(), begin + 1);
    const near = begin + Math.max(1, 1.5 * ((current.bridged ?? current.ended ?? whole) - begin));
    zoom.parentNode.hidden = near > begin + (whole - begin) / 3;
    const end = zoom.parentNode.hidden || zoom.getAttribute('aria-pressed') === 'false' ? whole : near;
    const shown = current.legs.filter((leg) => leg.created || leg.role !== 'third');
    const height = TOP + (shown.length + 1) * LANE;
    x = (at) => LEFT + (Math.min(end, Math.max(begin, at)) - begin) / (end - begin) * (width - 2 * LEFT);
    picture.setAttribute('viewBox', `0 0 ${width} ${height}`);
    picture.setAttribute('width', width);
    picture.setAttribute('height', height);
    picture.setAttribute('aria-label', `The call over ${duration(end - begin)}, with ${shown.length} legs`);
    picture.replaceChildren(hatch(), ...axis(begin, end, x, width, height),
      ...lane(TOP, 'call', current.state === 'ended' ? current.cause ?? '' : '', statesOf(current, end)),
      ...shown.flatMap((leg, index) => lane(
        TOP + (index + 1) * LANE,
        `${leg.number} · ${leg.action ?? leg.role}`,
        leg.ended ? leg.cause ?? '' : '',
        ofLeg(current, leg, end),
        current.timeline.filter((entry) => entry.leg === leg.id))));
    cursor = svg('line', { class: 'cursor', y1: 0, y2: height, hidden: true });
    picture.append(cursor);
  }

  function lane(y, name, end, pieces, marks = []) {
    const bar = y + 20;
    return [
      svg('text', { class: 'name', x: LEFT, y: y + 14 }, name, end && svg('tspan', { class: 'cause', dx: 8 }, end)),
      svg('rect', { class: 'track', x: LEFT, y: bar, width: x(Infinity) - LEFT, height: BAR, rx: 3 }),
      ...pieces.filter((piece) => x(piece.from) < x(Infinity) || piece.from === current.accepted).map((piece) => {
        const at = x(piece.from);
        return svg('rect', {
          class: `piece ${piece.class}`, x: at, y: piece.thin ? bar + BAR - 3 : bar,
          width: Math.max(1.5, x(piece.to) - at), height: piece.thin ? 5 : BAR, rx: 2,
        }, svg('title', null, `${piece.text}: ${duration(piece.from - current.accepted)} to ${duration(piece.to - current.accepted)}`));
      }),
      ...marks.filter((entry) => x(entry.at) < x(Infinity)).map((entry) => svg('path', { class: `tick ${entry.kind}`, d: `M${x(entry.at)} ${bar - 3}v3` })),
    ];
  }

  return {
    node: root,
    draw,
    point(at) {
      if (!cursor) return;
      if (at === undefined) return cursor.setAttribute('hidden', '');
      cursor.removeAttribute('hidden');
      cursor.setAttribute('x1', x(at));
      cursor.setAttribute('x2', x(at));
    },
  };
}

const piece = (from, to, kind, text = kind, thin = false) => ({ from, to, class: kind, text, thin });

function statesOf(call, end) {
  const found = [];
  const changes = call.timeline.filter((entry) => entry.kind === 'change' && entry.name !== 'ended');
  // The timeline keeps the last thousand entries. The call itself tells about the time before.
  if (!changes.length) changes.push({ name: call.state, at: call.accepted });
  changes.forEach((entry, index) => {
    found.push(piece(entry.at, changes[index + 1]?.at ?? end, entry.name));
  });
  return found;
}

function ofLeg(call, leg, end) {
  if (!leg.created) return [];
  const over = leg.ended ?? end;
  const steps = [
    ['dialing', leg.created, 'dialled'],
    ['ringing', leg.ringing ?? leg.early_media, 'ringing'],
    ['answered', leg.answered, 'answered'],
    ['bridged', leg.bridged, 'bridged'],
  ].filter(([, at]) => at).sort((a, b) => a[1] - b[1]);
  const found = steps.map(([kind, at, text], index) => piece(at, steps[index + 1]?.[1] ?? over, kind, text));
  const between = (begin, close, first, last) => {
    const spans = [];
    for (const entry of call.timeline) {
      if (entry.leg !== leg.id) continue;
      if (entry.name === begin) spans.push([entry.at, over]);
      else if (entry.name === close && spans.length) spans[spans.length - 1][1] = entry.at;
    }
    if (!spans.length && first) spans.push([first, last > first ? last : over]);
    return spans;
  };
  for (const [from, to] of between('CHANNEL_HOLD', 'CHANNEL_UNHOLD', leg.held, leg.unheld)) {
    found.push(piece(from, to, 'hold', 'has the other on hold'));
  }
  if (leg.parked) found.push(piece(leg.parked, leg.unparked > leg.parked ? leg.unparked : over, 'parked', `parked at ${leg.parked_pos ?? '?'}`));
  for (const [from, to] of between('RECORD_START', 'RECORD_STOP', leg.recording, leg.recorded)) {
    found.push(piece(from, to, 'recorded', 'recorded', true));
  }
  return found;
}

function hatch() {
  return svg('defs', null, svg('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
    svg('rect', { width: 6, height: 6, class: 'under' }), svg('rect', { width: 2.500, height: 6, class: 'stripe' })));
}

function axis(begin, end, x, width, height) {
  const most = Math.max(3, Math.floor(width / 70));
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200]
    .find((seconds) => (end - begin) / seconds <= most) ?? 86400;
  const found = [];
  for (let at = 0; at <= end - begin; at += step) {
    const place = x(begin + at);
    found.push(svg('line', { class: 'grid', x1: place, x2: place, y1: TOP - 4, y2: height }));
    const anchor = place > width - 30 ? 'end' : at ? 'middle' : 'start';
    found.push(svg('text', { class: 'at', x: place, y: 12, 'text-anchor': anchor }, step < 1 ? `${at.toFixed(1)} s` : duration(at)));
  }
  return found;
}

function legend() {
  return h('ul', { class: 'legend' }, [
    ['queued', 'waiting'], ['dialing', 'dialled'], ['ringing', 'ringing'], ['answered', 'answered'],
    ['bridged', 'talking'], ['hold', 'holds the other'], ['parked', 'parked'], ['recorded', 'recorded'],
  ].map(([kind, text]) => h('li', null, h('i', { class: kind }), text)));
}
