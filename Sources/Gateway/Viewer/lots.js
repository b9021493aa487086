// The lots that the page knows: what the bid API says of each, the live watch where there is one, and how the user
// stands. A view asks by `onDraw` to be drawn, in the next frame and at most ten times a second.

import { call, session } from './api.js';
import { Gavelcast } from './gavelcast.js';

const parameters = new URLSearchParams(location.search);
/** `?transport=sse` shows the page as behind a network that lets nothing else through. */
const transports = parameters.getAll('transport');

export const gavelcast = new Gavelcast(location.origin, {
  ...(transports.length ? { transports } : {}),
  // A share link carries its own token.
  getToken: async () => parameters.get('token') ?? session.current?.token ?? null,
});

/** True when the page was loaded with a signed-in user, whose token the gateway may refuse. */
const beganSignedIn = Boolean(session.current) && !parameters.has('token');
const SIGNED_OUT = 'gavelcast signed out';

/** Drops the refused token and reloads the page. A public lot needs no token. */
function signOut() {
  if (!beganSignedIn) return;
  try {
    sessionStorage.setItem(SIGNED_OUT, 'true');
  } catch { /* The page then reloads without a word. */ }
  session.set(null);
  location.reload();
}

/** True once, after the page has begun anew because the user's token was refused. */
export function wasSignedOut() {
  try {
    const was = sessionStorage.getItem(SIGNED_OUT) !== null;
    sessionStorage.removeItem(SIGNED_OUT);
    return was;
  } catch {
    return false;
  }
}

const DRAW_MS = 100;
/** A price that was live for a shorter time, in milliseconds, was only about to be called old. */
const CONFIRMED_MS = 500;
/** How long a lead without an answer must last before the page says so. */
const LEAD_MS = 1_000;
const lots = new Map();
const drawers = new Set();
let isDue = false;
let drawnAt = 0;

/** Calls `draw` in the next frame after something has changed. */
export function onDraw(draw) { drawers.add(draw); }

export function changed() {
  if (isDue) return;
  isDue = true;
  // The first change is drawn in the next frame, and a rush of them ten times a second. A hidden page has no frames.
  const wait = Math.max(0, drawnAt + DRAW_MS - performance.now());
  if (wait > 0 || document.hidden) setTimeout(draw, Math.max(wait, document.hidden ? 200 : 0));
  else requestAnimationFrame(draw);
}

function draw() {
  isDue = false;
  drawnAt = performance.now();
  for (const drawer of drawers) drawer();
}

class KnownLot {
  /** As the bid API last described it. */
  details = null;
  /** The live watch; null while nothing shows the lot. */
  watch = null;
  /** True once the user has bid here. */
  hasBid = false;
  /** The newest bids, `{ bid_id, bidder, amount, bid_at, is_proxy }`, newest first. */
  bids = [];
  /** The user's name in this lot's events. */
  #me = null;
  #reload = 0;
  extendedAt = 0;
  extension = '';
  /** The least bid that a refusal named; 0 once another bid has come. */
  #floor = 0;
  #users = 0;

  constructor(id) { this.id = id; }

  /** The newest state known, from the watch or from the bid API. */
  get state() {
    const { watch, details } = this;
    if (!watch?.state) return details;
    if (!(details?.seq > watch.seq)) return watch.state;
    if (this.#ahead?.watched !== watch.state || this.#ahead.details !== details) {
      this.#ahead = { watched: watch.state, details, state: { ...watch.state, ...details } };
    }
    return this.#ahead.state;
  }

  /** What the bid API has told of later events than the watch: one object as long as nothing changes. */
  #ahead = null;

  get status() { return this.watch?.status ?? 'connecting'; }

  /** True when the price is the one of this moment, or final. */
  get isFresh() { return this.status === 'live' || this.status === 'ended'; }

  #currentAt = null;
  #freshSince = null;

