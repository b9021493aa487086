// Remembers tokens whose signature was valid, so that an active user's signature is checked only once. A
// check costs about 100 µs of processor time, more than all the rest of a request.

import Synchronization

/// Checks tokens against keys that never change; new keys take a new verifier. Any thread.
package final class TokenVerifier: Sendable {
    /// At most this many tokens are remembered, about 500 bytes each. With more, all are forgotten.
    private static let maximumTokens = 20_000

    private let keys: TokenKeys
    private let known = Mutex<[String: AccessToken]>([:])

    package init(_ keys: TokenKeys) {
        self.keys = keys
    }

    /// Checks a token at `now`, seconds since 1970.
    package func verify(_ text: String, now: Int) throws(AccessToken.Fault) -> AccessToken {
        if let token = known.withLock({ $0[text] }) {
            guard now - AccessToken.leewaySeconds < token.expiresAt else { throw .expired }
            return token
        }
        let token = try AccessToken.verify(text, with: keys, now: now)
        known.withLock { known in
            if known.count >= Self.maximumTokens { known = [:] }
            known[text] = token
        }
        return token
    }
}
