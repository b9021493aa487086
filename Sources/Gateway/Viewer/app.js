// The page: addresses, the bar at the top, and the clock that all parts are drawn by.

import { call, session } from './api.js';
import { signIn } from './dialogs.js';
import { Gavelcast } from './gavelcast.js';
import * as list from './list.js';
import { changed, gavelcast, isWatching, onDraw, wasSignedOut, worstStatus } from './lots.js';
import { ago } from './money.js';
import * as room from './room.js';
import { say } from './speech.js';
import * as wall from './wall.js';

const TICK_MS = 250;
/** After how long the notifications are read again once the page is connected: the user's channel opens meanwhile. */
const NOTICES_MS = [2_500, 10_000];
const $ = (id) => document.getElementById(id);

// --- Addresses -------------------------------------------------------------------------------------------------

function route() {
  const [, kind, id] = /^\/(a|wall)(?:\/([\w-]{1,64}))?\/?$/.exec(location.pathname) ?? [];
  const view = kind === 'wall' ? 'wall' : id ? 'room' : 'list';
  document.body.dataset.view = view;
  document.body.dataset.auction = id ?? '';
  for (const link of document.querySelectorAll('[data-nav]')) {
    if (link.dataset.nav === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (view !== 'room') document.title = 'Gavelcast · live auctions';
  $('catalogue').hidden = view === 'wall';
  room.show(view === 'room' ? id : null);
  wall.show(view === 'wall');
  list.setVisible(view === 'list' || view === 'room' && innerWidth > 900);
  changed();
}

document.addEventListener('click', (event) => {
  const link = event.target.closest?.('a[href^="/"]');
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (!$('notices').hidden) $('bell').click();
  if (link.pathname !== location.pathname) window.history.pushState(null, '', link.pathname);
  route();
  scrollTo(0, 0);
  // The focus follows the reader: on a phone the link that was followed is gone.
  if (document.body.dataset.view === 'room') $('room-title').focus({ preventScroll: true });
});
addEventListener('popstate', route);

// --- The bar ---------------------------------------------------------------------------------------------------

const words = { connecting: 'connecting', live: 'live', stale: 'not current', offline: 'no connection', failed: 'cannot be watched' };

let lastState = '';

function drawConnection() {
  const { state, transport, reason } = gavelcast.status;
  const own = room.current()?.status;
  const shown = !own ? worstStatus() : ['live', 'ended'].includes(own) ? state : own;
  if (state === 'live' && lastState !== state) NOTICES_MS.forEach((wait) => setTimeout(readNotices, wait));
  lastState = state;
  const element = document.querySelector('[data-part=connection]');
  element.dataset.state = shown;
  element.title = [transport, reason].filter(Boolean).join(' · ');
  // Without a lot to watch there is no connection.
  list.text(element, shown === 'connecting' && !isWatching() ? '' : words[shown] ?? shown);
}

let stopNotices = () => {};
let unread = 0;
/** True once the user's notifications have been read: others are new. */
let hasRead = false;
/** The ids of the notifications that are listed. */
let listed = new Set();

const titles = {
  OUTBID: 'You have been outbid', AUCTION_WON: 'You won', AUCTION_LOST: 'You did not win', AUCTION_SOLD: 'Your lot was sold', AUCTION_UNSOLD: 'Your lot was not sold',
};

function addNotice(notice, isNew) {
  if (listed.has(notice.notification_id)) return;
  listed.add(notice.notification_id);
  const item = document.createElement('li');
  const link = document.createElement('a');
  link.href = `/a/${notice.auction_id}`;
  link.textContent = `${titles[notice.type] ?? notice.type}: ${notice.title ?? notice.auction_id}`;
  const time = document.createElement('time');
  time.dateTime = notice.created_at ?? new Date(gavelcast.clock.now()).toISOString();
  item.append(link, time);
  const items = $('notices').querySelector('ul');
  if (isNew) items.prepend(item);
  else items.append(item);
  if (!isNew) return;
  unread += 1;
  $('unread').textContent = String(unread);
  $('unread').hidden = false;
  say(link.textContent);
}

async function drawSession() {
  const { current } = session;
  $('account').textContent = current ? 'Sign out' : 'Sign in';
  $('account').title = current ? `Signed in as ${current.username}` : '';
  $('bell').hidden = !current;
  $('notices').querySelector('h2').textContent = `Notifications for ${current?.username ?? ''}`;
  stopNotices();
  stopNotices = () => {};
  $('notices').querySelector('ul').replaceChildren();
  listed = new Set();
  hasRead = false;
  unread = 0;
  $('unread').hidden = true;
  if (!current) return;
  // A connection of its own: the lots' connection may carry a share link's token, or be older than the sign-in.
  const own = new Gavelcast(location.origin, { getToken: async () => session.current?.token ?? null });
  const stop = own.notifications((notice) => addNotice(notice, true));
  stopNotices = () => {
    stop();
    own.close();
  };
  await readNotices();
  NOTICES_MS.forEach((wait) => setTimeout(readNotices, wait));
}

/** Reads the newest notifications. Those that come while a channel is being opened are found here only. */
async function readNotices() {
  const { current } = session;
  if (!current) return;
  try {
    const { notifications } = await call('/api/v1/users/me/notifications?limit=20');
    if (session.current?.token !== current.token) return;
    if (!hasRead) for (const notice of notifications) addNotice(notice, false);
    else for (const notice of notifications.reverse()) addNotice(notice, true);
    hasRead = true;
  } catch { /* The next reading finds them. */ }
}

$('account').onclick = async () => {
  // A page that was signed in, or was refused, begins anew: its connection carries what its token allowed.
  if (session.current) {
    session.set(null);
    location.reload();
  } else if (await signIn() && room.current()?.status === 'failed') location.reload();
};
$('bell').onclick = () => {
  const isOpen = $('notices').hidden;
  $('notices').hidden = !isOpen;
  $('bell').setAttribute('aria-expanded', String(isOpen));
  unread = 0;
  $('unread').hidden = true;
};
addEventListener('keydown', ({ key }) => {
  if (key !== 'Escape' || $('notices').hidden) return;
  $('bell').click();
  $('bell').focus();
});

// --- Start -----------------------------------------------------------------------------------------------------

session.onChange(() => {
  drawSession();
  list.refresh();
});
onDraw(drawConnection);
room.start();
wall.start();
list.start();
route();
if (wasSignedOut()) room.note('You were signed out. Sign in to bid.');
drawSession();
setInterval(() => {
  room.drawTimes();
  for (const time of $('notices').querySelectorAll('time')) list.text(time, ago(gavelcast.clock.now() - Date.parse(time.dateTime)));
  changed();
}, TICK_MS);
