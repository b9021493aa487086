// The wall: many lots at once, with figures of the connection that carries them.

import { call } from './api.js';
import { text, timeLeft } from './list.js';
import { gavelcast, lot, onDraw, worstStatus } from './lots.js';
import { money } from './money.js';

const LOTS = 48;
const REFRESH_MS = 10_000;

const $ = (id) => document.getElementById(id);
const tiles = new Map();
const gauges = new Map();
let isShown = false;
let updates = [];

export function show(isWanted) {
  $('wall').hidden = !isWanted;
  if (isWanted === isShown) return;
  isShown = isWanted;
  if (isWanted) return refresh();
  for (const { known, item, off } of tiles.values()) {
    off();
    known.release();
    item.remove();
  }
  tiles.clear();
}

async function refresh() {
  if (!isShown) return;
  try {
    const { auctions } = await call(`/api/v1/auctions?status=active&sort=ending_soon&limit=${LOTS}`);
    if (!isShown) return;
    const ids = new Set(auctions.map(({ auction_id }) => auction_id));
    for (const auction of auctions) lot(auction.auction_id).take(auction);
    for (const [id, tile] of tiles) {
      if (ids.has(id)) continue;
      tile.off();
      tile.known.release();
      // Another lot takes the place; the others stay where they are.
      const next = [...ids].find((other) => !tiles.has(other));
      tiles.delete(id);
      if (next) fill(tile.item, next);
      else tile.item.remove();
    }
    for (const id of ids) if (!tiles.has(id)) fill($('tiles').appendChild(document.createElement('li')), id);
  } catch { /* The next refresh tries again; the connection says what is wrong. */ }
}

function fill(item, id) {
  const known = lot(id);
  item.dataset.auction = id;
  item.innerHTML = `<a href="/a/${id}"><span class="name"></span><span class="amount"></span><span class="left"></span></a>`;
  known.hold();
  const off = known.watch.on('bid', () => updates.push(performance.now()));
  const [name, price, left] = item.firstElementChild.children;
  tiles.set(id, { item, known, name, price, left, off });
}

function gauge(name, value) {
  if (!gauges.has(name)) {
    const box = document.createElement('div');
    box.innerHTML = '<dt></dt><dd></dd>';
    box.firstChild.textContent = name;
    $('gauges').append(box);
    gauges.set(name, box.lastChild);
  }
  text(gauges.get(name), value);
}

function draw() {
  if (!isShown) return;
  let viewers = 0;
  for (const { item, known, name, price, left } of tiles.values()) {
    const { state } = known;
    if (!state) continue;
    text(name, state.title);
    text(price, money(known.price, state.currency));
    text(left, timeLeft(known));
    item.dataset.fresh = known.isFresh;
    viewers += known.watch?.viewers ?? 0;
  }
  const now = performance.now();
  updates = updates.filter((time) => now - time < 5_000);
  const { transport, latency } = gavelcast.status;
  const isLive = worstStatus() === 'live';
  gauge('lots', tiles.size ? String(tiles.size) : '–');
  gauge('bids a second', isLive ? (updates.length / 5).toFixed(1) : '–');
  // Somebody who watches three lots counts three times.
  gauge('watches', viewers && isLive ? String(viewers) : '–');
  gauge('round trip', latency === null || !isLive ? '–' : `${latency} ms`);
  gauge('transport', transport && isLive ? transport : '–');
  gauge('clock', Number.isFinite(gavelcast.clock.bound) ? `± ${Math.ceil(gavelcast.clock.bound)} ms` : '–');
}

export function start() {
  onDraw(draw);
  setInterval(refresh, REFRESH_MS);
}
