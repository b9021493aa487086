// The Gavelcast client: live auctions over one connection, for every lot of a page and every tab of a browser.
// It speaks WebSocket, or else server-sent events, or else long-poll; one cursor for each lot serves all three.
//
//   const gavelcast = new Gavelcast('https://gateway.example');
//   const lot = gavelcast.watch('a1');
//   lot.on('change', () => console.log(lot.status, lot.state?.current_price));
//
// From the network to the page: `Line` is one connection over one transport. `Engine` keeps a line alive, moves
// between transports, and knows each lot's cursor and state. `Gavelcast` and `Lot` are what a page holds. The engine
// runs in a SharedWorker, or in the tab that holds a Web Lock, or in each tab for itself. docs/clients.md says more.

const PROTOCOL = 1;
const LADDER = ['websocket', 'sse', 'longpoll'];
const OVER = ['sold', 'unsold', 'cancelled'];
const REFUSALS = { 400: 'BAD_REQUEST', 401: 'UNAUTHORIZED', 403: 'FORBIDDEN' };
const LOTS_PER_REQUEST = 50;
const TOP_BIDS = 10;

// Milliseconds.
// OPEN: how long a line may take to open, and then until its first message.
// SILENCE: how long a line may be silent before its prices count as old.
// CLIMB: how long a lower transport is used before the best one is tried again.
// CANARY: how long the gateway may take to tell the time in a long outage (`#sing`).
// PROMPT_RETRIES: how long after a loss the waits between retries stay short.
const OPEN = 5_000;
const PING = 10_000;
const PONG = 5_000;
const HEARTBEAT = 5_000;
const SILENCE = 11_500;
const POLL = 8_000;
const CLIMB = 60_000;
const TICK = 250;
const CANARY = 900;
const PROMPT_RETRIES = 90_000;

const now = () => performance.now();
const parse = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
const claimsOf = (token) => {
  try {
    return JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')));
  } catch {
    return {};
  }
};
const remembered = (origin, transport) => {
  try {
    const name = `gavelcast ${origin}`;
    return transport ? localStorage.setItem(name, transport) : localStorage.getItem(name);
  } catch {
    return null;
  }
};
const freeze = (state) => {
  state?.top_bids?.forEach(Object.freeze);
  Object.freeze(state?.top_bids);
  return Object.freeze(state);
};

class Emitter {
  #handlers = {};