  /**
   * The last moment at which the price may have been confirmed, as `performance.now()`; null when it never was. The
   * true moment may be earlier, because a silent Redis is noticed late.
   */
  noteFreshness(now = performance.now()) {
    if (this.isFresh) {
      this.#freshSince ??= now;
      if (now - this.#freshSince >= CONFIRMED_MS) this.#currentAt = now;
    } else if (this.#freshSince !== null) {
      // The silence of a lost connection began with its last message.
      const silence = gavelcast.clock.now() - (gavelcast.status.lastMessageAt ?? gavelcast.clock.now());
      if (now - this.#freshSince >= CONFIRMED_MS) this.#currentAt = now - Math.max(0, silence);
      this.#freshSince = null;
    }
    return this.#currentAt;
  }

  /** True once the state has shown an unmet reserve. `reserve_met` is also true for a lot without a reserve. */
  hasReserve = false;

  /** The current price: from the answer to the user's own bid until the state has caught up with it. */
  get price() { return this.answer?.new_current_price ?? this.state.current_price; }

  get isRunning() { return this.state?.status === 'active' && !this.watch?.result; }

  /** What the answer to the user's last bid said, until the state has caught up with it. */
  #answer = null;

  get answer() {
    const price = this.#answer?.new_current_price;
    const { current_price, bid_count } = this.state;
    // The first bid may be at the starting price.
    return price > current_price || price === current_price && !bid_count ? this.#answer : null;
  }

  /** The user's own maximum while it leads; null otherwise. */
  get maximum() { return this.standing === 'leading' && this.#maximum > this.price ? this.#maximum : null; }

  #maximum = 0;

  /** When the auction ends: from the answer to the user's own bid until the state has caught up with it. */
  get endsAt() { return this.answer?.auction_ends_at ?? this.state.ends_at; }

  /** @param {number} maximum that the user has set by this bid; 0 for none */
  takeAnswer(answer, maximum) {
    this.hasBid = true;
    this.#answer = answer;
    this.#maximum = Math.max(this.#maximum, maximum);
    this.#currentAt = performance.now();
    changed();
  }

  /** A refusal has named the least bid, which is news when the price here is old. */
  takeMinimum(minimum) {
    this.#floor = minimum ?? 0;
    changed();
  }

  get me() { return this.#me ?? session.username; }

  /** How the user stood when a bid was sent; null while every bid has its answer. */
  #before = null;
  #ledAt = null;

  get standing() {
    const standing = this.#standing;
    if (standing !== 'leading' || this.#before === null) return standing;
    // The next event may be the automatic bid that beats this one. It is part of the same transaction.
    this.#ledAt ??= performance.now();
    return performance.now() - this.#ledAt < LEAD_MS ? this.#before : standing;
  }

  /** Keeps the standing for a moment while a bid of the user's has no answer. */
  holdStanding(isHeld) {
    this.#before = isHeld ? this.standing : null;
    this.#ledAt = null;
  }

  get #standing() {
    const { state, me } = this;
    if (!me || !state) return 'none';
    const best = state.top_bids?.[0]?.bidder;
    if (['sold', 'unsold', 'cancelled'].includes(state.status)) {
      if (!this.hasBid && best !== me) return 'none';
      const winner = this.watch?.result ? this.watch.result.winner?.username : state.status === 'sold' ? best : null;
      return winner === me ? 'won' : 'lost';
    }
    if (this.answer) return this.answer.is_highest_bidder ? 'leading' : 'outbid';
    if (best === me) return 'leading';
    return this.hasBid || state.top_bids?.some(({ bidder }) => bidder === me) ? 'outbid' : 'none';
  }

  /** The least amount that the next bid must have. */
  get minimum() {
    const { state } = this;
    const least = state.bid_count ? Number((this.price + state.bid_increment).toFixed(4)) : state.starting_price;
    return Math.max(least, this.#floor);
  }

  /** Shows the lot live until `release`. */
  hold() {
    this.#users += 1;
    if (this.watch) return;
    this.watch = gavelcast.watch(this.id);
    let seen = null;
    this.watch.on('change', (state) => {
      const { seq } = this.watch;
      // Before the first bid the seller may change what is not in the state, such as the price to buy now.
      if (seen !== null && seq > seen && state?.bid_count === 0) this.#loadSoon();
      seen = seq;
      if (state?.bid_count && state.reserve_met === false) this.hasReserve = true;
      changed();
    });
    this.watch.on('status', () => {
      this.noteFreshness();
      if (this.watch?.error?.code === 'UNAUTHORIZED') signOut();
      changed();
    });
    this.watch.on('bid', ({ bid }) => {
      this.#floor = 0;
      if (bid.bidder === this.me) this.hasBid = true;
      if (!this.bids.some(({ bid_id }) => bid_id === bid.bid_id)) this.bids = [bid, ...this.bids].slice(0, 200);
    });
    // Merged and lost bids are missing in the history.
    this.watch.on('gap', () => this.bids.length && this.#loadSoon());
    this.watch.on('extended', ({ new_ends_at, previous_ends_at, reason }) => {
      const seconds = Math.round((Date.parse(new_ends_at) - Date.parse(previous_ends_at)) / 1000);
      this.extension = reason === 'anti_sniping' ? `A late bid gave everyone ${seconds} s more.` : `The auction house gave everyone ${seconds} s more.`;
      this.extendedAt = performance.now();
    });
  }

  /** A crowd must not ask the bid API in the same moment. */
  #loadSoon() {
    clearTimeout(this.#reload);
    this.#reload = setTimeout(() => this.load().catch(() => {}), 500 + 1_500 * Math.random());
  }

  release() {
    this.#users -= 1;
    if (this.#users > 0) return;
    clearTimeout(this.#reload);
    if (this.state) this.details = { ...this.details, ...this.state, seq: Math.max(this.details?.seq ?? 0, this.watch?.seq ?? 0) };
    this.noteFreshness();
    this.#freshSince = null;
    this.watch?.close();
    this.watch = null;
  }

  take(details) {
    // A list may be older than what is known from elsewhere.
    if (details.seq < this.details?.seq) return;
    if (details.seq > Math.max(this.watch?.seq ?? 0, this.details?.seq ?? 0) && !this.isFresh) this.#currentAt = performance.now();
    this.details = details;
    if (details.you) {
      this.hasBid = true;
      this.#me = details.you.bidder;
      this.#maximum = details.you.max_amount;
    }
    changed();
  }

  forgetUser() {
    this.hasBid = false;
    this.#me = this.#answer = null;
    this.#maximum = 0;
  }

  /** Reads details and history from the bid API. */
  async load() {
    const [details, history] = await Promise.all([
      call(`/api/v1/auctions/${this.id}`), call(`/api/v1/auctions/${this.id}/bids?limit=50`),
    ]);
    this.take(details);
    const known = new Set(this.bids.map(({ bid_id }) => bid_id));
    this.bids = [...this.bids, ...history.bids.filter(({ bid_id }) => !known.has(bid_id))].sort((one, other) => other.amount - one.amount);
  }
}

/** True while any lot is watched. */
export const isWatching = () => [...lots.values()].some(({ watch }) => watch);

/** The worst status of the lots that are watched: what a view of many of them must admit. */
export function worstStatus() {
  const statuses = [...lots.values()].map(({ watch }) => watch?.status);
  return ['offline', 'stale'].find((status) => statuses.includes(status)) ?? gavelcast.status.state;
}

export function lot(id) {
  if (!lots.has(id)) lots.set(id, new KnownLot(id));
  return lots.get(id);
}

gavelcast.on('status', changed);
session.onChange(() => {
  for (const known of lots.values()) known.forgetUser();
  changed();
});
