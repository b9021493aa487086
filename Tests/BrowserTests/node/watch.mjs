// Watches lots by orders that come as JSON lines, and writes down what happens, as JSON lines.
import { createInterface } from 'node:readline';

const { library, origin, options = {}, lots = [], speed = 1, tokens } = JSON.parse(process.argv[2]);
if (speed !== 1) {
  // The library's time runs faster; the servers' does not.
  const real = performance.now.bind(performance);
  performance.now = () => real() * speed;
  const [timeout, interval] = [setTimeout, setInterval];
  globalThis.setTimeout = (call, wait, ...rest) => timeout(call, wait / speed, ...rest);
  globalThis.setInterval = (call, wait, ...rest) => interval(call, wait / speed, ...rest);
}
const { Gavelcast } = await import(library);
const say = (event, detail) => console.log(JSON.stringify({ event, ...detail }));
const left = tokens && [...tokens];
if (left) {
  options.getToken = async () => {
    say('token');
    return left.length > 1 ? left.shift() : left[0];
  };
}
const gavelcast = new Gavelcast(origin, options);
gavelcast.on('status', ({ state, transport }) => say('connection', { state, transport }));
const watched = new Map();

const orders = {
  watch({ id, since, aborts }) {
    const controller = new AbortController();
    const lot = gavelcast.watch(id, { since, ...(aborts ? { signal: controller.signal } : {}) });
    watched.set(id, { lot, controller });
    lot.on('change', () => { throw new Error('a listener that throws'); });
    lot.on('change', (state) => say('change', {
      id, seq: lot.seq, price: state?.current_price, isFrozen: !state || Object.isFrozen(state) && Object.isFrozen(state.top_bids),
    }));
    lot.on('bid', ({ seq, from_seq }) => say('bid', { id, seq, from_seq }));
    for (const name of ['extended', 'ended', 'gap']) lot.on(name, (detail) => say(name, { id, detail }));
    lot.on('status', (status) => say('status', { id, status, error: lot.error }));
  },
  close({ id }) { watched.get(id).lot.close(); },
  abort({ id }) { watched.get(id).controller.abort(); },
  async iterate({ id }) {
    for await (const state of watched.get(id).lot) {
      say('state', { id, price: state.current_price });
      await new Promise((done) => setTimeout(done, 300));
    }
    say('iterated', { id });
  },
  clock() { say('clock', { now: gavelcast.clock.now(), bound: gavelcast.clock.bound }); },
  end() {
    gavelcast.close();
    process.stdin.destroy();
  },
};
// A listener that throws is reported, and harms nobody.
process.on('uncaughtException', (error) => {
  if (error.message !== 'a listener that throws') {
    say('crash', { error: error.stack });
    process.exit(1);
  }
});
for (const id of lots) orders.watch({ id });
say('ready');
for await (const line of createInterface(process.stdin)) {
  const { order, ...detail } = JSON.parse(line);
  orders[order](detail);
}