  /** Calls `handler` at each event of this name; returns a function that ends that. */
  on(name, handler) {
    const handlers = (this.#handlers[name] ??= new Set());
    handlers.add(handler);
    return () => handlers.delete(handler);
  }

  // A handler that throws harms neither the others nor the connection.
  emit(name, detail) {
    for (const handler of [...(this.#handlers[name] ?? [])]) {
      try {
        handler(detail);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

/** The server's time. It counts on the monotonic clock, so a machine whose clock is wrong or jumps does not matter. */
class Clock {
  #samples = [];
  #wall = Date.now() - now();

  /** Takes a server's time in that was asked for at `sent` and is here now. */
  take(serverTime, sent, bound = 1) {
    const received = now();
    this.jumped();
    const half = (received - sent) / 2;
    if (!(half >= 0) || Number.isNaN(serverTime)) return;
    this.#samples = [...this.#samples.slice(-7), { base: serverTime - sent - half, bound: half + bound, at: received }];
  }

  /** True once after the machine slept or its clock was set. The monotonic clock may have stood still. */
  jumped() {
    const wall = Date.now() - now();
    const jumped = Math.abs(wall - this.#wall) > 500;
    this.#wall = wall;
    if (jumped) for (const sample of this.#samples) sample.bound += 60_000;
    return jumped;
  }

  // Clocks drift apart by up to 0.1 ms a second.
  #best() {
    const aged = this.#samples.map(({ base, bound, at }) => ({ base, bound: bound + (now() - at) / 10_000 }));
    return aged.sort((one, other) => one.bound - other.bound)[0] ?? { base: Date.now() - now(), bound: Infinity };
  }

  now() { return now() + this.#best().base; }

  get offset() { return this.now() - Date.now(); }

  get bound() { return this.#best().bound; }
}

/** Applies an event to a lot's `{ seq, state, result }`; false when it was applied before. */
const apply = (lot, message) => {
  const { type, seq } = message;
  const isState = type === 'STATE';
  if (isState || type === 'SNAPSHOT') {
    if (isState ? lot.state : seq < lot.seq && message.complete) return false;
    // A state that was read separately may be ahead of the events. Until they reach `base`, they move only the cursor.
    if (isState) lot.base = seq;
    else lot.seq = seq;
    lot.state = message.state;
    lot.result = message.result ?? (OVER.includes(lot.state?.status) ? resultOf(lot.state) : null);
    return true;
  }
  if (seq === undefined || type === 'RESUMED' || seq <= lot.seq) return false;
  lot.seq = seq;
  if (seq <= lot.base) return true;
  if (message.state) lot.state = message.state;
  const { state } = lot;
  if (type === 'AUCTION_ENDED') {
    lot.result = { outcome: message.outcome, winner: message.winner ?? null, winning_bid: message.winning_bid ?? null };
    if (state) lot.state = { ...state, status: message.outcome };
  } else if (type === 'TIME_EXTENDED' && state) {
    lot.state = { ...state, ends_at: message.new_ends_at };
  } else if (type === 'BID_UPDATE' && state) {
    const { bidder, amount, bid_at } = message.bid;
    const bids = [{ bidder, amount, bid_at }, ...(state.top_bids ?? [])].sort((one, other) => other.amount - one.amount);
    // The increment comes with a bid where it depends on the price.
    const { current_price, bid_count, reserve_met, ends_at, bid_increment = state.bid_increment } = message;
    const top_bids = bids.slice(0, TOP_BIDS).map((bid, index) => ({ ...bid, rank: index + 1 }));
    lot.state = { ...state, current_price, bid_count, reserve_met, ends_at, bid_increment, top_bids };
  }
  return true;
};

// A state tells less than AUCTION_ENDED: no user id.
const resultOf = ({ status, top_bids, current_price }) => ({
  outcome: status,
  winner: status === 'sold' && top_bids?.[0] ? { user_id: null, username: top_bids[0].bidder } : null,
  winning_bid: status === 'sold' ? current_price : null,
});

// MARK: One connection

/** One connection over one transport. It tells the engine what comes, and that it has ended, once. */
class Line {
  heardAt = now();
  openedAt = 0;
  /** True from the first message on: the transport works. */
  hasSpoken = false;
  /** Auction id → whether its Redis delivers, for each lot that has had its first message on this line. */
  greeted = new Map();
  /** The lots that were subscribed to here, over a WebSocket. */
  asked = new Set();
  #engine;
  #controller = new AbortController();
  #socket;
  #pingAt = 0;
  #pongBy = Infinity;
  #isOver = false;
  #requests = 0;

  constructor(engine, transport, isForUser = false) {
    this.#engine = engine;
    this.transport = transport;
    this.isForUser = isForUser;
    this.bornAt = now();
    this.token = engine.token;
    if (transport === 'websocket') this.#openSocket();
    else this.update();
  }

  #address(parameters) {
    const query = new URLSearchParams(this.token ? { ...parameters, token: this.token } : parameters);
    return `${this.#engine.origin}/v1/${this.isForUser ? 'users/me/' : ''}live?${query}`;
  }

  #openSocket() {
    const parameters = { heartbeat: PING / 1000 };
    if (this.#engine.avoidsCompression) parameters.compression = 'none';
    let socket;
    try {
      socket = new this.#engine.WebSocket(this.#address(parameters).replace(/^http/, 'ws'));
    } catch (error) {
      queueMicrotask(() => this.#end({ why: error.message }));
      return;
    }
    this.#socket = socket;
    socket.onerror = () => {};
    socket.onopen = () => {
      this.#opened();
      this.ping();
      if (!this.isForUser) for (const [id, lot] of this.#engine.lots) this.subscribe(id, lot.seq);
    };
    socket.onmessage = ({ data }) => {
      const message = parse(data);
      if (!message) return this.#end({ why: 'not JSON' });
      if (message.type === 'PONG') this.#takePong(message);
      this.#hear(message);
    };
    socket.onclose = ({ code, reason }) => {
      // A proxy that breaks compressed frames does so at once, and again.
      if (code === 1006 && this.hasSpoken && now() - this.openedAt < OPEN) this.#engine.avoidsCompression = true;
      this.#end({ code, retry: parse(reason)?.retry_after_ms, why: `${code}` });
    };
  }

  #send(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  ping() {
    this.#pingAt = now();
    this.#pongBy = Math.min(this.#pongBy, this.#pingAt + PONG);
    this.#send({ type: 'PING', t: this.#pingAt });
  }

  #takePong({ t, server_time }) {
    this.#pongBy = Infinity;
    this.latency = Math.round(now() - t);
    this.#engine.clock.take(Date.parse(server_time), t);
    this.#engine.clockMoved();
  }

  subscribe(auction_id, since) {
    this.asked.add(auction_id);
    this.#send({ type: 'SUBSCRIBE', auction_id, ...(since === null ? {} : { since }) });
  }

  /** The set of lots has changed. A stream or poll that gets a lot is requested again, from the cursors reached. */
  update(added, removed) {
    if (this.#socket) {
      if (added) this.subscribe(added, this.#engine.lots.get(added).seq);
      if (removed) this.#send({ type: 'UNSUBSCRIBE', auction_id: removed });
      return;
    }
    if (removed && !added) return;
    const turn = ++this.#requests;
    setTimeout(() => {
      if (turn !== this.#requests || this.#isOver) return;
      this.#controller.abort();
      this.#controller = new AbortController();
      const ids = this.isForUser ? [] : [...this.#engine.lots.keys()];
      for (let start = 0; start < Math.max(1, ids.length); start += LOTS_PER_REQUEST) {
        const group = ids.slice(start, start + LOTS_PER_REQUEST);
        const read = this.transport === 'sse' ? this.#stream(group) : this.#poll(group);
        read.catch((error) => turn === this.#requests && this.#end({ why: error.message, ...error.answer }));
      }
    }, 20);
  }

  async #ask(group, accept, parameters) {
    const { signal } = this.#controller;
    const query = { ...parameters };
    if (!this.isForUser) {
      const lots = group.map((id) => [id, this.#engine.lots.get(id)]).filter(([, lot]) => lot);
      query.auctions = lots.map(([id]) => id);
      query.since = lots.filter(([, lot]) => lot.seq !== null).map(([id, lot]) => `${id}:${lot.seq}`);
      if (!lots.length) return undefined;
    }
    const response = await this.#engine.fetch(this.#address(query), { headers: { Accept: accept }, cache: 'no-store', signal });
    if (response.ok) return response;
    const retry = 1000 * (Number(response.headers.get('Retry-After')) || 0);
    const body = parse(await response.text());
    const answer = { status: response.status, error: body?.error, retry: retry || undefined, why: body?.message ?? `${response.status}` };
    throw Object.assign(new Error(answer.why), { answer });
  }

  async #stream(group) {
    // Not EventSource: it hides comments, statuses, and the types that it was not asked for.
    const response = await this.#ask(group, 'text/event-stream', { heartbeat: HEARTBEAT / 1000 });
    if (!response) return;
    this.#opened();
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error('ended');
      this.heardAt = now();
      text += decoder.decode(value, { stream: true });
      const blocks = text.split('\n\n');
      text = blocks.pop();
      for (const block of blocks) {
        const data = /^data: ?(.*)$/m.exec(block)?.[1];
        const message = data === undefined ? undefined : parse(data);
        if (!message) continue;
        if (/^event: ?CLOSE$/m.test(block)) {
          return this.#end({ code: message.code, retry: message.retry_after_ms, why: message.message });
        }
        this.#hear(message);
      }
    }
  }

  async #poll(group) {
    // The first request of a line is answered within a second, so that a line shows early that it works.
    let timeout = 1;
    while (!this.#isOver) {
      const response = await this.#ask(group, 'application/json', { timeout });
      if (!response) return;
      this.#opened();
      const { auctions } = await response.json();
      this.heardAt = now();
      this.hasSpoken = true;
      // The answer leaves out an auction that has no events and whose Redis delivers.
      for (const id of group) {
        const { seq, live = true, events = [] } = auctions.find((part) => part.auction_id === id) ?? {};
        // Before its events, so that an old state is not taken for a live one.
        this.greeted.set(id, live);
        for (const message of events) this.#hear(message);
        const lot = this.#engine.lots.get(id);
        if (lot?.seq == null) this.greeted.delete(id);
        else lot.seq = Math.max(lot.seq, seq ?? 0);
      }
      this.#engine.lineSpoke(this);
      timeout = POLL / 1000;
    }
  }

  #opened() {
    this.openedAt ||= now();
    this.heardAt = now();
    if (this.isForUser) this.hasSpoken = true;
  }

  #hear(message) {
    if (this.#isOver) return;
    this.heardAt = now();
    this.hasSpoken = true;
    const { type, auction_id } = message;
    if (type === 'SNAPSHOT' || type === 'RESUMED') this.greeted.set(auction_id, this.greeted.get(auction_id) ?? true);
    if (type === 'FEED') this.greeted.set(auction_id, message.live);
    this.#engine.take(message, this);
  }

  /** Why the line must end at time `at`; false while it is sound. Sends the PINGs that are due. */
  fault(at) {
    const { transport, openedAt } = this;
    if (!openedAt) return at - this.bornAt > OPEN && 'timeout';
    if (!this.hasSpoken && at - openedAt > OPEN || this.#pongBy < at) return 'timeout';
    if (transport !== 'websocket') return at - this.heardAt > SILENCE && 'silent';
    if (at - this.#pingAt > PING) this.ping();
    return false;
  }

  #end(detail) {
    if (this.#isOver) return;
    this.close();
    this.#engine.lineEnded(this, detail);
  }

  fail(why) { this.#end({ why, isTimeout: true }); }

  close() {
    this.#isOver = true;
    this.#controller.abort();
    this.#socket?.close(1000);
  }
}

// MARK: The engine

/** Keeps one line for all lots of all its clients, and tells each client what concerns it. */
class Engine {
  clock = new Clock();
  /** Auction id → { seq, state, result, base, clients, told }. */
  lots = new Map();
  token = null;
  avoidsCompression = false;
  /** Client id → { post, hasToken, wantsNotices, isHidden }. */
  #clients = new Map();
  /** The line in use, and the one that is being tried. */
  #current = null;
  #candidate = null;
  #userLine = null;
  #userRetryAt = 0;
  #step = 0;
  #climbAt = Infinity;
  #climbs = 0;
  #retryAt = null;
  #isTold = false;
  #canaryAt = Infinity;
  #askedAt = -PING;
  #failures = 0;
  #lostAt = null;
  #isOnline = globalThis.navigator?.onLine !== false;
  #isAsking = false;
  #tokenFaults = 0;
  #tokenWaiters = [];
  #reason = '';
  #told = '';
  #toldAt = 0;
  #timer = setInterval(() => this.#tick(), TICK);

  constructor({ origin, transports, hint }, { WebSocket = globalThis.WebSocket, fetch = globalThis.fetch } = {}) {
    this.origin = origin;
    this.WebSocket = WebSocket;
    this.fetch = (...request) => fetch(...request);
    this.ladder = transports.filter((name) => name !== 'websocket' || WebSocket);
    this.#step = Math.max(0, this.ladder.indexOf(hint));
    if (this.#step > 0) this.#climbAt = now() + CLIMB * Math.random();
  }

  // MARK: Clients

  receive(id, message, post) {
    const client = this.#clients.get(id);
    switch (message.op) {
      case 'hello':
        this.#clients.set(id, { post, hasToken: message.hasToken });
        // A client that holds a lock under its id is gone when the lock is free.
        if (message.isLocked && !client) navigator.locks.request(id, () => this.drop(id));
        if (message.token) this.#useToken(message.token);
        this.#tell(true);
        break;
      case 'watch': this.#watch(id, message); break;
      case 'unwatch': this.#unwatch(id, message.auction); break;
      case 'notices': if (client) client.wantsNotices = message.wanted; break;
      case 'token':
        if (message.value) this.#useToken(message.value);
        this.#tokenWaiters.splice(0).forEach((done) => done(message.value));
        break;
      case 'time': post({ op: 'time', t: message.t, now: this.clock.now(), bound: this.clock.bound }); break;
      case 'net':
        if (client) client.isHidden = message.isHidden ?? client.isHidden;
        this.#network(message);
        break;
      case 'bye': this.drop(id); break;
      default: this.#tick();
    }
  }

  drop(id) {
    if (!this.#clients.delete(id)) return;
    for (const [auction, lot] of this.lots) if (lot.clients.has(id)) this.#unwatch(id, auction);
  }

  #watch(id, { auction, since }) {
    let lot = this.lots.get(auction);
    const post = this.#clients.get(id)?.post;
    if (!post) return;
    if (!lot) {
      lot = { seq: since, state: null, result: null, clients: new Set([id]) };
      this.lots.set(auction, lot);
      this.#current?.update(auction);
      this.#candidate?.update(auction);
      this.#connect();
      if (since !== null) this.#readState(auction, lot);
    } else {
      lot.clients.add(id);
      // What this client lacks is read again. The other clients ignore what they already have.
      if (since !== null && since < lot.seq) this.#rewind(auction, since);
      else if (lot.state && since === null) {
        const { seq, state, result } = lot;
        post({ op: 'message', message: { type: 'SNAPSHOT', auction_id: auction, seq, complete: true, state, result } });
      }
    }
    post({ op: 'lot', auction, live: this.#isLive(auction) });
  }

  #rewind(auction, since) {
    const lot = this.lots.get(auction);
    if (this.#current?.transport === 'websocket') return this.#current.subscribe(auction, since);
    lot.base = Math.max(lot.base ?? 0, lot.seq);
    lot.seq = since;
    this.#current?.update(auction);
  }

  #unwatch(id, auction) {
    const lot = this.lots.get(auction);
    if (!lot?.clients.delete(id) || lot.clients.size) return;
    this.lots.delete(auction);
    this.#current?.update(undefined, auction);
    this.#current?.greeted.delete(auction);
    this.#candidate?.update(undefined, auction);
    if (!this.lots.size) this.#rest();
  }

  #rest() {
    this.#current?.close();
    this.#candidate?.close();
    this.#current = this.#candidate = this.#retryAt = this.#lostAt = null;
    this.#failures = 0;
    this.#tell();
  }

  #post(message, ids = this.#clients.keys()) {
    for (const id of ids) this.#clients.get(id)?.post(message);
  }

  // MARK: Tokens

  #useToken(token) {
    this.token = token;
    const expiry = claimsOf(token).exp;
    this.tokenEndsAt = expiry ? now() + expiry * 1000 - this.clock.now() : Infinity;
  }

  /** Asks a client for a new token; resolves to null when none has one. */
  #askForToken() {
    const client = [...this.#clients.values()].find(({ hasToken }) => hasToken);
    if (!client) return Promise.resolve(null);
    client.post({ op: 'token' });
    return new Promise((done) => {
      this.#tokenWaiters.push(done);
      setTimeout(done, OPEN, null);
    });
  }

  async #renewToken() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const before = this.token;
    await this.#askForToken();
    this.#isAsking = false;
    this.tokenEndsAt = Math.max(this.tokenEndsAt, now() + 30_000 + OPEN);
    if (this.token !== before && this.#current) this.#try(this.#current.transport);
  }

  // MARK: Lines

  #connect() {
    if (this.#current || this.#candidate || !this.lots.size || !this.#isOnline) return;
    this.#try(this.ladder[this.#step]);
  }

  #try(transport) {
    this.#retryAt = null;
    this.#candidate?.close();
    this.#candidate = new Line(this, transport);
    this.#tell();
  }

  /** A line has had a message. A candidate replaces a line in use once it has greeted every lot, or after OPEN. */
  lineSpoke(line) {
    if (line.isForUser) return;
    if (line === this.#candidate) {
      const isReady = [...this.lots.keys()].every((id) => line.greeted.has(id));
      if (this.#current && !isReady && now() - line.openedAt < OPEN) return;
      this.#current?.close();
      this.#current = line;
      this.#candidate = this.#lostAt = this.#retryAt = null;
      this.#canaryAt = Infinity;
      this.#failures = 0;
      this.#step = this.ladder.indexOf(line.transport);
      this.#climbAt = this.#step > 0 ? now() + CLIMB * (1 + Math.random() / 2) : Infinity;
      this.#reason = '';
      this.#post({ op: 'remember', transport: line.transport });
      // A lot may have been added since the candidate was opened.
      if (line.transport === 'websocket') for (const [id, lot] of this.lots) if (!line.asked.has(id)) line.subscribe(id, lot.seq);
    }
    this.#tell();
  }

  lineEnded(line, { code, status, error, retry, why, isTimeout }) {
    if (line.isForUser) {
      this.#userLine = null;
      this.#userRetryAt = now() + (line.hasSpoken ? OPEN : CLIMB) * Math.random();
      return;
    }
    const wasInUse = line === this.#current;
    if (wasInUse) this.#current = null;
    if (line === this.#candidate) this.#candidate = null;
    this.#reason = why;
    if (wasInUse) this.#lostAt ??= now();
    // The line in use goes on; climbing is tried again later.
    if (this.#current) {
      this.#climbAt = now() + CLIMB * (1 + Math.random() / 2);
      return this.#tell();
    }
    if (this.#candidate) return this.#tell();
    if (code === 1008 && this.token) return this.#refused(401);
    if (REFUSALS[status]) return this.#refused(status, error);
    if (line.hasSpoken || retry !== undefined) return this.#retry(retry);
    if (isTimeout) return this.#descend();
    this.#probe();
  }

  /** A line failed before its first message. Is the transport blocked, the request refused, or the gateway away? */
  async #probe(isLast) {
    const [auctions] = this.lots.keys();
    const status = await this.#head(`/v1/live?${this.#tokenQuery({ auctions })}`);
    if (this.#current || this.#candidate) return;
    if (REFUSALS[status]) this.#refused(status);
    else if (!isLast && (status ? status < 500 : await this.#askForTime(OPEN))) this.#descend();
    else this.#retry();
  }

  /** The status that a request would have; 0 when there is no answer. */
  async #head(path) {
    const request = { method: 'HEAD', signal: AbortSignal.timeout(OPEN) };
    return (await this.fetch(this.origin + path, request).catch(() => ({}))).status ?? 0;
  }

  /** The next transport is tried at once; after the last one, the first again, after a while. */
  #descend() {
    this.#step += 1;
    if (this.#step < this.ladder.length) return this.#connect();
    this.#step = 0;
    this.#probe(true);
  }

  /** Waits and connects again: as long as the server said, else with full jitter. */
  #retry(wait) {
    this.#failures += 1;
    this.#lostAt ??= now();
    this.#isTold = wait !== undefined;
    const jitter = this.#jitter();
    // From the third failure on, a cheap request for the time (`#sing`) finds out when the gateway is back.
    const isLong = this.#failures > 2;
    this.#retryAt = now() + (wait ?? (isLong ? Math.max(OPEN, jitter) : jitter));
    this.#canaryAt = isLong && !this.#isTold ? now() + jitter : Infinity;
    this.#tell();
  }

  #jitter() {
    const isHidden = [...this.#clients.values()].every((client) => client.isHidden);
    const isPrompt = !isHidden && now() - this.#lostAt < PROMPT_RETRIES;
    return Math.random() * Math.min(250 * 2 ** this.#failures, isPrompt ? 600 : 15_000);
  }

  async #sing() {
    this.#canaryAt = Infinity;
    const isHere = await this.#askForTime(CANARY);
    if (this.#current || !this.lots.size) return;
    this.#canaryAt = now() + this.#jitter();
    if (!isHere || this.#candidate?.openedAt) return;
    if (!this.#candidate || now() - this.#candidate.bornAt > CANARY) this.#try(this.ladder[this.#step]);
  }

  async #askForTime(timeout) {
    const sent = now();
    try {
      const response = await this.fetch(`${this.origin}/v1/time`, { cache: 'no-store', signal: AbortSignal.timeout(timeout) });
      this.clock.take(Date.parse((await response.json()).server_time), sent);
      this.clockMoved();
      return true;
    } catch {
      return false;
    }
  }

  /** Requests were refused. A fresh token comes first; then each lot is asked about by itself. */
  async #refused(status, error) {
    if (!this.#tokenFaults++ && await this.#askForToken()) return this.#connect();
    for (const [auction, lot] of [...this.lots]) {
      const answer = await this.#head(`/v1/auctions/${auction}/live?${this.#tokenQuery()}`);
      if (REFUSALS[answer]) this.#fail(auction, lot, error ?? REFUSALS[answer], `${answer}`);
    }
    this.#tokenFaults = 0;
    if (this.lots.size) this.#retry();
  }

  #tokenQuery(parameters = {}) {
    return new URLSearchParams(this.token ? { ...parameters, token: this.token } : parameters);
  }

  #fail(auction, lot, code, message) {
    this.#post({ op: 'lot', auction, error: { code, message } }, lot.clients);
    this.lots.delete(auction);
    if (!this.lots.size) this.#rest();
  }

  // MARK: Messages

  take(message, line) {
    if (line.isForUser) return this.#post({ op: 'notice', message });
    this.lineSpoke(line);
    const { type, auction_id } = message;
    const lot = this.lots.get(auction_id);
    if (type === 'ERROR') this.#takeError(message, lot);
    else if (type === 'UNSUBSCRIBED' && lot) this.#resubscribeLater(auction_id, message.retry_after_ms ?? 1_000);
    else if (lot && (lot.seq !== null || type === 'SNAPSHOT')) {
      this.#tokenFaults = 0;
      apply(lot, message);
      this.#post({ op: 'message', message }, lot.clients);
    }
  }

  /** Reads the state of a lot that starts from a cursor, because RESUMED carries no state. */
  async #readState(auction_id, lot) {
    const response = await this.fetch(`${this.origin}/v1/auctions/${auction_id}/live?${this.#tokenQuery()}`).catch(() => {});
    const { seq, state } = (await response?.json().catch(() => {}))?.events?.[0] ?? {};
    if (lot.state || this.lots.get(auction_id) !== lot) return;
    if (!state || seq < lot.seq) return void setTimeout(() => this.#readState(auction_id, lot), 2_000);
    const message = { type: 'STATE', auction_id, seq, state };
    if (apply(lot, message)) this.#post({ op: 'message', message }, lot.clients);
  }

  async #takeError({ auction_id, error, message }, lot) {
    if (!lot || error === 'NOT_SUBSCRIBED') return;
    if (error === 'UNAVAILABLE' || error === 'OVER_CAPACITY') return this.#resubscribeLater(auction_id, 1_000 + 4_000 * Math.random());
    if (error === 'UNAUTHORIZED' && !this.#tokenFaults++ && await this.#askForToken()) return this.#try('websocket');
    this.#fail(auction_id, lot, error, message);
  }

  #resubscribeLater(auction, wait) {
    this.#current?.greeted.delete(auction);
    setTimeout(() => {
      if (this.lots.has(auction) && !this.#current?.greeted.has(auction)) this.#current?.update(auction);
    }, wait);
  }

  // MARK: Time and network

  #tick() {
    const at = now();
    if (this.clock.jumped()) {
      if (this.#current) this.#current.heardAt -= CLIMB;
      this.#check();
    }
    for (const line of [this.#current, this.#candidate, this.#userLine]) {
      const fault = line?.fault(at);
      if (fault) line.fail(fault);
    }
    if (this.#retryAt !== null && at >= this.#retryAt) this.#connect();
    if (at >= this.#canaryAt && this.#isOnline) this.#sing();
    if (at >= this.#climbAt && this.#step && this.#current && !this.#candidate) {
      this.#climbAt = Infinity;
      this.#try(this.ladder[this.#climbs++ % this.#step]);
    }
    // Polls and streams have no PONG, so the clock needs requests of its own.
    if (this.#current && this.#current.transport !== 'websocket' && this.clock.bound > 50 && at - this.#askedAt >= PING) {
      this.#askedAt = at;
      this.#askForTime(OPEN);
    }
    if (this.token && at > this.tokenEndsAt - 30_000) this.#renewToken();
    this.#followUser(at);
    this.#tell();
  }

  /** The user's own channel, while a client wants it. */
  #followUser(at) {
    const isWanted = this.token && [...this.#clients.values()].some(({ wantsNotices }) => wantsNotices);
    const transport = (this.#current?.transport ?? this.ladder[this.#step]) === 'websocket' ? 'websocket' : 'sse';
    if (!isWanted && this.#userLine) {
      this.#userLine.close();
      this.#userLine = null;
    } else if (isWanted && !this.#userLine && at >= this.#userRetryAt && this.#isOnline) {
      this.#userLine = new Line(this, transport, true);
    }
  }

  /** Finds out at once whether the line in use still works. */
  #check() {
    if (this.#current?.transport === 'websocket') this.#current.ping();
    else if (this.#current) this.#askForTime(OPEN);
    else this.#hurry();
  }

  #hurry() {
    this.#failures = 0;
    if (this.#retryAt !== null && !this.#isTold) this.#retryAt = now();
    this.#connect();
  }

  #network({ online, isHidden }) {
    if (online === false) {
      this.#isOnline = false;
      this.#current?.fail('offline');
      this.#candidate?.close();
      this.#candidate = null;
    } else if (online) {
      this.#isOnline = true;
      this.#hurry();
    }
    if (isHidden === false) this.#check();
    this.#tell();
  }

  // MARK: What clients are told

  #isLive(auction) { return this.#current?.greeted.get(auction) === true; }

  get #state() {
    const isSilent = this.#current && now() - this.#current.heardAt > SILENCE;
    if (this.#current) return isSilent ? 'stale' : 'live';
    if (!this.lots.size) return 'connecting';
    if (!this.#isOnline || this.#failures > 0) return 'offline';
    return this.#lostAt === null ? 'connecting' : 'stale';
  }

  clockMoved() { this.#post({ op: 'clock' }); }

  /** Tells the clients what has changed. It speaks at least every five seconds, so they know that it is alive. */
  #tell(always) {
    const line = this.#current;
    const status = {
      state: this.#state,
      transport: (line ?? this.#candidate)?.transport ?? this.ladder[this.#step],
      latency: line?.latency ?? null,
      reason: this.#reason,
    };
    const key = JSON.stringify([status, this.#retryAt]);
    const changed = [...this.lots].filter(([auction, lot]) => lot.told !== (lot.told = this.#isLive(auction)));
    // Before a lot's own news, so that the client knows how long the line has been silent.
    if (always || changed.length || key !== this.#told || now() - this.#toldAt > HEARTBEAT) {
      this.#told = key;
      this.#toldAt = now();
      const retryIn = this.#retryAt && this.#retryAt - now();
      this.#post({ op: 'status', status, retryIn, silence: line && now() - line.heardAt });
    }
    for (const [auction, lot] of changed) this.#post({ op: 'lot', auction, live: lot.told }, lot.clients);
  }

  close() {
    clearInterval(this.#timer);
    this.lots.clear();
    this.#rest();
    this.#userLine?.close();
    this.#clients.clear();
  }
}

// MARK: What a page holds

/** One watched lot. Events: change, bid, extended, ended, gap, status. */
class Lot extends Emitter {
  seq = null;
  /** A frozen snapshot, replaced at each change; null before the first message. */
  state = null;
  viewers = null;
  /** How the auction ended, as the server declared it; null before. */
  result = null;
  /** Why the lot cannot be watched, once its status is 'failed'. */
  error = null;
  status = 'connecting';
  #owner;
  #isLive = false;
  #isClosed = false;
  #wake = [];

  constructor(owner, auctionID, { since = null, signal } = {}) {
    super();
    this.auctionID = auctionID;
    this.#owner = owner;
    this.seq = since;
    if (signal?.aborted) this.#isClosed = true;
    else signal?.addEventListener('abort', () => this.close(), { once: true });
  }

  get isClosed() { return this.#isClosed; }

  /** Stops watching, for good. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#owner.forget(this);
    this.#wakeUp();
  }

  /** Each newest state; states that nobody waited for are skipped. */
  async *[Symbol.asyncIterator]() {
    let seen;
    while (!this.#isClosed || this.state !== seen) {
      if (this.state !== seen && this.state) {
        seen = this.state;
        yield seen;
      } else if (this.#isClosed || this.status === 'ended' || this.status === 'failed') return;
      else await new Promise((done) => this.#wake.push(done));
    }
  }

  #wakeUp() { this.#wake.splice(0).forEach((done) => done()); }

  /** From the engine. */
  take(message) {
    if (this.#isClosed || this.error) return;
    const { type, seq } = message;
    if (type === 'VIEWERS') this.viewers = message.count;
    else {
      const { seq: before, state, result } = this;
      const from = message.from_seq ?? seq;
      const isEvent = seq !== undefined && !['SNAPSHOT', 'RESUMED', 'STATE'].includes(type);
      // Messages between tabs may get lost, so the lot asks for what is missing.
      if (isEvent && before !== null && from > before + 1) return this.#owner.ask(this);
      if (!apply(this, message)) return this.refresh();
      if (this.state !== state) freeze(this.state);
      const isJump = type === 'SNAPSHOT' && before !== null && seq > before && !message.complete;
      if (isJump || isEvent && from < seq) this.emit('gap', { from: isJump ? before + 1 : from, to: seq, complete: !isJump });
      if (type === 'BID_UPDATE') this.emit('bid', message);
      if (type === 'TIME_EXTENDED') this.emit('extended', message);
      if (this.result && !result) this.emit('ended', this.result);
    }
    this.refresh();
    this.emit('change', this.state);
    this.#wakeUp();
  }

  /** From the engine: whether the lot is fed, or why it failed. */
  mark({ live, error }) {
    if (this.#isClosed) return;
    if (live !== undefined) this.#isLive = live;
    if (error) this.error = Object.freeze(error);
    this.refresh();
  }

  refresh() {
    const { state } = this.#owner.status;
    const known = this.state || this.#isLive ? 'stale' : 'connecting';
    const status = this.error ? 'failed' : this.result ? 'ended' : state === 'offline' ? state
      : state === 'live' && this.#isLive ? 'live' : known;
    if (status === this.status) return;
    this.status = status;
    this.emit('status', status);
    this.#wakeUp();
  }
}

/** The lots of a page, over one connection to a gateway. Event: status. */
export class Gavelcast extends Emitter {
  status = { state: 'connecting', transport: null, latency: null, lastMessageAt: null, retryAt: null, reason: '' };
  clock = new Clock();
  #origin;
  #options;
  #lots = new Map();
  #notices = 0;
  #id;
  #post = null;
  #leave = () => {};
  #engine = null;
  #token = null;
  #heardAt = now();
  #lastMessageAt = null;
  #isClosed = false;
  #timer;
  #ends = new AbortController();

  /**
   * @param {string} [origin] of the gateway; the page's own without one
   * @param {object} [options] see gavelcast.d.ts
   */
  constructor(origin = globalThis.location?.origin, options = {}) {
    super();
    this.#origin = origin.replace(/\/$/, '');
    this.#options = options;
  }

  /** Watches a lot until it is closed. */
  watch(auctionID, options) {
    const lot = new Lot(this, auctionID, options);
    if (lot.isClosed) return lot;
    if (this.#isClosed) throw new Error('this Gavelcast is closed');
    const lots = this.#lots.get(auctionID) ?? new Set();
    this.#lots.set(auctionID, lots.add(lot));
    if (!/^[\w-]{1,64}$/.test(auctionID)) queueMicrotask(() => lot.mark({ error: { code: 'BAD_AUCTION_ID', message: auctionID } }));
    else if (this.#post) this.ask(lot);
    else this.#start();
    return lot;
  }

  /** Calls `handler` with each notification of the token's user; returns a function that ends that. */
  notifications(handler) {
    const off = this.on('notice', handler);
    this.#notices += 1;
    this.#start();
    this.#post?.({ op: 'notices', wanted: true });
    return () => {
      if (off() && !--this.#notices) this.#post?.({ op: 'notices', wanted: false });
    };
  }

  close() {
    this.#isClosed = true;
    for (const lots of this.#lots.values()) for (const lot of [...lots]) lot.close();
    clearInterval(this.#timer);
    this.#ends.abort();
    this.#post?.({ op: 'bye' });
    this.#leave();
  }

  // From lots.
  ask(lot) { this.#post?.({ op: 'watch', auction: lot.auctionID, since: lot.seq }); }

  forget(lot) {
    const lots = this.#lots.get(lot.auctionID);
    if (!lots?.delete(lot) || lots.size) return;
    this.#lots.delete(lot.auctionID);
    this.#post?.({ op: 'unwatch', auction: lot.auctionID });
  }

  // MARK: Where the engine is

  async #start() {
    if (this.#timer) return;
    this.#timer = setInterval(() => this.#watchEngine(), 1_000);
    const listen = (target, name, handler) => target?.addEventListener?.(name, handler, { signal: this.#ends.signal });
    const page = globalThis.document;
    listen(globalThis, 'online', () => this.#network({ online: true }));
    listen(globalThis, 'offline', () => this.#network({ online: false }));
    listen(page, 'visibilitychange', () => this.#network({ isHidden: page.hidden }));
    listen(page, 'freeze', () => this.#part());
    listen(globalThis, 'pagehide', () => this.#part());
    listen(page, 'resume', () => this.#join());
    listen(globalThis, 'pageshow', ({ persisted }) => persisted && this.#join());
    await this.#join();
  }

  #network(change) { this.#post?.({ op: 'net', ...change }); }

  async #join() {
    const { WebSocket, fetch, share = true, transports = LADDER } = this.#options;
    if (this.#id || this.#post || this.#isClosed) return;
    this.#token ??= (await this.#getToken()) ?? null;
    const mayLock = await globalThis.navigator?.locks?.query().catch(() => {});
    if (this.#id || this.#post || this.#isClosed) return;
    const { sub, aud, auctions } = claimsOf(this.#token);
    // Tabs share an engine only if their tokens have the same user and the same rights.
    const key = JSON.stringify([PROTOCOL, this.#origin, transports, sub, aud, auctions]);
    const settings = { origin: this.#origin, transports, hint: remembered(this.#origin) };
    const isShared = share && !WebSocket && !fetch && mayLock && globalThis.document;
    if (isShared && globalThis.SharedWorker) return this.#joinWorker(key, settings);
    if (isShared) return this.#joinTabs(key, settings);
    const engine = this.#engine = new Engine(settings, { WebSocket, fetch });
    const take = (message) => queueMicrotask(() => this.#take(message));
    this.#begin((message) => engine.receive(this.#id, message, take), () => engine.close());
  }

  /** The engine in a SharedWorker; in a tab where the browser refuses to start one. */
  #joinWorker(name, settings) {
    const fail = () => {
      this.#leave();
      this.#post = null;
      this.#joinTabs(name, settings);
    };
    let port;
    try {
      ({ port } = new SharedWorker(import.meta.url, { name, type: 'module' }));
    } catch {
      return fail();
    }
    const patience = setTimeout(fail, 2_000);
    port.onmessage = ({ data }) => {
      clearTimeout(patience);
      this.#take(data);
    };
    this.#hold((message) => port.postMessage({ from: this.#id, settings, ...message }), () => {
      clearTimeout(patience);
      port.close();
    });
  }

  /** The engine in the tab that holds the lock. When that tab goes, another takes over from what it knows. */
  #joinTabs(name, settings) {
    const channel = new BroadcastChannel(name);
    const ends = new AbortController();
    let engine;
    const post = (to) => (message) => (to === this.#id ? queueMicrotask(() => this.#take(message)) : channel.postMessage({ to, message }));
    const receive = (message) => engine?.receive(message.from, message, post(message.from));
    channel.onmessage = ({ data }) => {
      if (data.from) receive(data);
      else if (data.to === this.#id) this.#take(data.message);
      else if (data.leads) this.#introduce();
    };
    navigator.locks.request(name, ends, () => new Promise((release) => {
      engine = new Engine(settings);
      ends.signal.addEventListener('abort', release);
      channel.postMessage({ leads: true });
      this.#introduce();
    })).catch(() => {});
    this.#hold((message) => {
      const all = { from: this.#id, ...message };
      if (engine) receive(all);
      else channel.postMessage(all);
    }, () => {
      ends.abort();
      engine?.close();
      channel.close();
    });
  }

  /** Holds a lock while this tab lives, by which the engine notices its end; then begins. */
  #hold(post, leave) {
    const ends = new AbortController();
    const id = this.#id = Math.random().toString(36).slice(2);
    navigator.locks.request(id, () => new Promise((release) => {
      ends.signal.addEventListener('abort', release);
      if (this.#id === id) this.#begin(post, () => {
        ends.abort();
        leave();
      });
    }));
  }

  #begin(post, leave) {
    this.#post = post;
    this.#leave = leave;
    this.#heardAt = now();
    this.#introduce();
  }

  #introduce() {
    const { getToken } = this.#options;
    this.#post?.({ op: 'hello', hasToken: Boolean(getToken), token: this.#token, isLocked: !this.#engine });
    for (const lots of this.#lots.values()) for (const lot of lots) this.ask(lot);
    if (this.#notices) this.#post?.({ op: 'notices', wanted: true });
    if (globalThis.navigator?.onLine) this.#network({ online: true });
  }

  /** Leaves the engine: the page is frozen or goes. */
  #part() {
    this.#post?.({ op: 'bye' });
    this.#post = this.#id = null;
    this.#leave();
    this.#report({ ...this.status, state: 'offline' });
  }

  async #getToken() {
    try {
      return await this.#options.getToken?.();
    } catch {
      return null;
    }
  }

  #watchEngine() {
    this.#post?.({ op: 'tick' });
    // An engine speaks at least every five seconds.
    if (!this.#post || now() - this.#heardAt < SILENCE) return;
    this.#part();
    this.#join();
  }

  async #take(message) {
    this.#heardAt = now();
    switch (message.op) {
      case 'message':
        this.#lastMessageAt = this.clock.now();
        for (const lot of [...this.#lots.get(message.message.auction_id) ?? []]) lot.take(message.message);
        break;
      case 'lot': for (const lot of [...this.#lots.get(message.auction) ?? []]) lot.mark(message); break;
      case 'status': {
        const { status, retryIn, silence } = message;
        const at = this.clock.now();
        if (silence !== null) this.#lastMessageAt = at - silence;
        this.#report({ ...status, retryAt: retryIn && at + retryIn });
        break;
      }
      case 'clock': this.#post?.({ op: 'time', t: now() }); break;
      case 'time': this.clock.take(message.now, message.t, message.bound); break;
      case 'token':
        this.#token = (await this.#getToken()) ?? null;
        this.#post?.({ op: 'token', value: this.#token });
        break;
      case 'remember': remembered(this.#origin, message.transport); break;
      case 'notice':
        if (message.message.notification_id) this.emit('notice', message.message);
        break;
      default: break;
    }
  }

  #report(status) {
    this.status = Object.freeze({ ...status, lastMessageAt: this.#lastMessageAt });
    if (this.#options.debug) console.debug(this.status);
    for (const lots of this.#lots.values()) for (const lot of [...lots]) lot.refresh();
    this.emit('status', this.status);
  }
}

// In a SharedWorker, this module serves the tabs that have its name.
if (globalThis.SharedWorkerGlobalScope && globalThis instanceof SharedWorkerGlobalScope) {
  let engine;
  globalThis.onconnect = ({ ports: [port] }) => {
    port.onmessage = ({ data }) => {
      const { from, settings } = data;
      engine ??= new Engine(settings);
      engine.receive(from, data, (message) => port.postMessage(message));
    };
  };
}
