// Access tokens: compact JWTs (RFC 7519) signed with EdDSA. The algorithm belongs to the key; the header's `alg` must
// agree with it and is never trusted to choose.

import Foundation

/// What a token says of its bearer.
package struct AccessToken: Sendable, Equatable {
    /// How far clocks may disagree, in seconds.
    package static let leewaySeconds = 5
    /// Longer tokens are refused unread.
    package static let maximumBytes = 4_096

    /// The user's id.
    package let subject: String
    /// Seconds since 1970.
    package let expiresAt: Int
    /// `api` for the bid API; `nil` when not restricted.
    package let audience: String?

    package init(subject: String, expiresAt: Int, audience: String?) {
        self.subject = subject
        self.expiresAt = expiresAt
        self.audience = audience
    }

    package enum Fault: Error, Equatable, Sendable {
        case malformed
        case wrongSignature
        case expired
        case notYetValid
    }

    private struct Header: Codable {
        let alg: String
        let kid: String?
    }

    private struct Claims: Codable {
        let sub: String
        let exp: Int
        let nbf: Int?
        let aud: String?
    }

    package func signed(with key: SigningKey) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        guard let header = try? encoder.encode(Header(alg: "EdDSA", kid: key.keyID)),
            let claims = try? encoder.encode(Claims(sub: subject, exp: expiresAt, nbf: nil, aud: audience))
        else { preconditionFailure("a token's claims are plain text and numbers") }
        let input = Base64URL.encode(header) + "." + Base64URL.encode(claims)
        return input + "." + Base64URL.encode(key.sign(Array(input.utf8)))
    }

    /// Checks a token at `now`, seconds since 1970.
    package static func verify(
        _ text: String, with key: SigningKey, now: Int
    ) throws(Fault) -> AccessToken {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard text.utf8.count <= maximumBytes, parts.count == 3, let headerBytes = Base64URL.decode(parts[0]),
            let claimBytes = Base64URL.decode(parts[1]), let signature = Base64URL.decode(parts[2]),
            let header = try? JSONDecoder().decode(Header.self, from: Data(headerBytes))
        else { throw .malformed }
        let input = Array("\(parts[0]).\(parts[1])".utf8)
        guard header.alg == "EdDSA", header.kid == nil || header.kid == key.keyID,
            key.verifies(signature, of: input)
        else { throw .wrongSignature }
        guard let claims = try? JSONDecoder().decode(Claims.self, from: Data(claimBytes)) else {
            throw .malformed
        }
        guard now < claims.exp + leewaySeconds else { throw .expired }
        guard now >= (claims.nbf ?? 0) - leewaySeconds else { throw .notYetValid }
        return AccessToken(subject: claims.sub, expiresAt: claims.exp, audience: claims.aud)
    }
}
