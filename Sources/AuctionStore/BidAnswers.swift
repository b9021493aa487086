// Which requests of a transaction's bids were answered before, and what is to be kept of those that are
// answered now.

import AuctionEvents

extension BidTransaction {
    /// The keys of some batches. Several bids may have one key: the first that is decided is answered, the
    /// others are its repeats, or another request under the same key.
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

        /// What a request with this key was answered with; `nil` when it is new.
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

        /// Keeps the answers, and gives back the keys of bids that were not decided.
        var writing: [Statement] {
            (kept.isEmpty ? [] : [IdempotencyKeys.keeping(kept)])
                + (unanswered.isEmpty
                    ? [] : [IdempotencyKeys.releasing(unanswered.map { ($0.userID, $0.key) })])
        }
    }
}
