// One auction: its price, where the user stands, bids, and the end. The address alone decides which auction.

import { call, explain, session } from './api.js';
import { intend, isUnknown, place } from './bidding.js';
import { confirm, signIn } from './dialogs.js';
import { text, timeLeft } from './list.js';
import { changed, gavelcast, lot, onDraw } from './lots.js';
import { ago, moment, money, parseAmount } from './money.js';
import { picture } from './pictures.js';
import { say, tell } from './speech.js';

const ROWS = 10;
const EXTENSION_MS = 10_000;
/** How often the user's own maximum is read again: another device may have raised it. */
const MAXIMUM_MS = 20_000;
/** How long good news about a bid stays; later it may be false. */
const NEWS_MS = 10_000;
/** An amount that is on a button for a shorter time, in milliseconds, was hardly read. */
const READ_MS = 400;
const canHover = matchMedia('(hover: hover)').matches;

const $ = (id) => document.getElementById(id);
const form = $('bid');
const amount = $('amount');
/** The lot in the room; null in other views. */
let known = null;
/** The bids under way, by lot. */
const placing = new Map();
let lastStanding = 'none';
let lastResult = null;
let failure = '';
/** True once the bid API has described the lot, or has refused to. */
let isLoaded = false;

const rows = (list) => Array.from({ length: ROWS }, () => {
  const item = document.createElement('li');
  item.innerHTML = '<span class="who"></span><span class="amount"></span><time></time>';
  list.append(item);
  return item;
});
const history = rows($('history'));
const bidders = rows($('bidders'));

const refusals = {
  BAD_REQUEST: 'There is no such auction.', UNAUTHORIZED: 'Sign in to watch this lot, or open the link that you were sent.',
  FORBIDDEN: 'Your account does not let you watch this lot. Open it by the link that you were sent.',
};

const shown = (value) => money(value, known.state.currency);

/** Opens the room of an auction, or leaves it. */
export function show(id) {
  if (known?.id === id) return;
  known?.release();
  known = id ? lot(id) : null;
  $('room').hidden = !known;
  amount.value = '';
  $('is-maximum').checked = false;
  note('');
  failure = '';
  isLoaded = false;
  lastStanding = 'none';
  lastResult = null;
  clear();
  drawKeep(false);
  if (!known) return;
  known.hold();
  load(known);
  changed();
}

/** Nothing of an earlier lot stays, in particular no button that would bid on it. */
function clear() {
  for (const id of ['picture', 'standing', 'quick']) $(id).replaceChildren();
  for (const id of ['room-title', 'room-status', 'room-seller', 'room-viewers', 'description', 'price-age', 'ends', 'reserve', 'hammer']) $(id).textContent = '';
  for (const id of ['price', 'countdown']) $(id).textContent = '–';
  $('standing').dataset.standing = 'none';
  $('price').dataset.fresh = 'false';
  $('hammer').hidden = $('buy').hidden = true;
  $('place').disabled = amount.disabled = true;
  amount.placeholder = '';
  fill(history, []);
  fill(bidders, []);
  $('line').firstElementChild.setAttribute('points', '');
  document.title = 'Gavelcast · live auctions';
}

function drawKeep(isKept) {
  $('keep').setAttribute('aria-pressed', String(isKept));
  $('keep').textContent = isKept ? '★ On your watch list' : '☆ Add to watch list';
}

/** Says whether the lot is on the user's watch list. */
async function loadKeep(entered) {
  if (!session.current) return drawKeep(false);
  const { auctions } = await call('/api/v1/users/me/watchlist?limit=100');
  if (known === entered) drawKeep(auctions.some(({ auction_id }) => auction_id === entered.id));
}

async function load(entered) {
  loadKeep(entered).catch(() => {});
  try {
    await entered.load();
  } catch (error) {
    if (known !== entered) return;
    failure = error.status === 404 ? 'There is no such auction.' : '';
    // Only signed-in users can read a private lot from the bid API, but anybody with a share link may watch it.
    if (error.status === 0 || error.status >= 500) setTimeout(() => known === entered && load(entered), 2_000);
  }
  if (known === entered) isLoaded = true;
  changed();
}

