// A seller's decisions about an auction, and the rules that they must satisfy together.

package import AuctionEvents

package struct AuctionTerms: Sendable, Equatable {
    package var title: String
    package var startingPrice: Money
    /// Never shown. Users only see whether it is met.
    package var reservePrice: Money?
    /// `nil` when the auction cannot be bought.
    package var buyNowPrice: Money?
    package var increments: IncrementTable

    package init(
        title: String, startingPrice: Money, reservePrice: Money?, buyNowPrice: Money?,
        increments: IncrementTable
    ) {
        self.title = title
        self.startingPrice = startingPrice
        self.reservePrice = reservePrice
        self.buyNowPrice = buyNowPrice
        self.increments = increments
    }

    package enum Fault: Error, Sendable, Equatable {
        case noStartingPrice
        case reserveBelowStart
        case buyNowNotAboveStart
        case buyNowBelowReserve
    }

    /// Why these prices cannot stand together; `nil` when they can.
    package var fault: Fault? {
        if startingPrice.minorUnits <= 0 { return .noStartingPrice }
        if let reservePrice, reservePrice < startingPrice { return .reserveBelowStart }
        guard let buyNowPrice else { return nil }
        if buyNowPrice <= startingPrice { return .buyNowNotAboveStart }
        return buyNowPrice < reservePrice ?? buyNowPrice ? .buyNowBelowReserve : nil
    }
}

extension AuctionTerms {
    /// The same terms with all prices in a currency's decimals, or the name of the first member that has
    /// more.
    package func converted(to currency: Currency) -> Result<AuctionTerms, ExcessDecimals> {
        func convert(_ price: Money?, _ member: String) throws(ExcessDecimals) -> Money? {
            guard let price else { return nil }
            guard let converted = price.converted(toDecimals: currency.decimals) else {
                throw ExcessDecimals(member: member, currency: currency)
            }
            return converted
        }
        do throws(ExcessDecimals) {
            guard let increments = increments.converted(toDecimals: currency.decimals) else {
                let member = increments.rows.count == 1 ? "bid_increment" : "increment_table"
                throw ExcessDecimals(member: member, currency: currency)
            }
            return .success(
                AuctionTerms(
                    title: title,
                    startingPrice: try convert(startingPrice, "starting_price") ?? startingPrice,
                    reservePrice: try convert(reservePrice, "reserve_price"),
                    buyNowPrice: try convert(buyNowPrice, "buy_now_price"), increments: increments))
        } catch {
            return .failure(error)
        }
    }
}

/// A price has more decimals than its currency, or is over the most that the currency's decimals allow.
package struct ExcessDecimals: Error, Sendable, Equatable {
    /// As the request calls it.
    package let member: String
    package let currency: Currency
}

/// When an auction takes place.
package struct AuctionSchedule: Sendable, Equatable {
    /// The longest time from start to end, in milliseconds: 90 days.
    package static let maximumMilliseconds: Int64 = 90 * 86_400_000
    /// The longest time from now to the start, in milliseconds: a year.
    package static let maximumLeadMilliseconds: Int64 = 366 * 86_400_000
    /// How far in the past a start may be and still count as "now". A client's clock may be behind.
    private static let toleranceMilliseconds: Int64 = 60_000

    package var startsAt: Timestamp
    package var endsAt: Timestamp

    package init(startsAt: Timestamp, endsAt: Timestamp) {
        self.startsAt = startsAt
        self.endsAt = endsAt
    }

    package enum Fault: Error, Sendable, Equatable {
        case startsInThePast
        case startsTooLate
        case endsBeforeStart
        case tooLong
    }

    /// Why an auction that has not begun cannot take place then; `nil` when it can.
    package func fault(at now: Timestamp) -> Fault? {
        if startsAt.milliseconds <= now.milliseconds - Self.toleranceMilliseconds { return .startsInThePast }
        return startsAt.milliseconds > now.milliseconds + Self.maximumLeadMilliseconds
            ? .startsTooLate : endFault(at: now)
    }

    /// The same check for an auction that has begun.
    package func endFault(at now: Timestamp) -> Fault? {
        guard endsAt > startsAt, endsAt > now else { return .endsBeforeStart }
        return endsAt.milliseconds - startsAt.milliseconds > Self.maximumMilliseconds ? .tooLong : nil
    }
}
