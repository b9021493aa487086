// The demo: a seller keeps a few auctions running, and bidders with budgets outbid each other until
// everyone's budget is spent, so that prices move, late bids extend the end, and auctions do end.

import Foundation
import LoadClient
import Settings

struct Demo {
    private static let pauseMilliseconds = 150...900
    private static let durationSeconds = 45...150
    /// No bidder goes beyond the starting price times a number from this range.
    private static let budget = 2.0...4.0
    private static let retrySeconds = 1.0

    private typealias Lot = (title: String, startingPrice: Int, increment: String)

    private static let lots: [Lot] = [
        ("Cartier Tank, 1974", 950, "25"), ("Leica M3 with Summicron 50", 1_200, "25"),
        ("Eames lounge chair, rosewood", 2_400, "50"), ("Palm Pilot Professional, boxed", 40, "0.50"),
        ("First pressing, “Kind of Blue”", 180, "5"), ("Persian rug, Tabriz, 2 × 3 m", 760, "20"),
        ("Omega Speedmaster 105.012", 4_100, "100"), ("Xbox, sealed, 2001", 120, "2.50"),
        ("Tiffany desk lamp, 1920s", 1_850, "50"), ("Signed Hockney poster", 320, "10"),
        ("Brass ship’s telescope", 95, "2.50"), ("Vintage Vespa 150 GS", 2_900, "50"),
    ]
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
        print("\(bidders.count) bidders are bidding on \(auctionCount) auctions")
        var limits: [String: Double] = [:]
        // In turn, so that no two running auctions are of the same lot.
        var lots = Self.lots.shuffled()
        let end = seconds == 0 ? Date.distantFuture : Date.now + Double(seconds)
        while Date.now < end {
            do {
                try step(seller, bidders, &limits, &lots)
            } catch {
                // A server that restarts is part of the demo.
                print("waiting: \(error)")
                Thread.sleep(forTimeInterval: Self.retrySeconds)
            }
            Thread.sleep(forTimeInterval: Double(Int.random(in: Self.pauseMilliseconds)) / 1_000)
        }
    }

    private func step(
        _ seller: BidClient, _ bidders: [BidClient], _ limits: inout [String: Double], _ lots: inout [Lot]
    ) throws {
        let running = try seller.runningAuctions().filter { limits[$0.id] != nil }
        limits = limits.filter { id, _ in running.contains { $0.id == id } }
        for _ in running.count..<max(running.count, auctionCount) {
            let lot = lots.removeFirst()
            lots.append(lot)
            let duration = Int.random(in: Self.durationSeconds)
            let id = try seller.createAuction(
                """
                {"title":"\(lot.title)","category":"demo","starting_price":\(lot.startingPrice),\
                "bid_increment":\(lot.increment),"duration_seconds":\(duration)}
                """)
            limits[id] = Double(lot.startingPrice) * Double.random(in: Self.budget)
        }
        guard let auction = running.filter({ $0.minimumBid < limits[$0.id] ?? 0 }).randomElement() else {
            return
        }
        let steps = Double([1, 1, 1, 2, 4].randomElement()!)
        let amount = auction.minimumBid + (steps - 1) * max(0.5, (auction.minimumBid * 0.02).rounded())
        // Losing the race to another bidder, or bidding against oneself, is refused; the next step goes on.
        _ = try bidders.randomElement()!.bid(String(format: "%.2f", amount), on: auction.id)
    }
}
