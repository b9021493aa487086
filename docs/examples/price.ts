// Types: the newest price of an auction, or why there is none.
import { Gavelcast, Lot, Status } from './gavelcast.js';

export async function firstPrice(origin: string, auctionID: string, signal: AbortSignal): Promise<number> {
  const gavelcast = new Gavelcast(origin, { getToken: async () => null, transports: ['sse', 'longpoll'] });
  try {
    const lot: Lot = gavelcast.watch(auctionID, { signal });
    for await (const state of lot) return state.current_price;
    const status: Status = lot.status;
    throw new Error(lot.error?.message ?? status);
  } finally {
    gavelcast.close();
  }
}
