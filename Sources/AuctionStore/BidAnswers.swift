// Which requests of a transaction's bids were answered before, and what is to be kept of those that are answered now.

import AuctionEvents

extension BidTransaction {
    /// The keys of some batches. Several bids may have one key: the first claims it, the others are its repeats.
    struct Keys {
        fileprivate struct Place: Hashable {
            let userID: String
            let key: String
        }

        fileprivate private(set) var byPlace: [Place: IdempotencyKey] = [:]

        init(_ batches: [Batch]) {
            for batch in batches {
                for key in batch.bids.compactMap(\.key) where byPlace[Self.place(key)] == nil {
                    byPlace[Self.place(key)] = key
                }
            }
        }

        var all: [IdempotencyKey] { Array(byPlace.values) }

        fileprivate static func place(_ key: IdempotencyKey) -> Place {
            Place(userID: key.userID, key: key.key)
        }
    }

    struct Answers {
        private let keys: Keys
        private let before: [Keys.Place: IdempotencyKeys.Earlier]
        private var unanswered: Set<Keys.Place> = []
        private(set) var kept: [(key: IdempotencyKey, answer: KeptAnswer)] = []
        private var now: [Keys.Place: KeptAnswer] = [:]

        /// When no bid has a key.
        init() {
            keys = Keys([])
            before = [:]
        }

        /// - Parameters:
        ///   - claimed: what ``IdempotencyKeys/claiming(_:)`` brought.
        ///   - read: what ``IdempotencyKeys/reading(_:)`` brought.
        init(_ keys: Keys, claimed: Rows, read: Rows) {
            self.keys = keys
            var before: [Keys.Place: IdempotencyKeys.Earlier] = [:]
            for row in 0..<claimed.count {
                unanswered.insert(Keys.Place(userID: claimed.text(row, 0), key: claimed.text(row, 1)))
            }
            for row in 0..<read.count {
                let place = Keys.Place(userID: read.text(row, 0), key: read.text(row, 1))
                if !unanswered.contains(place) { before[place] = IdempotencyKeys.earlier(read, row) }
            }
            self.before = before
        }

        /// What a request with this key was answered with; `nil` when it is new.
        func earlier(_ key: IdempotencyKey?) -> Outcome? {
            guard let key else { return nil }
            let place = Keys.place(key)
            switch before[place] {
            case .answered(let answer): return .repeated(answer)
            case .otherRequest: return .otherRequest
            case nil: break
            }
            guard let answer = now[place] else { return nil }
            return keys.byPlace[place] == key ? .repeated(answer) : .otherRequest
        }

        mutating func keep(_ answer: KeptAnswer, for key: IdempotencyKey) {
            now[Keys.place(key)] = answer
            kept.append((key, answer))
            unanswered.remove(Keys.place(key))
        }

        /// Keeps the answers, and gives back the keys of bids that were not decided.
        var writing: [Statement] {
            (kept.isEmpty ? [] : [IdempotencyKeys.keeping(kept)])
                + (unanswered.isEmpty
                    ? [] : [IdempotencyKeys.releasing(unanswered.map { ($0.userID, $0.key) })])
        }
    }
}
