// The list of auctions: search, filters, order. It never moves under the pointer or the keyboard's focus.

import { call, session } from './api.js';
import { changed, gavelcast, lot, onDraw } from './lots.js';
import { duration, money } from './money.js';
import { picture } from './pictures.js';

const REFRESH_MS = 5_000;
const LIVE = 12;
const SHOWN = 60;
const CARD_HEIGHT = 92;
const CARD_WIDTH = 300;
const GAP = 10;

const $ = (id) => document.getElementById(id);
const cards = $('cards');
const filters = $('filters');
/** Auction id → { item, name, amount, meta, left, link, known, isHeld } and, once drawn, the values that are shown. */
const shown = new Map();
/** The ids in their order on the screen. */
let order = [];
let loadedAt = -Infinity;
let isVisible = true;
let request = 0;
let timer = 0;
/** True until a changed search or filter has its answer. The cards on the screen then answer the old question. */
let isAsked = false;

/** How long a price of the bid API's list may be shown as current, in milliseconds. */
const LIST_AGE_MS = 3 * REFRESH_MS;

export async function refresh() {
  clearTimeout(timer);
  const turn = ++request;
  await read(turn);
  if (turn === request) timer = setTimeout(refresh, REFRESH_MS);
}

async function read(turn) {
  if (document.body.dataset.view === 'wall') return;
  const { show, sort, q } = filters;
  let failure = '';
  let auctions = [];
  let data_age = 0;
  try {
    if (show.value === 'watchlist') {
      if (session.current) ({ auctions } = await call(`/api/v1/users/me/watchlist?limit=${SHOWN}`));
      else failure = 'Sign in to keep a watch list.';
    } else {
      // Auctions that are over are always listed newest first.
      const isOver = ['sold', 'unsold'].includes(show.value);
      const query = new URLSearchParams({ status: show.value, sort: isOver ? 'newest' : sort.value, limit: SHOWN });
      if (q.value.trim()) query.set('q', q.value.trim());
      ({ auctions, data_age = 0 } = await call(`/api/v1/auctions?${query}`));
    }
  } catch (error) {
    failure = error.status === 429 ? 'Too many searches. Trying again in a moment.' : 'The auction house does not answer. Trying again.';
  }
  if (turn !== request) return;
  if (failure) {
    $('empty').textContent = failure;
    if (show.value !== 'watchlist' && !isAsked) return;
  } else $('empty').textContent = auctions.length ? '' : q.value.trim() ? `Nothing matches “${q.value.trim()}”.` : 'Nothing here right now. This list refreshes by itself.';
  loadedAt = performance.now() - 1000 * data_age;
  for (const auction of auctions) lot(auction.auction_id).take(auction);
  const ids = new Set(auctions.map(({ auction_id }) => auction_id));
  for (const [id, card] of shown) if (!ids.has(id)) card.isGone = true;
  for (const id of ids) {
    if (!shown.has(id)) add(id);
    shown.get(id).isGone = false;
  }
  arrange([...ids]);
  isAsked = false;
  changed();
}

function add(id) {
  const item = document.createElement('li');
  item.dataset.auction = id;
  item.innerHTML = `<a class="card" href="/a/${id}"><span class="thumb"></span><span class="name"></span><span class="amount"></span><span class="meta"></span><span class="left"></span></a>`;
  const find = (name) => item.querySelector(`.${name}`);
  const known = lot(id);
  find('thumb').append(picture(known.details));
  shown.set(id, { item, known, name: find('name'), amount: find('amount'), meta: find('meta'), left: find('left'), link: item.firstElementChild, isHeld: false });
}

const isTouched = () => !isAsked && (cards.matches(':hover') || cards.querySelector(':focus-visible') !== null);

