// The demo: a seller keeps a few auctions running, and bidders with budgets outbid each other until
// everyone's budget is spent, so that prices move, late bids extend the end, and auctions do end. Some lots
// have a reserve or a buy-now price, and some bidders leave a maximum. One lot always ends within a minute,
// and one is private.

import Foundation
import LoadClient
import Settings

struct Demo {
    private static let pauseMilliseconds = 150...900
    private static let durationSeconds = 60...240
    /// The length of the auction that is added when no other ends within a minute.
    private static let shortSeconds = 50
    private static let longSeconds = 3_600
    private static let privateSeconds = 3_600
    /// No bidder goes beyond the starting price times a number from this range.
    private static let budget = 2.0...4.0
    private static let retrySeconds = 1.0
    /// One step in so many leaves a maximum, which then duels with the others.
    private static let stepsPerMaximum = 8

    private struct Lot {
        let title: String
        let description: String
        let startingPrice: Int
        let increment: String
        /// Of the starting price.
        var reserve: Double?
        var buyNow: Double?

        /// The members of the auction's JSON.
        var members: String {
            func price(_ name: String, _ factor: Double?) -> String {
                factor.map { #","\#(name)":\#(Int(Double(startingPrice) * $0))"# } ?? ""
            }
            return #""title":"\#(title)","description":"\#(description)","category":"demo","#
                + #""starting_price":\#(startingPrice),"bid_increment":\#(increment)"#
                + price("reserve_price", reserve) + price("buy_now_price", buyNow)
        }
    }

    /// How far the bidders go on a lot.
    private struct Plan {
        let start: Double
        let limit: Double
        let seconds: Int

        /// How far they go by now: a little more as time passes, so that bids come until the end. In the last
        /// seconds, and against a visitor, they go as far as they can.
        func limit(of auction: BidClient.Auction, answersVisitor: Bool) -> Double {
            guard !answersVisitor, auction.secondsLeft > 12 else { return limit }
            let passed = 1 - Double(auction.secondsLeft) / Double(seconds)
            return start + (limit - start) * max(0.05, passed)
        }
    }

    private static let lots: [Lot] = [
        Lot(
            title: "Cartier Tank, 1974", description: "Manual winding, gold plated, serviced last year.",
            startingPrice: 950, increment: "25", reserve: 1.8),
        Lot(
            title: "Leica M3 with Summicron 50", description: "Double stroke, clear finder, with its case.",
            startingPrice: 1_200, increment: "25", buyNow: 6),
        Lot(
            title: "Eames lounge chair, rosewood", description: "Early production, new shock mounts.",
            startingPrice: 2_400, increment: "50", reserve: 2.5),
        Lot(
            title: "Palm Pilot Professional, boxed", description: "With stylus, cradle and manual.",
            startingPrice: 40, increment: "0.50"),
        Lot(
            title: "First pressing, “Kind of Blue”", description: "Six-eye label, plays without a skip.",
            startingPrice: 180, increment: "5"),
        Lot(
            title: "Persian rug, Tabriz, 2 × 3 m", description: "Wool on cotton, about 1960.",
            startingPrice: 760, increment: "20", buyNow: 5),
        Lot(
            title: "Omega Speedmaster 105.012", description: "Calibre 321, matching bracelet.",
            startingPrice: 4_100, increment: "100", reserve: 2),
        Lot(
            title: "Xbox, sealed, 2001", description: "Launch model, never opened.", startingPrice: 120,
            increment: "2.50"),
        Lot(
            title: "Tiffany desk lamp, 1920s", description: "Bronze foot, rewired.", startingPrice: 1_850,
            increment: "50"),
        Lot(
            title: "Signed Hockney poster", description: "Signed in pencil, framed.", startingPrice: 320,
            increment: "10"),
        Lot(
            title: "Brass ship’s telescope", description: "Three draws, with its leather tube.",
            startingPrice: 95, increment: "2.50"),
        Lot(
            title: "Vintage Vespa 150 GS", description: "Restored in 2019, runs well.", startingPrice: 2_900,
            increment: "50", buyNow: 5),
    ]
    private static let privateLot = Lot(
        title: "House in the old town", description: "By invitation: watch it with the link.",
        startingPrice: 250_000, increment: "5000")

    private static let names = [
        "ava", "bruno", "chidi", "dana", "elif", "farah", "goran", "hana", "ines", "jonas", "kofi", "lena",
        "mateo",
        "noor", "oscar", "priya",
    ]

