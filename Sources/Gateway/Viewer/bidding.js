// A bid from the click to its outcome. A bid is a frozen object with its own key. It goes to the lot for which it was
// made, whatever the page shows by then, and it is repeated with the same key until its outcome is known.

import { call } from './api.js';

const TRIES_MS = 60_000;

/** @param {'bid'|'maximum'|'buy'} kind */
export const intend = (kind, auction_id, amount, currency) => Object.freeze({ kind, auction_id, amount, currency, key: crypto.randomUUID() });

/** True when nobody can say yet whether the bid was taken. */
export const isUnknown = (error) => error.status === 0 || error.status >= 500 || error.wasSent;

const requests = {
  bid: ({ auction_id, amount }) => [`/api/v1/auctions/${auction_id}/bids`, { amount }],
  maximum: ({ auction_id, amount }) => [`/api/v1/auctions/${auction_id}/proxy`, { max_amount: amount }],
  buy: ({ auction_id, amount }) => [`/api/v1/auctions/${auction_id}/buy-now`, { amount }],
};

/**
 * Places a bid; resolves to the answer.
 * @param session whose bid it is, also if somebody else signs in meanwhile
 * @param {() => void} onDelay called when there was no answer and the bid is sent again
 * @throws {CallError} the refusal; status 0, 502 or above when the outcome stayed unknown
 */
export async function place(bid, session, onDelay) {
  const [path, body] = requests[bid.kind](bid);
  const deadline = performance.now() + TRIES_MS;
  let wasSent = false;
  for (let wait = 300; ; wait = Math.min(2 * wait, 3_000)) {
    try {
      return await call(path, { method: 'POST', body, key: bid.key, as: session });
    } catch (error) {
      // After a try without an answer, only a rule's own answer tells what became of the bid.
      if ([401, 429].includes(error.status)) error.wasSent = wasSent;
      const mayRepeat = error.status === 0 || error.status >= 502;
      if (!mayRepeat || performance.now() > deadline) throw error;
      wasSent = true;
      onDelay();
      await new Promise((done) => setTimeout(done, wait * (0.5 + Math.random())));
    }
  }
}
