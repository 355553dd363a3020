// Charts of recent calls. uPlot draws them, and is loaded with the first chart.

import { get } from './api.js';
import { h } from './dom.js';

const SPANS = { '15m': ['15 minutes', 10_000], '24h': ['24 hours', 60_000] };

export async function open(root, { signal }) {
  let span = new URLSearchParams(location.search).get('span') in SPANS ? new URLSearchParams(location.search).get('span') : '15m';
  const chips = Object.fromEntries(Object.entries(SPANS).map(([name, [text]]) => [name, h('button', { class: 'chip', onclick: () => choose(name) }, text)]));
  const figures = h('dl', { class: 'figures' });
  const note = h('p', { class: 'note', role: 'status' });
  const box = (title) => {
    const node = h('div', { class: 'plot' });
    return { node, card: h('section', { class: 'card', 'aria-label': title }, h('h2', null, title), node) };
  };
  const [rate, share, wait] = [box('Calls per second'), box('Answered, %'), box('Seconds until the source answers')];
  const causes = h('div', { class: 'causes' });
  root.append(
    h('div', { class: 'tools' }, h('h1', null, 'Charts'), h('div', { class: 'chips', role: 'group', 'aria-label': 'The last' }, Object.values(chips))),
    figures, h('div', { class: 'charts-grid' }, rate.card, share.card, wait.card,
      h('section', { class: 'card', 'aria-label': 'Causes' }, h('h2', null, 'How calls ended'), causes)), note);
  await library();
  if (signal.aborted) return;
  let plots = [];
  let found = null;
  let timer = 0;

  function choose(name) {
    span = name;
    history.replaceState(null, '', `/console/charts${span === '15m' ? '' : `?span=${span}`}`);
    load();
  }

  async function load() {
    clearTimeout(timer);
    for (const [name, chip] of Object.entries(chips)) chip.setAttribute('aria-pressed', String(name === span));
    try {
      const answer = await get(`charts/${span}`);
      if (signal.aborted) return;
      found = answer;
      draw();
    } catch (error) {
      note.textContent = error.message;
    }
    if (!signal.aborted) timer = setTimeout(load, SPANS[span][1]);
  }

  function draw() {
    const { points, step, all, read, ended } = found;
    const at = points.map((point) => point.at);
    const column = (value) => points.map((point) => value(point) ?? null);
    plots.forEach((plot) => plot.destroy());
    const bars = uPlot.paths.bars({ size: [0.8, 40] });
    plots = [
      plot(rate.node, [at, column((point) => point.calls / step || null)], [{ label: 'calls/s', color: '--bridged', paths: bars, fill: true }], step),
      plot(share.node, [at, column((point) => (point.rate === undefined ? null : point.rate * 100))], [{ label: '%', color: '--answered' }], step, [0, 100]),
      plot(wait.node, [at, column((point) => point.p50), column((point) => point.p90)], [{ label: 'p50', color: '--dialing' }, { label: 'p90', color: '--ringing' }], step),
    ];
    const calls = points.reduce((sum, point) => sum + point.calls, 0);
    const show = (value, unit = '') => (value === undefined ? '–' : `${value}${unit}`);
    figures.replaceChildren(...[
      ['Calls', String(calls)], ['Answered', show(all.rate === undefined ? undefined : Math.round(all.rate * 100), '%')],
      ['Source answers, p50', show(all.p50?.toFixed(1), ' s')], ['p90', show(all.p90?.toFixed(1), ' s')],
    ].map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))));
    const most = found.causes[0]?.[1] ?? 1;
    causes.replaceChildren(...found.causes.map(([cause, count]) => {
      const bar = h('i');
      bar.style.width = `${count / most * 100}%`;
      return h('div', { class: 'cause' }, h('span', null, cause), h('span', { class: 'bar' }, bar), h('b', null, String(count)));
    }), found.causes.length ? '' : h('p', { class: 'note' }, 'No call has ended in this time.'));
    note.textContent = read < ended ? `The rate counts all ${calls} calls. Shares, times and causes come from ${read} of the ${ended} ended calls, the last of each ${step < 60 ? `${step} s` : `${step / 60} minutes`}.` : '';
  }

  const again = () => { if (found) draw(); };
  let width = 0;
  const sizes = new ResizeObserver(() => { if (width !== root.clientWidth) { width = root.clientWidth; again(); } });
  sizes.observe(root);
  const scheme = matchMedia('(prefers-color-scheme: dark)');
  scheme.addEventListener('change', again, { signal });
  signal.addEventListener('abort', () => { clearTimeout(timer); sizes.disconnect(); plots.forEach((each) => each.destroy()); });
  await load();
}

function plot(node, data, series, step, range) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color('--muted'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' };
  return new uPlot({
    width: Math.max(200, node.clientWidth),
    height: 170,
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { range: (_, low, high) => [low - step / 2, high + step / 2] }, y: { range: range ?? ((_, low, high) => [0, Math.max(high ?? 0, 0.1) * 1.1]) } },
    axes: [{ ...axis, space: 60, values: (_, times) => times.map((at) => hour.format(at * 1000)) }, { ...axis, size: 44 }],
    series: [{ label: 'at', value: (_, at) => (at ? hour.format(at * 1000) : '–') }, ...series.map((each) => ({
      label: each.label, stroke: color(each.color), width: 2, paths: each.paths, fill: each.fill ? color(each.color) : undefined,
      points: { show: !each.paths, size: 5 }, spanGaps: false, value: (_, value) => (value === null || value === undefined ? '–' : value.toFixed(2)),
    }))],
  }, data, node);
}

const hour = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

let loading = null;

function library() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(
      h('link', { rel: 'stylesheet', href: '/console/static/uplot/uplot.css' }),
      h('script', { src: '/console/static/uplot/uplot.js', onload: resolve, onerror: () => { loading = null; reject(new Error('uPlot cannot be loaded.')); } }));
  });
  return loading;
}
