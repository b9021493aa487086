// The bid API as the page uses it, and who is signed in. A session outlives the tab.

const KEY = 'gavelcast session';
let reading;

/** The bid API's address. A failed read of the configuration is repeated. */
const address = () => (reading ??= readAddress());

async function readAddress() {
  for (let wait = 250; ; wait = Math.min(2 * wait, 5_000)) {
    try {
      return (await (await fetch('/config.json', { cache: 'no-cache' })).json()).bid_api_url.replace(/\/$/, '');
    } catch {
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

const changes = new EventTarget();

export const session = {
  /** `{ user_id, username, token, expires_at }`; null when nobody is signed in. */
  get current() {
    try {
      const stored = JSON.parse(localStorage.getItem(KEY));
      return stored && Date.parse(stored.expires_at) > Date.now() ? stored : null;
    } catch {
      return null;
    }
  },
  get username() { return this.current?.username ?? null; },
  set(value) {
    if (value) localStorage.setItem(KEY, JSON.stringify(value));
    else localStorage.removeItem(KEY);
    changes.dispatchEvent(new Event('change'));
  },
  onChange(handler) { changes.addEventListener('change', handler); },
};
// Signed in or out in another tab.
addEventListener('storage', ({ key }) => key === KEY && changes.dispatchEvent(new Event('change')));

/** A refusal has `status` and the answer's members; without an answer `status` is 0. */
export class CallError extends Error {
  constructor(status, answer) {
    super(answer?.message ?? 'no answer');
    Object.assign(this, { ...answer, status });
  }
}

/** @param {object} [options] `as`: the session in whose name the call is made; the present one without it */
export async function call(path, { method = 'GET', body, key, as: current = session.current, timeout = 10_000 } = {}) {
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (key) headers['Idempotency-Key'] = key;
  if (current) headers.Authorization = `Bearer ${current.token}`;
  let response;
  let answer = null;
  try {
    response = await fetch(await address() + path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(timeout) });
    if (response.status !== 204) answer = await response.json();
  } catch {
    throw new CallError(response?.ok === false ? response.status : 0, null);
  }
  if (response.status === 401 && current && session.current?.token === current.token) session.set(null);
  if (!response.ok) throw new CallError(response.status, answer);
  // A replica has answered: the answer may be as old as this, in seconds.
  const age = response.headers.get('Gavelcast-Data-Age');
  return age === null ? answer : { ...answer, data_age: Number(age) };
}

/** What went wrong, in everyday words, and what to do. */
export function explain(error, amount) {
  switch (error.error) {
    case 'BID_TOO_LOW': return `That is too low now. Bid ${amount(error.minimum_bid)} or more.`;
    case 'ALREADY_HIGHEST': return 'You already lead. Raise your maximum if you are willing to go higher.';
    case 'AUCTION_ENDED': return 'The auction is over. Your bid was not accepted.';
    case 'NOT_STARTED': return 'The auction has not started yet.';
    case 'SELF_BID': return 'This is your own lot. You cannot bid on it.';
    case 'BANNED': return 'Your account is not allowed to bid.';
    case 'UNAUTHORIZED': return 'You are signed out. Sign in and bid again.';
    case 'RATE_LIMITED': return 'Too many requests. Wait a moment and try again.';
    case 'USERNAME_TAKEN': return 'This name is taken. Choose another one.';
    case 'BUSY': return 'The auction house is busy and does not know the outcome. Look before you try again.';
    case 'PRICE_CHANGED': return `The price to buy it now has changed to ${amount(error.buy_now_price)}. Nothing was bought.`;
    case 'EMAIL_TAKEN': return 'There is an account with this e-mail. Sign in instead.';
    default: return error.status ? error.message : 'The auction house does not answer.';
  }
}