    private let bidAPIPort: Int
    private let bidderCount: Int
    private let auctionCount: Int
    /// 0 = until stopped.
    private let seconds: Int

    init(_ values: SettingsValues) {
        bidAPIPort = values.number("bid-api-port")
        bidderCount = values.number("bidders")
        auctionCount = values.number("auctions")
        seconds = values.number("seconds")
    }

    func run() throws {
        let run = String(Int.random(in: 1_000...9_999))
        let seller = try BidClient(port: bidAPIPort, username: "house-\(run)")
        let bidders = try (0..<bidderCount).map { index in
            let name = Self.names[index % Self.names.count] + (index < Self.names.count ? "" : "\(index)")
            return try BidClient(port: bidAPIPort, username: "\(name)-\(run)")
        }
        say("\(bidders.count) bidders are bidding on \(auctionCount) auctions")
        try openPrivateLot(seller)
        var plans: [String: Plan] = [:]
        // In turn, so that no two running auctions are of the same lot.
        var lots = Self.lots.shuffled()
        let end = seconds == 0 ? Date.distantFuture : Date.now + Double(seconds)
        while Date.now < end {
            do {
                try step(seller, bidders, &plans, &lots)
            } catch {
                // A server that restarts is part of the demo.
                say("waiting: \(error)")
                Thread.sleep(forTimeInterval: Self.retrySeconds)
            }
            Thread.sleep(forTimeInterval: Double(Int.random(in: Self.pauseMilliseconds)) / 1_000)
        }
    }

    private func step(
        _ seller: BidClient, _ bidders: [BidClient], _ plans: inout [String: Plan], _ lots: inout [Lot]
    ) throws {
        let running = try seller.runningAuctions().filter { plans[$0.id] != nil }
        plans = plans.filter { id, _ in running.contains { $0.id == id } }
        let endsSoon = running.contains { $0.secondsLeft < 60 }
        let missing = max(auctionCount - running.count, endsSoon ? 0 : 1)
        for index in 0..<missing {
            let lot = lots.removeFirst()
            lots.append(lot)
            let isShort = index == 0 && !endsSoon
            // The first lots include a long one, which stays for those who look at a single address.
            let isLong = plans.count == 1 && running.isEmpty
            let duration =
                isShort ? Self.shortSeconds : isLong ? Self.longSeconds : Int.random(in: Self.durationSeconds)
            let id = try seller.createAuction(#"{\#(lot.members),"duration_seconds":\#(duration)}"#)
            if isLong { say("long lot: \(id)") }
            let start = Double(lot.startingPrice)
            plans[id] = Plan(start: start, limit: start * Double.random(in: Self.budget), seconds: duration)
        }
        let names = Set(bidders.map(\.username))
        let open = running.filter { auction in
            let isVisitors = auction.leader.map { !names.contains($0) } ?? false
            return auction.minimumBid < plans[auction.id]?.limit(of: auction, answersVisitor: isVisitors) ?? 0
        }
        guard let auction = open.randomElement(), let limit = plans[auction.id]?.limit,
            let bidder = bidders.randomElement()
        else { return }
        // Losing the race to another bidder, or bidding against oneself, is refused; the next step goes on.
        guard Int.random(in: 0..<Self.stepsPerMaximum) > 0 else {
            let maximum = Double.random(in: auction.minimumBid...max(auction.minimumBid, limit))
            let json = #"{"max_amount":\#(String(format: "%.0f", maximum.rounded(.up)))}"#
            _ = try bidder.request("POST", "/api/v1/auctions/\(auction.id)/proxy", json: json)
            return
        }
        let steps = Double([1, 1, 1, 2, 4].randomElement() ?? 1)
        let amount = auction.minimumBid + (steps - 1) * max(0.5, (auction.minimumBid * 0.02).rounded())
        _ = try bidder.bid(String(format: "%.2f", amount), on: auction.id)
    }

    /// Prints a line at once: a script reads it while the demo runs.
    private func say(_ line: String) {
        FileHandle.standardOutput.write(Data("\(line)\n".utf8))
    }

    /// An auction that only those who have its link may watch.
    private func openPrivateLot(_ seller: BidClient) throws {
        let id = try seller.createAuction(
            #"{\#(Self.privateLot.members),"visibility":"private","duration_seconds":\#(Self.privateSeconds)}"#
        )
        let share = try seller.request("POST", "/api/v1/auctions/\(id)/share")
        guard let token = share.json["token"] as? String else { return }
        say("private lot: /a/\(id)?token=\(token)")
    }
}
