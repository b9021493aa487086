// The viewer page: the running auctions, the one on stage, and a place to bid.

import { AuctionWatch, ServerClock } from '/gavelcast.js';
import { ago, duration, money } from '/format.js';

const LIST_MS = 5_000;
const TICK_MS = 250;
const CARDS = 12;
/** An auction that is over stays in sight for this long. */
const KEEP_ENDED_MS = 8_000;

const $ = (id) => document.getElementById(id);
const clock = new ServerClock();
/** `?transport=sse` shows the page as behind a network that lets no WebSocket through. */
const transports = new URLSearchParams(location.search).getAll('transport');
if (transports.length === 0) transports.push('websocket', 'sse', 'longpoll');
/** Auction id → { watch, card, endedAt } of every auction in sight, in order of appearance. */
const seen = new Map();
let selected = null;
let bidAPI = '';

// --- Session ---------------------------------------------------------------------------------------------------

const session = {
  get token() { return sessionStorage.getItem('token'); },
  set token(value) { value ? sessionStorage.setItem('token', value) : sessionStorage.removeItem('token'); },
};

async function call(path, { method = 'GET', body } = {}) {
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (session.token) headers.Authorization = `Bearer ${session.token}`;
  const response = await fetch(bidAPI + path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.message), { answer, status: response.status });
  return answer;
}

// --- Catalogue -------------------------------------------------------------------------------------------------

async function refreshList() {
  try {
    const { auctions } = await call(`/api/v1/auctions?status=active&sort=newest&limit=${CARDS}`);
    for (const auction of auctions.reverse()) if (!seen.has(auction.auction_id)) add(auction.auction_id);
  } catch (error) {
    if (error.status === undefined) $('empty').textContent = 'The bid API cannot be reached. Trying again.';
  }
  const now = Date.now();
  for (const [id, entry] of seen) if (entry.endedAt && now - entry.endedAt > KEEP_ENDED_MS) remove(id);
  $('empty').hidden = seen.size > 0;
  if (!seen.has(selected)) select(seen.keys().next().value ?? null);
}

function add(id) {
  const watch = new AuctionWatch(location.origin, id, { clock, transports });
  const item = document.createElement('li');
  item.innerHTML = `<button class="card" type="button"><span class="name"></span><span class="amount"></span>
    <span class="meta"></span><span class="left"></span></button>`;
  const card = item.firstElementChild;
  card.onclick = () => select(id);
  $('auctions').prepend(item);
  const entry = { watch, item, card, endedAt: 0 };
  seen.set(id, entry);
  watch.addEventListener('state', () => drawCard(id, entry));
  watch.addEventListener('message', (event) => react(id, entry, event.detail));
  watch.addEventListener('connection', drawConnection);
}

function remove(id) {
  const entry = seen.get(id);
  entry.watch.stop();
  entry.item.remove();
  seen.delete(id);
  drawConnection();
}

function select(id) {
  selected = id;
  for (const [key, entry] of seen) entry.card.setAttribute('aria-current', key === id);
  $('stage').hidden = id === null;
  $('extended').textContent = '';
  note('');
  if (id !== null) drawStage();
}

function react(id, entry, message) {
  if (message.type === 'BID_UPDATE') flash(entry.card.querySelector('.amount'));
  if (message.type === 'AUCTION_ENDED') entry.endedAt = Date.now();
  if (id !== selected) return;
  if (message.type === 'BID_UPDATE') flash($('price'));
  if (message.type === 'TIME_EXTENDED') {
    const seconds = Math.round((Date.parse(message.new_ends_at) - Date.parse(message.previous_ends_at)) / 1000);
    $('extended').textContent = `extended by ${seconds} s`;
  }
  drawStage();
}

// --- Drawing ---------------------------------------------------------------------------------------------------

function flash(element) {
  element.classList.remove('moved');
  void element.offsetWidth;
  element.classList.add('moved');
}

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function timeLeft(state) {
  return state.status === 'active' ? duration(Date.parse(state.ends_at) - clock.now()) : state.status;
}

function drawCard(id, { watch, card }) {
  const { state } = watch;
  if (!state) return;
  text(card.querySelector('.name'), state.title);
  text(card.querySelector('.amount'), money(state.current_price, state.currency));
  text(card.querySelector('.meta'), `${state.bid_count} ${state.bid_count === 1 ? 'bid' : 'bids'}`);
  text(card.querySelector('.left'), timeLeft(state));
  if (id === selected) drawStage();
}

