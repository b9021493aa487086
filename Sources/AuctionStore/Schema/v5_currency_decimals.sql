-- Amounts are whole numbers of minor units. An auction's currency decides how many decimals these have. Auctions from
-- before this step were stored in hundredths, whatever their currency, and stay so. Bid APIs from before this step read
-- every amount as hundredths: stop them before an auction in a currency with other decimals is created.
ALTER TABLE auctions ADD decimals smallint NOT NULL DEFAULT 2 CHECK (decimals BETWEEN 0 AND 4);
