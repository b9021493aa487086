// Waiting for servers, with a deadline.

import Foundation

/// A server that cannot be started, or does not answer.
package struct ServerFailure: Error, CustomStringConvertible {
    package let description: String
    package init(description: String) { self.description = description }
}

package struct TimedOut: Error, CustomStringConvertible {
    package let description: String
    package init(description: String) { self.description = description }
}

/// Asks again and again until `condition` holds; throws when it does not within `seconds`.
package func eventually(
    _ what: String, within seconds: Double = 30, _ condition: () throws -> Bool
) throws {
    let deadline = Date.now + seconds
    while try !condition() {
        guard Date.now < deadline else { throw TimedOut(description: "\(what): not within \(seconds) s") }
        usleep(10_000)
    }
}