export const current = () => known;

// --- Drawing ---------------------------------------------------------------------------------------------------

/** @param {'good'|'bad'|'unknown'|''} kind */
export function note(message, kind = '') {
  if (message) say(message);
  $('note').textContent = message;
  $('note').dataset.kind = kind;
  clearTimeout(fading);
  if (kind === 'good') fading = setTimeout(note, NEWS_MS, '');
}

let fading = 0;

function fill(list, items) {
  list.forEach((row, index) => {
    const item = items[index];
    const [who, value, time] = row.children;
    row.classList.toggle('own', Boolean(item?.isOwn));
    row.classList.toggle('pending', Boolean(item?.isPending));
    row.classList.toggle('unused', !item);
    text(who, item?.who ?? '');
    text(value, item?.amount ?? '');
    text(time, item?.time ?? '');
  });
}

function drawHistory() {
  const { bids, me } = known;
  const now = gavelcast.clock.now();
  const bid = placing.get(known.id);
  const list = bids.slice(0, ROWS).map(({ bidder, amount: value, bid_at }) => ({
    who: bidder === me ? 'you' : bidder, amount: shown(value), time: ago(now - Date.parse(bid_at)), isOwn: bidder === me,
  }));
  // A bid under way is a row of its own until its outcome is known.
  if (bid) list.unshift({ who: 'you', amount: money(bid.amount, bid.currency), time: 'placing…', isOwn: true, isPending: true });
  fill(history, list);
  const best = new Map();
  for (const { bidder, amount: value } of bids) if (!(best.get(bidder) >= value)) best.set(bidder, value);
  for (const { bidder, amount: value } of known.state.top_bids ?? []) if (!(best.get(bidder) >= value)) best.set(bidder, value);
  fill(bidders, [...best].sort((one, other) => other[1] - one[1]).slice(0, ROWS).map(([bidder, value]) => ({
    who: bidder === me ? 'you' : bidder, amount: shown(value), time: '', isOwn: bidder === me,
  })));
  const prices = bids.map((one) => one.amount).reverse();
  const [low, high] = [Math.min(...prices), Math.max(...prices)];
  const points = prices.map((value, index) => `${(300 * index / Math.max(1, prices.length - 1)).toFixed(1)},${(57 - 54 * (value - low) / (high - low || 1)).toFixed(1)}`);
  const line = $('line').firstElementChild;
  if (line.getAttribute('points') !== points.join(' ')) line.setAttribute('points', points.join(' '));
}

const atLastKnownPrice = 'at the last price we know';
const standingText = {
  none: () => '', leading: () => (known.isFresh ? 'You lead.' : `You led ${atLastKnownPrice}.`) + (known.maximum ? ` Your maximum: ${shown(known.maximum)}.` : ''),
  outbid: () => (known.isFresh ? 'You have been outbid.' : `You were outbid ${atLastKnownPrice}.`),
  won: () => `You won, for ${shown(known.state.current_price)}.`, lost: () => 'You did not win this one.',
};

/** What somebody points at does not change. A touch leaves nothing behind that points. */
const isPointedAt = (element) => element.matches(':active') || canHover && element.matches(':hover') || element.contains(document.activeElement) && document.activeElement.matches(':focus-visible');

function drawStanding() {
  const { standing } = known;
  const element = $('standing');
  element.dataset.standing = standing;
  element.dataset.fresh = known.isFresh;
  const words = standingText[standing]();
  // Only the words change: a button that has the focus keeps it.
  if (!element.firstChild) element.append('');
  if (element.firstChild.nodeValue !== words) element.firstChild.nodeValue = words;
  let again = element.querySelector('button');
  const isOffered = standing === 'outbid' && known.isRunning;
  if (isOffered && !again) {
    again = document.createElement('button');
    again.type = 'button';
    const { id, state } = known;
    again.onclick = ({ target }) => {
      if (known?.id !== id) return;
      if (performance.now() - target.labelledAt < READ_MS) note('The price has just changed. Look at the new amount.');
      else attempt(intend('bid', id, Number(target.dataset.amount), state.currency));
    };
    element.append(again);
  }
  if (again) again.disabled = placing.has(known.id);
  if (isOffered && !isPointedAt(again)) {
    const label = `Bid ${shown(known.minimum)}`;
    if (again.textContent !== label) again.labelledAt = again.textContent ? performance.now() : -READ_MS;
    again.dataset.amount = known.minimum;
    text(again, label);
  }
  if (!isOffered) again?.remove();
  if (standing !== lastStanding) {
    lastStanding = standing;
    // What was good news a moment ago may be false now.
    const { kind } = $('note').dataset;
    if (standing === 'outbid' && kind === 'good' || standing === 'leading' && kind === '') note('');
    if (words) say(words);
  }
}

