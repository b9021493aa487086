// The cursor of a watch, as clients write it.

import AuctionEvents

/// Where a client wants to go on from.
package enum Cursor: Equatable, Sendable {
    case none
    case at(UInt64)
    case malformed

    package static let rule = "since is a sequence number from 0 to 2^53-1"

    package init(_ text: String) {
        guard (1...16).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = UInt64(text), number <= .maximumSequence
        else {
            self = .malformed
            return
        }
        self = .at(number)
    }
}
