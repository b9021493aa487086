// Finds which bids of a transaction repeat an answered request, and collects the answers to keep for the
// others.

import AuctionEvents

extension BidTransaction {
    /// The keys of some batches. Several bids may share a key. The first one that is decided is answered. The
    /// others are repeats of it, or a different request under the same key.
    struct Keys {
        fileprivate struct Place: Hashable {
            let userID: String
            let key: String

            init(_ key: IdempotencyKey) {
                userID = key.userID
                self.key = key.key
            }

            init(_ rows: Rows, _ row: Int) {
                userID = rows.text(row, 0)
                key = rows.text(row, 1)
            }
        }

        /// Each request once.
        let all: [IdempotencyKey]
        /// One request of each key.
        let toClaim: [IdempotencyKey]

        init(_ batches: [Batch]) {
            all = Array(Set(batches.flatMap { $0.bids.compactMap(\.key) }))
            toClaim = Array(Dictionary(all.map { (Place($0), $0) }) { first, _ in first }.values)
        }
    }

    struct Answers {
        private let before: [IdempotencyKey: IdempotencyKeys.Earlier]
        private var unanswered: Set<Keys.Place> = []
        private(set) var kept: [(key: IdempotencyKey, answer: KeptAnswer)] = []
        private var now: [Keys.Place: (key: IdempotencyKey, answer: KeptAnswer)] = [:]

        /// When no bid has a key.
        init() {
            before = [:]
        }

        /// - Parameters:
        ///   - claimed: what ``IdempotencyKeys/claiming(_:)`` brought.
        ///   - read: what ``IdempotencyKeys/reading(_:)`` brought for ``Keys/all``.
        init(_ keys: Keys, claimed: Rows, read: Rows) throws(DatabaseError) {
            unanswered = Set((0..<claimed.count).map { Keys.Place(claimed, $0) })
            var before: [IdempotencyKey: IdempotencyKeys.Earlier] = [:]
            for row in 0..<read.count where !unanswered.contains(Keys.Place(read, row)) {
                before[keys.all[try IdempotencyKeys.index(read, row)]] = try IdempotencyKeys.earlier(
                    read, row)
            }
            self.before = before
        }

        /// The answer to an earlier request with this key; `nil` when the key is new.
        func earlier(_ key: IdempotencyKey?) -> Outcome? {
            guard let key else { return nil }
            switch before[key] {
            case .answered(let answer): return .repeated(answer)
            case .otherRequest: return .otherRequest
            case nil: break
            }
            guard let first = now[Keys.Place(key)] else { return nil }
            return first.key == key ? .repeated(first.answer) : .otherRequest
        }

        mutating func keep(_ answer: KeptAnswer, for key: IdempotencyKey) {
            now[Keys.Place(key)] = (key, answer)
            kept.append((key, answer))
            unanswered.remove(Keys.Place(key))
        }

        /// The statements that store the answers and release the keys of bids that were not decided.
        var writing: [Statement] {
            (kept.isEmpty ? [] : [IdempotencyKeys.keeping(kept)])
                + (unanswered.isEmpty
                    ? [] : [IdempotencyKeys.releasing(unanswered.map { ($0.userID, $0.key) })])
        }
    }
}