const kindOfBid = () => (known.standing === 'leading' || $('is-maximum').checked ? 'maximum' : 'bid');

/** What a button does, in words. */
const actionLabel = (kind, isLeading, price) => ({ buy: 'Buy for', bid: 'Bid', maximum: isLeading ? 'Raise maximum to' : 'Bid up to' })[kind] + ` ${price}`;

function drawForm() {
  const { state, isRunning } = known;
  amount.disabled = !isRunning;
  const typed = parseAmount(amount.value, state.currency);
  const isPlacing = placing.has(known.id);
  const isLeading = known.standing === 'leading';
  const kind = kindOfBid();
  const label = isPlacing ? 'Placing…' : typed?.amount && isRunning ? actionLabel(kind, isLeading, shown(typed.amount)) : isLeading ? 'Raise maximum' : 'Bid';
  $('is-maximum').disabled = isLeading;
  text($('place'), label);
  $('place').disabled = !isRunning || isPlacing;
  const placeholder = isLeading ? 'your maximum' : `${shown(known.minimum)} or more`;
  if (amount.placeholder !== placeholder) amount.placeholder = placeholder;
  const buy = known.details?.buy_now_price;
  const mayBuy = isRunning && buy && state.current_price < buy;
  $('buy').hidden = !mayBuy;
  if (mayBuy) text($('buy'), `Buy now for ${shown(buy)}`);
  $('buy').disabled = isPlacing;
  drawQuick();
  // A lot without a reserve reports it as met. Then the page says nothing.
  const reserve = !state.bid_count || !('reserve_met' in state) ? '' : !state.reserve_met ? 'The reserve is not met yet.' : known.hasReserve ? 'The reserve is met.' : '';
  text($('reserve'), isRunning ? reserve : '');
}

function drawQuick() {
  const group = $('quick');
  while (group.children.length < 3) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'secondary';
    button.onclick = () => {
      amount.value = button.dataset.amount;
      changed();
      amount.focus();
    };
    group.append(button);
  }
  if (isPointedAt(group)) return;
  const { minimum, state, isRunning } = known;
  [...group.children].forEach((button, index) => {
    const value = Number((minimum + [0, 1, 4][index] * (state.bid_increment || 1)).toFixed(4));
    button.dataset.amount = value;
    button.disabled = !isRunning || known.standing === 'leading';
    text(button, shown(value));
  });
}

function drawEnd() {
  const result = known.watch?.result ?? null;
  const hammer = $('hammer');
  hammer.hidden = result === null;
  if (result === null) return;
  const { outcome, winner, winning_bid } = result;
  const isOwn = winner && winner.username === known.me;
  const words = outcome === 'sold' ? `Sold to ${isOwn ? 'you' : winner?.username ?? 'the highest bidder'} for ${shown(winning_bid)}`
    : outcome === 'cancelled' ? 'This auction was cancelled' : 'The auction is over. The lot was not sold';
  text(hammer, words);
  if (lastResult) return;
  lastResult = result;
  // What a bid came to before the end is of no use now, unless it is still under way.
  if (!placing.has(known.id)) note('');
  say(words);
}