/** Sets the order, except while somebody points at a card; new cards then come last. */
function arrange(wanted = order) {
  const ids = wanted.filter((id) => shown.has(id));
  const kept = order.filter((id) => shown.has(id));
  if (isTouched() && kept.length) order = [...kept, ...ids.filter((id) => !kept.includes(id))];
  else {
    for (const [id, card] of shown) {
      if (!card.isGone) continue;
      hold(card, false);
      card.item.remove();
      shown.delete(id);
    }
    order = ids.filter((id) => shown.has(id));
    if (filters.sort.value === 'ending_soon' && filters.show.value === 'active') {
      const end = (id) => Date.parse(shown.get(id).known.state.ends_at);
      order.sort((one, other) => end(one) - end(other));
    }
  }
  order.forEach((id, index) => hold(shown.get(id), isVisible && index < LIVE));
  // The keyboard and screen readers follow the order of the screen.
  if (!isTouched()) cards.append(...order.map((id) => shown.get(id).item));
  layOut();
}

function hold(card, isWanted) {
  if (card.isHeld === isWanted) return;
  card.isHeld = isWanted;
  if (isWanted) card.known.hold();
  else card.known.release();
}

/** Places cards by transforms: nothing that the reader sees is pushed around. */
function layOut() {
  const width = cards.clientWidth;
  const columns = Math.max(1, Math.floor((width + GAP) / (CARD_WIDTH + GAP)));
  const cell = (width - GAP * (columns - 1)) / columns;
  order.forEach((id, index) => {
    const { item } = shown.get(id);
    const [row, column] = [Math.floor(index / columns), index % columns];
    item.style.width = `${cell}px`;
    item.style.transform = `translate(${column * (cell + GAP)}px, ${row * (CARD_HEIGHT + GAP)}px)`;
    if (!item.isConnected) cards.append(item);
  });
  cards.style.height = `${Math.ceil(order.length / columns) * (CARD_HEIGHT + GAP)}px`;
}

export const text = (element, value) => {
  if (element.textContent !== value) element.textContent = value;
};

export function timeLeft({ state, endsAt, isRunning, isFresh }) {
  if (state.status === 'scheduled') return 'upcoming';
  if (!isRunning) return { sold: 'sold', unsold: 'not sold', cancelled: 'cancelled' }[state.status] ?? 'over';
  const left = Date.parse(endsAt) - gavelcast.clock.now();
  // Only the server ends an auction, and a late bid may have moved the end.
  return left > 0 ? duration(left) : isFresh ? 'ending…' : 'unknown';
}

function draw() {
  if (document.body.dataset.view === 'wall') return;
  const current = document.body.dataset.auction;
  for (const [id, card] of shown) {
    const { known } = card;
    const { state } = known;
    if (!state) continue;
    text(card.left, timeLeft(known));
    const standing = known.standing;
    const isFresh = known.watch ? known.isFresh : performance.now() - loadedAt < LIST_AGE_MS;
    const { price } = known;
    if (card.state !== state || card.price !== price || card.standing !== standing || card.isFresh !== isFresh) {
      Object.assign(card, { state, price, standing, isFresh });
      text(card.name, state.title);
      text(card.amount, money(price, state.currency));
      const words = { leading: isFresh ? ' · you lead' : ' · you led', outbid: ' · outbid', won: ' · you won', lost: '' }[standing] ?? '';
      text(card.meta, `${state.bid_count} ${state.bid_count === 1 ? 'bid' : 'bids'}${words}`);
      card.item.dataset.standing = standing;
      card.item.dataset.fresh = isFresh;
    }
    if (id === current) card.link.setAttribute('aria-current', 'true');
    else card.link.removeAttribute('aria-current');
  }
}

/** Stops watching the lots while the list is hidden, and resumes when it is shown. */
export function setVisible(isWanted) {
  isVisible = isWanted;
  if (shown.size) arrange();
}

export function start() {
  onDraw(draw);
  filters.onsubmit = (event) => event.preventDefault();
  // Some drivers and assistive tools send only one of the two.
  filters.oninput = filters.onchange = () => {
    filters.sort.hidden = ['sold', 'unsold', 'watchlist'].includes(filters.show.value);
    clearTimeout(timer);
    isAsked = true;
    timer = setTimeout(refresh, 250);
  };
  cards.addEventListener('pointerleave', () => arrange());
  new ResizeObserver(layOut).observe(cards);
  refresh();
}
