// Prints each price of an auction until it ends: node watch.mjs http://127.0.0.1:8080 a1
import { Gavelcast } from './gavelcast.js';

const [origin, auctionID] = process.argv.slice(2);
const gavelcast = new Gavelcast(origin);
const lot = gavelcast.watch(auctionID);
lot.on('status', (status) => console.error(status, lot.error?.message ?? ''));
for await (const state of lot) console.log(state.current_price, state.top_bids[0]?.bidder ?? '–');
console.log('over:', lot.result?.outcome ?? lot.status);
gavelcast.close();
