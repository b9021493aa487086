// Types of gavelcast.js. docs/clients.md explains them.

export type TransportName = 'websocket' | 'sse' | 'longpoll';
export type Status = 'connecting' | 'live' | 'stale' | 'offline' | 'ended' | 'failed';

export interface TopBid { rank: number; bidder: string; amount: number; bid_at: string }

/** A frozen snapshot of an auction. Publishers may add members. */
export interface State {
  readonly title: string;
  readonly status: 'scheduled' | 'active' | 'sold' | 'unsold' | 'cancelled';
  readonly currency: string;
  readonly starting_price: number;
  readonly current_price: number;
  readonly bid_increment: number;
  readonly bid_count: number;
  readonly reserve_met: boolean;
  readonly ends_at: string;
  readonly top_bids: readonly TopBid[];
  readonly [member: string]: unknown;
}

export interface Result {
  outcome: 'sold' | 'unsold' | 'cancelled';
  /** `user_id` is null when the end was learned from a state, which does not tell it. */
  winner: { user_id: string | null; username: string } | null;
  winning_bid: number | null;
}

export interface BidEvent {
  type: 'BID_UPDATE';
  auction_id: string;
  seq: number;
  /** The first of the bids that this one stands for. */
  from_seq?: number;
  server_time: string;
  bid: { bid_id: string; bidder: string; amount: number; rank: number; bid_at: string; is_proxy: boolean };
  current_price: number;
  bid_count: number;
  reserve_met: boolean;
  ends_at: string;
  time_remaining_seconds: number;
}

export interface ExtendedEvent {
  type: 'TIME_EXTENDED';
  auction_id: string;
  seq: number;
  server_time: string;
  new_ends_at: string;
  previous_ends_at: string;
  reason: string;
}

/** Events `from` to `to` did not come one by one: merged into the newest (`complete`), or lost for good. */
export interface Gap { from: number; to: number; complete: boolean }

export interface LotEvents {
  change: State | null;
  bid: BidEvent;
  extended: ExtendedEvent;
  ended: Result;
  gap: Gap;
  status: Status;
}

export interface Lot extends AsyncIterable<State> {
  readonly auctionID: string;
  readonly state: State | null;
  readonly seq: number | null;
  readonly viewers: number | null;
  readonly result: Result | null;
  readonly status: Status;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly isClosed: boolean;
  on<Name extends keyof LotEvents>(name: Name, handler: (detail: LotEvents[Name]) => void): () => void;
  close(): void;
}

export interface ConnectionStatus {
  readonly state: 'connecting' | 'live' | 'stale' | 'offline';
  readonly transport: TransportName | null;
  /** Round trip, milliseconds; null where the transport does not show it. */
  readonly latency: number | null;
  /** Milliseconds since 1970 by the server. */
  readonly lastMessageAt: number | null;
  readonly retryAt: number | null;
  readonly reason: string;
}

export interface Clock {
  /** Milliseconds since 1970 by the server's clock. */
  now(): number;
  /** How far the server's clock is ahead of this machine's, milliseconds. */
  readonly offset: number;
  /** How wrong `now()` may be, milliseconds; Infinity before the first sample. */
  readonly bound: number;
}

export interface Notification {
  type: string;
  notification_id: string;
  auction_id: string;
  [member: string]: unknown;
}

export interface Options {
  /** Called at the start, before the token expires, and after a 401. */
  getToken?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Those to use, best first. */
  transports?: TransportName[];
  /** False for a connection of this page's own. */
  share?: boolean;
  WebSocket?: unknown;
  fetch?: typeof fetch;
  debug?: boolean;
}

export class Gavelcast {
  constructor(origin?: string, options?: Options);
  readonly status: ConnectionStatus;
  readonly clock: Clock;
  watch(auctionID: string, options?: { since?: number; signal?: AbortSignal }): Lot;
  notifications(handler: (notification: Notification) => void): () => void;
  on(name: 'status', handler: (status: ConnectionStatus) => void): () => void;
  close(): void;
}
