// React: a lot as an external store. `state` is a new frozen object at each change, so React compares it by identity.
import { useMemo, useSyncExternalStore } from 'react';

export function useLot(gavelcast, auctionID) {
  const store = useMemo(() => {
    let lot;
    let shown = { state: null, status: 'connecting' };
    return {
      subscribe(redraw) {
        lot = gavelcast.watch(auctionID);
        const update = () => {
          shown = { state: lot.state, status: lot.status };
          redraw();
        };
        for (const event of ['change', 'status']) lot.on(event, update);
        return () => lot.close();
      },
      snapshot: () => shown,
    };
  }, [gavelcast, auctionID]);
  return useSyncExternalStore(store.subscribe, store.snapshot, store.snapshot);
}
