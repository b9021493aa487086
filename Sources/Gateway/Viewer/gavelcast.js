// The Gavelcast client: watches one auction, keeps its state current, and comes back by itself. It speaks WebSocket, and
// where that does not get through, server-sent events, then long-poll; one cursor serves all three.
//
//   import { AuctionWatch } from '/gavelcast.js';
//   const watch = new AuctionWatch(location.origin, 'a1');
//   watch.addEventListener('state', () => console.log(watch.state.current_price));
//   watch.addEventListener('connection', () => console.log(watch.connection));   // connecting | live | offline | over
//
// Events: 'state' (something changed), 'message' (detail: the message as received), 'connection'.

const TRANSPORTS = ['websocket', 'sse', 'longpoll'];
// A transport that fails so often before its first message gives way to the next.
const FAILURES_TO_CHANGE = 2;
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
  #transports;
  #failures = 0;
  /** Ends the connection of now. */
  #leave = () => {};
  #retry = FIRST_RETRY_MS;
  #retryTimer = 0;
  #isStopped = false;

  /**
   * @param {string} gateway such as https://auctions.example
   * @param {string} auctionID
   * @param {{clock?: ServerClock, transports?: string[]}} options transports: those to try, in this order
   */
  constructor(gateway, auctionID, { clock = new ServerClock(), transports = TRANSPORTS } = {}) {
    super();
    this.auctionID = auctionID;
    this.clock = clock;
    /** The auction's state as in SNAPSHOT, kept current; null before the first message or when nothing is published. */
    this.state = null;
    /** The sequence number of the last event applied; null before the first message. */
    this.seq = null;
    /** How many watch, over all gateways; null while that is not known. */
    this.viewers = null;
    this.connection = 'connecting';
    this.#transports = [...transports];
    this.#address = `${gateway}/v1/auctions/${encodeURIComponent(auctionID)}/live`;
    this.#connect();
  }

  /** The transport in use. */
  get transport() {
    return this.#transports[0];
  }

  /** Stops watching for good. */
  stop() {
    this.#isStopped = true;
    clearTimeout(this.#retryTimer);
    this.#leave();
  }

  #connect() {
    // What this watch has seen is its cursor: after a loss it goes on from there, whatever the transport.
    const since = this.seq === null ? '' : `since=${this.seq}`;
    if (this.transport === 'websocket') return this.#openSocket(since);
    const controller = new AbortController();
    this.#leave = () => controller.abort();
    const read = this.transport === 'sse' ? this.#readStream(since, controller) : this.#poll(controller);
    read.catch(() => this.#lost()).finally(() => controller.abort());
  }

  // MARK: WebSocket

  #openSocket(since) {
    const socket = new WebSocket(`${this.#address.replace(/^http/, 'ws')}?${since}`);
    const ping = () => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ type: 'PING', t: performance.now() }));
    const timer = setInterval(ping, PING_MS);
    this.#leave = () => socket.close(1000);
    socket.onopen = ping;
    socket.onmessage = (event) => this.#take(JSON.parse(event.data));
    socket.onclose = (event) => {
      clearInterval(timer);
      let wait;
      try {
        wait = JSON.parse(event.reason).retry_after_ms;
      } catch { /* most closes give no reason */ }
      this.#closed(event.code, wait);
    };
  }

  // MARK: Server-sent events

  async #readStream(since, controller) {
    // Not EventSource: it shows only the types it is asked for, and publishers may invent others.
    const response = await fetch(`${this.#address}?${since}`, {
      headers: { Accept: 'text/event-stream' }, cache: 'no-store', signal: controller.signal,
    });
    if (response.status === 204) return this.#closed(1000);
    if (!response.ok) throw new Error(`status ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error('the stream ended');
      text += value;
      const blocks = text.split('\n\n');
      text = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]));
        if (fields.data === undefined) continue;
        const message = JSON.parse(fields.data);
        if (fields.event === 'CLOSE') return this.#closed(message.code, message.retry_after_ms);
        this.#take(message);
      }
    }
  }

  // MARK: Long-poll

  async #poll(controller) {
    for (;;) {
      const since = this.seq === null ? '' : `since=${this.seq}`;
      const response = await fetch(`${this.#address}?${since}`, {
        headers: { Accept: 'application/json' }, cache: 'no-store', signal: controller.signal,
      });
      if (response.status === 503 || response.status === 429) return this.#closed(1013, 1000 * (Number(response.headers.get('Retry-After')) || 1));
      if (!response.ok) throw new Error(`status ${response.status}`);
      const answer = await response.json();
      this.#arrived();
      for (const message of answer.events) this.#take(message);
      if (answer.ended) return this.#closed(1000);
    }
  }

  // MARK: Coming and going

  #closed(code, wait) {
    if (this.#isStopped) return;
    if (code === 1000) return this.#become('over');
    this.#lost(wait);
  }

  #lost(wait) {
    if (this.#isStopped) return;
    this.#become('offline');
    this.#failures += 1;
    if (this.#failures >= FAILURES_TO_CHANGE && wait === undefined) {
      this.#failures = 0;
      this.#transports.push(this.#transports.shift());
    }
    wait ??= this.#retry * (0.5 + Math.random() / 2);
    this.#retry = Math.min(this.#retry * 2, LONGEST_RETRY_MS);
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
  }

  /** Something came: the transport works. */
  #arrived() {
    this.#failures = 0;
    this.#retry = FIRST_RETRY_MS;
    this.#become('live');
  }

  #become(connection) {
    if (connection === this.connection) return;
    this.connection = connection;
    this.dispatchEvent(new Event('connection'));
  }

  #take(message) {
    switch (message.type) {
      case 'PONG':
        this.clock.observe(message.server_time, performance.now() - message.t);
        return;
      case 'VIEWERS': this.viewers = message.count; break;
      case 'RESUMED':
        this.clock.observe(message.server_time, 2_000);
        this.#arrived();
        break;
      case 'SNAPSHOT':
        this.clock.observe(message.server_time, 2_000);
        this.state = message.state;
        this.seq = message.seq;
        this.#arrived();
        break;
      default:
        if (message.seq === undefined) break;
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
