// The Gavelcast client: watches one auction over WebSocket, keeps its state current, and comes back by itself.
//
//   import { AuctionWatch } from '/gavelcast.js';
//   const watch = new AuctionWatch(location.origin, 'a1');
//   watch.addEventListener('state', () => console.log(watch.state.current_price));
//   watch.addEventListener('connection', () => console.log(watch.connection));   // connecting | live | offline | over
//
// Events: 'state' (something changed), 'message' (detail: the message as received), 'connection'.

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 10_000;
const PING_MS = 20_000;
const TOP_BIDS = 10;

/** The server's clock, estimated from messages that carry its time. Shared by all watches of a page. */
export class ServerClock {
  #offset = 0;
  #uncertainty = Infinity;

  /** Takes a server time in, received now after a round trip of so many milliseconds. */
  observe(serverTime, roundTrip) {
    const uncertainty = roundTrip / 2;
    // A tighter estimate replaces a looser one; old certainty fades, because clocks drift.
    this.#uncertainty *= 1.1;
    if (uncertainty > this.#uncertainty) return;
    this.#uncertainty = uncertainty;
    this.#offset = Date.parse(serverTime) + uncertainty - Date.now();
  }

  now() {
    return Date.now() + this.#offset;
  }
}

export class AuctionWatch extends EventTarget {
  #address;
  #socket = null;
  #retry = FIRST_RETRY_MS;
  #retryTimer = 0;
  #pingTimer = 0;
  #isStopped = false;

  /** @param {string} gateway such as https://auctions.example  @param {string} auctionID */
  constructor(gateway, auctionID, clock = new ServerClock()) {
    super();
    this.auctionID = auctionID;
    this.clock = clock;
    /** The auction's state as in SNAPSHOT, kept current; null before the first message or when nothing is published. */
    this.state = null;
    /** The sequence number of the last event applied. */
    this.seq = 0;
    this.connection = 'connecting';
    this.#address = `${gateway.replace(/^http/, 'ws')}/v1/auctions/${encodeURIComponent(auctionID)}/live`;
    this.#connect();
  }

  /** Stops watching for good. */
  stop() {
    this.#isStopped = true;
    clearTimeout(this.#retryTimer);
    clearInterval(this.#pingTimer);
    this.#socket?.close(1000);
  }

  #connect() {
    // What this watch has seen is its cursor: after a loss it goes on from there.
    const socket = new WebSocket(this.state === null ? this.#address : `${this.#address}?since=${this.seq}`);
    this.#socket = socket;
    socket.onopen = () => {
      this.#pingTimer = setInterval(() => this.#ping(), PING_MS);
      this.#ping();
    };
    socket.onmessage = (event) => this.#take(JSON.parse(event.data));
    socket.onclose = (event) => this.#closed(event);
  }

  #ping() {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type: 'PING', t: performance.now() }));
  }

  #closed(event) {
    clearInterval(this.#pingTimer);
    if (this.#isStopped) return;
    if (event.code === 1000) return this.#become('over');
    this.#become('offline');
    let wait = this.#retry * (0.5 + Math.random() / 2);
    this.#retry = Math.min(this.#retry * 2, LONGEST_RETRY_MS);
    try {
      wait = JSON.parse(event.reason).retry_after_ms ?? wait;
    } catch { /* most closes give no reason */ }
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
  }

  #become(connection) {
    if (connection === this.connection) return;
    this.connection = connection;
    this.dispatchEvent(new Event('connection'));
  }

  #take(message) {
    if (message.type === 'PONG') {
      this.clock.observe(message.server_time, performance.now() - message.t);
      return;
    }
    if (message.type === 'SNAPSHOT') {
      this.#retry = FIRST_RETRY_MS;
      this.clock.observe(message.server_time, 2_000);
      this.state = message.state;
      this.seq = message.seq;
      this.#become('live');
    } else if (message.type === 'RESUMED') {
      this.#retry = FIRST_RETRY_MS;
      this.clock.observe(message.server_time, 2_000);
      this.#become('live');
    } else if (message.seq !== undefined) {
      if (message.seq <= this.seq) return;
      this.seq = message.seq;
      this.#apply(message);
    }
    this.dispatchEvent(new CustomEvent('message', { detail: message }));
    this.dispatchEvent(new Event('state'));
  }

  #apply(message) {
    if (message.state) this.state = message.state;
    if (this.state === null) return;
    switch (message.type) {
      case 'BID_UPDATE': {
        const { bidder, amount, bid_at } = message.bid;
        const bids = [{ bidder, amount, bid_at }, ...this.state.top_bids].sort((a, b) => b.amount - a.amount);
        this.state.top_bids = bids.slice(0, TOP_BIDS).map((bid, index) => ({ ...bid, rank: index + 1 }));
        this.state.current_price = message.current_price;
        this.state.bid_count = message.bid_count;
        this.state.reserve_met = message.reserve_met;
        this.state.ends_at = message.ends_at;
        break;
      }
      case 'TIME_EXTENDED': this.state.ends_at = message.new_ends_at; break;
      case 'AUCTION_ENDED': this.state.status = message.outcome; break;
      default: break;
    }
  }
}