function draw() {
  if (!known) return;
  const { state, details } = known;
  const { status, error } = known.watch;
  const missing = failure || (status === 'failed' ? refusals[error.code] ?? error.message : '');
  const isEmpty = !state || status === 'failed';
  $('room').classList.toggle('bare', isEmpty);
  if (isEmpty) {
    text($('room-title'), missing || 'One moment…');
    return;
  }
  if (isLoaded && !$('picture').firstChild) $('picture').append(picture(details ?? state));
  text($('room-title'), state.title ?? '');
  text($('description'), details?.description ?? '');
  text($('room-seller'), details?.seller ? `offered by ${details.seller}` : known.id.startsWith('prv_') ? 'a private lot' : '');
  const { viewers } = known.watch;
  text($('room-viewers'), viewers > 1 && known.isFresh ? `${viewers} watching` : '');
  const heard = known.isFresh ? '' : ', last we heard';
  text($('room-status'), { active: `running${heard}`, scheduled: `upcoming${heard}` }[state.status] ?? timeLeft(known));
  $('room-status').dataset.status = state.status;
  const isSold = state.status === 'sold';
  text($('price-label'), !state.bid_count ? 'Starting price' : known.isRunning ? (known.isFresh ? 'Current price' : 'Last known price') : isSold ? 'Final price' : 'Highest bid');
  text($('price'), shown(known.price));
  $('room').dataset.long = shown(known.price).length > 9;
  $('price').dataset.fresh = known.isFresh;
  drawTimes();
  drawStanding();
  drawForm();
  drawHistory();
  drawEnd();
  document.title = `${shown(known.price)}${known.isFresh ? '' : ' (not current)'} · ${state.title}`;
}

/** What changes with the clock alone. */
export function drawTimes() {
  if (!known?.state) return;
  const { state } = known;
  const now = performance.now();
  const currentAt = known.noteFreshness(now);
  const age = currentAt === null ? 'Waiting for the current price.' : `Not confirmed for at least ${Math.max(1, Math.floor((now - currentAt) / 1000))} s.`;
  text($('price-age'), known.isFresh ? '' : age);
  text($('left-label'), !known.isRunning ? 'Status' : known.isFresh ? 'Time left' : 'Time left, last we heard');
  text($('countdown'), timeLeft(known));
  const left = Date.parse(known.endsAt) - gavelcast.clock.now();
  $('countdown').dataset.near = known.isRunning && left < 30_000;
  const isExtended = now - known.extendedAt < EXTENSION_MS && known.extendedAt > 0;
  const starts = known.details?.starts_at;
  const heard = known.isFresh ? '' : ', last we heard';
  const scheduled = starts ? `starts ${moment(starts)}${heard}` : '';
  const when = { cancelled: '', scheduled }[state.status] ?? (known.isRunning ? `ends ${moment(known.endsAt)}${heard}` : `ended ${moment(known.endsAt)}`);
  text($('ends'), isExtended ? known.extension : when);
}

// --- Bidding ---------------------------------------------------------------------------------------------------

async function submit() {
  if (!known?.state || placing.has(known.id)) return;
  const { state, id } = known;
  const typed = parseAmount(amount.value, state.currency);
  if (typed === null) return;
  if (typed.error) return note(typed.error, 'bad');
  const isLeading = known.standing === 'leading';
  const { maximum } = known;
  if (isLeading && maximum !== null && typed.isCertain && typed.amount <= maximum) return note(`Your maximum is ${shown(maximum)} already. Enter more than that to raise it.`, 'bad');
  if (!isLeading && known.isFresh && typed.isCertain && typed.amount < known.minimum) return note(`Bid ${shown(known.minimum)} or more.`, 'bad');
  const bid = intend(kindOfBid(), id, typed.amount, state.currency);
  if (!typed.isCertain && !(await confirm('Did we read that right?', `You typed “${amount.value}”. We read that as ${money(bid.amount, bid.currency)}.`, `Yes, ${money(bid.amount, bid.currency)}`))) return;
  await attempt(bid);
}

