// What a bearer may do: a JSON web token (RFC 7519) signed with one of the service's keys. The algorithm
// belongs to the key; the header's `alg` must agree with it and is never trusted to choose.

import Foundation

/// What a token says of its bearer.
package struct AccessToken: Sendable, Equatable {
    /// How far clocks may disagree, in seconds.
    package static let leewaySeconds = 5
    /// The latest expiry that is kept: the year 9999. A later one is cut to this.
    private static let maximumTime = 253_402_300_799.0
    /// Longer tokens are refused unread.
    package static let maximumBytes = 4_096
    /// In its encoded form; it names an algorithm and a key.
    private static let maximumHeaderBytes = 512

    /// Which private auctions its bearer may watch.
    package enum Auctions: Sendable, Equatable {
        /// Public ones only.
        case none
        case listed(Set<String>)
        case all
    }

    /// The user's id.
    package let subject: String
    /// Seconds since 1970.
    package let expiresAt: Int
    /// `api` for the bid API, `watch` for watching alone; `nil` when not restricted.
    package let audience: String?
    package let auctions: Auctions

    package init(subject: String, expiresAt: Int, audience: String?, auctions: Auctions = .none) {
        self.subject = subject
        self.expiresAt = expiresAt
        self.audience = audience
        self.auctions = auctions
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
        var crit: [String]?
    }

    private struct Claims: Codable {
        let sub: String
        /// NumericDate may have a fraction (RFC 7519, 2).
        let exp: Double
        let nbf: Double?
        let aud: AudienceClaim?
        let auctions: AuctionsClaim?
    }

    /// One, or a list (RFC 7519, 4.1.3).
    private struct AudienceClaim: Codable {
        let names: [String]

        init(_ name: String) { names = [name] }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            names = try (try? container.decode([String].self)) ?? [container.decode(String.self)]
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            if names.count == 1 { try container.encode(names[0]) } else { try container.encode(names) }
        }
    }

    /// `"*"`, or a list of ids.
    private struct AuctionsClaim: Codable {
        let auctions: Auctions

        init(_ auctions: Auctions) { self.auctions = auctions }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let ids = try? container.decode([String].self) {
                auctions = .listed(Set(ids))
            } else if try container.decode(String.self) == "*" {
                auctions = .all
            } else {
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "no list and no *")
            }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch auctions {
            case .none: try container.encodeNil()
            case .listed(let ids): try container.encode(ids.sorted())
            case .all: try container.encode("*")
            }
        }
    }

    package func signed(with key: TokenKey) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let body = Claims(
            sub: subject, exp: Double(expiresAt), nbf: nil, aud: audience.map(AudienceClaim.init),
            auctions: auctions == .none ? nil : AuctionsClaim(auctions))
        guard let header = try? encoder.encode(Header(alg: key.algorithm.rawValue, kid: key.keyID)),
            let claims = try? encoder.encode(body)
        else { preconditionFailure("a token's claims are plain text and numbers") }
        let input = Base64URL.encode(header) + "." + Base64URL.encode(claims)
        return input + "." + Base64URL.encode(key.sign(Array(input.utf8)))
    }

    /// Checks a token at `now`, seconds since 1970.
    package static func verify(
        _ text: String, with keys: TokenKeys, now: Int
    ) throws(Fault) -> AccessToken {
        guard text.utf8.count <= maximumBytes else { throw .malformed }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        // Read the claims only after their signature has been verified.
        guard parts.count == 3, parts[0].utf8.count <= maximumHeaderBytes,
            let headerBytes = Base64URL.decode(parts[0]),
            let header = try? JSONDecoder().decode(Header.self, from: Data(headerBytes)),
            // An extension that must be understood (RFC 7515, 4.1.11); none is.
            header.crit == nil
        else { throw .malformed }
        guard let key = keys.key(header.kid, algorithm: header.alg) else { throw .wrongSignature }
        guard let signature = Base64URL.decode(parts[2]) else { throw .malformed }
        let input = Array("\(parts[0]).\(parts[1])".utf8)
        guard key.verifies(signature, of: input) else { throw .wrongSignature }
        guard let claimBytes = Base64URL.decode(parts[1]) else { throw .malformed }
        guard let claims = try? JSONDecoder().decode(Claims.self, from: Data(claimBytes)) else {
            throw .malformed
        }
        guard Double(now - leewaySeconds) < claims.exp else { throw .expired }
        guard Double(now + leewaySeconds) >= claims.nbf ?? 0 else { throw .notYetValid }
        let names = claims.aud?.names
        return AccessToken(
            subject: claims.sub, expiresAt: Int(min(claims.exp, maximumTime)),
            // Of several, the one that allows most.
            audience: names.map {
                $0.contains("api") ? "api" : $0.contains("watch") ? "watch" : $0.first ?? ""
            },
            auctions: claims.auctions?.auctions ?? .none)
    }
}