function drawStage() {
  const entry = seen.get(selected);
  const state = entry?.watch.state;
  if (!state) return;
  const isActive = state.status === 'active';
  text($('title'), state.title);
  const viewers = entry.watch.viewers;
  text($('status'), viewers > 1 ? `${state.status} · ${viewers} watching` : state.status);
  $('status').dataset.status = state.status;
  text($('price-label'), state.bid_count ? (isActive ? 'Current price' : 'Final price') : 'Starting price');
  text($('price'), money(state.current_price, state.currency));
  text($('count'), String(state.bid_count));
  const best = state.top_bids[0];
  text($('leader'), best ? `${isActive ? 'led by' : state.status === 'sold' ? 'won by' : 'highest:'} ${best.bidder}` : 'no bids yet');
  text($('reserve'), state.bid_count && !state.reserve_met ? 'reserve not met' : '');
  const minimum = state.bid_count ? state.current_price + state.bid_increment : state.starting_price;
  $('amount').placeholder = minimum.toFixed(Number.isInteger(minimum) ? 0 : 2);
  $('amount').disabled = !isActive;
  $('bid').querySelector('button').disabled = !isActive;
  drawBids(state);
  drawTimes();
}

function drawBids(state) {
  const list = $('bids');
  const key = JSON.stringify(state.top_bids);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...state.top_bids.map((bid) => {
    const item = document.createElement('li');
    const [who, amount, time] = ['span', 'span', 'time'].map((tag) => document.createElement(tag));
    who.className = 'who';
    who.textContent = bid.bidder;
    amount.textContent = money(bid.amount, state.currency);
    time.dateTime = bid.bid_at;
    item.append(who, amount, time);
    return item;
  }));
}

/** What changes with the clock alone. */
function drawTimes() {
  for (const { watch, card } of seen.values()) if (watch.state) text(card.querySelector('.left'), timeLeft(watch.state));
  const state = seen.get(selected)?.watch.state;
  if (!state) return;
  text($('countdown'), timeLeft(state));
  $('countdown').dataset.near = state.status === 'active' && Date.parse(state.ends_at) - clock.now() < 15_000;
  for (const time of $('bids').querySelectorAll('time')) text(time, ago(clock.now() - Date.parse(time.dateTime)));
}

function drawConnection() {
  const states = [...seen.values()].map((entry) => entry.watch.connection);
  const state = ['offline', 'connecting', 'live'].find((candidate) => states.includes(candidate)) ?? 'connecting';
  const element = $('connection');
  element.dataset.state = state;
  text(element, { offline: 'reconnecting', connecting: 'connecting', live: 'live' }[state]);
}

// --- Bidding ---------------------------------------------------------------------------------------------------

function note(message, kind = '') {
  $('bid-note').textContent = message;
  $('bid-note').dataset.kind = kind;
}

$('bid').onsubmit = async (event) => {
  event.preventDefault();
  const amount = Number($('amount').value.trim().replace(',', '.') || $('amount').placeholder);
  if (!(amount > 0)) return note('Enter an amount.', 'bad');
  if (!session.token && !(await join())) return;
  try {
    const answer = await call(`/api/v1/auctions/${selected}/bids`, { method: 'POST', body: { amount } });
    $('amount').value = '';
    const { currency } = seen.get(selected).watch.state;
    note(`You lead with ${money(answer.amount, currency)}.`, 'good');
  } catch (error) {
    if (error.status === 401) session.token = null;
    note(error.status === 401 ? 'Your session is over. Bid again to join anew.' : explain(error), 'bad');
  }
};

function explain(error) {
  if (error.status === undefined) return 'The bid API cannot be reached. Your bid was not confirmed.';
  const currency = seen.get(selected)?.watch.state?.currency ?? 'USD';
  if (error.answer.error === 'BID_TOO_LOW') return `Bid ${money(error.answer.minimum_bid, currency)} or more.`;
  return error.message;
}

/** Asks for a name and registers it; false when the reader changed their mind. */
function join() {
  const dialog = $('join');
  dialog.showModal();
  return new Promise((resolve) => {
    $('join-cancel').onclick = () => dialog.close();
    dialog.onclose = () => resolve(Boolean(session.token));
    $('join-form').onsubmit = async (event) => {
      event.preventDefault();
      const name = $('name').value.trim();
      const secret = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join('-');
      try {
        const body = { username: name, email: `${name.toLowerCase()}@viewer.example`, password: secret };
        session.token = (await call('/api/v1/auth/register', { method: 'POST', body })).token;
        dialog.close();
      } catch (error) {
        $('join-note').textContent = error.message;
        $('join-note').dataset.kind = 'bad';
      }
    };
  });
}

// --- Start -----------------------------------------------------------------------------------------------------

bidAPI = (await (await fetch('/config.json')).json()).bid_api_url.replace(/\/$/, '');
setInterval(drawTimes, TICK_MS);
setInterval(refreshList, LIST_MS);
await refreshList();