/** Places a bid, after the questions that are due. */
async function attempt(bid) {
  if (placing.has(bid.auction_id)) return;
  const of = lot(bid.auction_id);
  const price = money(bid.amount, bid.currency);
  const action = actionLabel(bid.kind, of.standing === 'leading', price);
  if (!of.isFresh && !(await confirm('This price may be old', `We do not have the current price of this lot. ${action} anyway?`, action))) return;
  if (!session.current && !(await signIn())) return;
  if (placing.has(bid.auction_id)) return;
  placing.set(bid.auction_id, bid);
  of.holdStanding(true);
  const isHere = () => known?.id === bid.auction_id;
  const typed = amount.value;
  const wasLeading = of.standing === 'leading';
  if (isHere()) note('');
  changed();
  try {
    const answer = await place(bid, session.current, () => isHere() && note(`No answer yet. Your bid of ${price} is being sent again; it counts once.`));
    of.takeAnswer(answer, bid.kind === 'maximum' ? bid.amount : 0);
    const words = bid.kind === 'buy' ? 'It is yours.' : answer.is_highest_bidder ? `Your ${bid.kind === 'maximum' ? 'maximum' : 'bid'} of ${price} is in.`
      : `Your ${bid.kind} of ${price} is in, but somebody's maximum is higher.`;
    // What a purchase or a bid has changed is read, where it does not arrive by itself.
    if (bid.kind === 'buy' || !of.isFresh) of.load().catch(() => {});
    if (isHere()) {
      note(words, answer.is_highest_bidder || bid.kind === 'buy' ? 'good' : '');
      // Clear the field, unless the user has changed it or it names more than this bid.
      if (amount.value === typed && !(parseAmount(typed, bid.currency)?.amount > bid.amount)) amount.value = '';
    } else tell(`${of.state?.title}: ${words}`);
  } catch (error) {
    const isLost = isUnknown(error);
    const isRaise = error.error === 'BID_TOO_LOW' && bid.kind === 'maximum' && wasLeading && of.standing === 'leading';
    const words = isLost ? `We do not know whether your bid of ${price} was accepted. Check the list of bids before you bid again.`
      : bid.kind === 'buy' && error.error === 'VALIDATION_ERROR' ? 'It cannot be bought at once any more.'
      : isRaise ? `Your maximum is already that high. Enter ${money(error.minimum_bid, bid.currency)} or more to raise it.`
        : explain(error, (value) => money(value, bid.currency));
    of.takeMinimum(error.minimum_bid);
    // The user may have raised the maximum elsewhere, or the seller may have changed a price.
    if (isRaise || ['PRICE_CHANGED', 'VALIDATION_ERROR'].includes(error.error)) of.load().catch(() => {});
    if (isHere()) note(words, isLost ? 'unknown' : 'bad');
    else tell(`${of.state?.title}: ${words}`);
  } finally {
    placing.delete(bid.auction_id);
    of.holdStanding(false);
    changed();
  }
}

async function toggleKeep() {
  if (!session.current && !(await signIn())) return;
  const { id } = known;
  const isKept = $('keep').getAttribute('aria-pressed') === 'true';
  try {
    await call(`/api/v1/users/me/watchlist/${id}`, { method: isKept ? 'DELETE' : 'POST' });
    if (known?.id === id) drawKeep(!isKept);
  } catch (error) {
    note(explain(error, String), 'bad');
  }
}

export function start() {
  onDraw(draw);
  form.onsubmit = (event) => {
    event.preventDefault();
    submit();
  };
  amount.oninput = () => {
    note('');
    changed();
  };
  $('is-maximum').onchange = changed;
  $('keep').onclick = toggleKeep;
  $('buy').onclick = async () => {
    const price = known.details.buy_now_price;
    const bid = intend('buy', known.id, price, known.state.currency);
    if (await confirm('Buy it now?', `The auction ends and you pay ${money(price, bid.currency)}.`, 'Buy it')) attempt(bid);
  };
  session.onChange(() => {
    // What the page said was for somebody else.
    note('');
    amount.value = '';
    if (known) load(known);
  });
  setInterval(() => known?.state && known.standing === 'leading' && known.isRunning && !document.hidden && known.load().catch(() => {}), MAXIMUM_MS);
  // On a phone the form lies over the page, which leaves room for it.
  new ResizeObserver(() => document.body.style.setProperty('--bid-height', `${form.offsetHeight}px`)).observe(form);
}
