// The keys that a service trusts, read from a JWKS file (RFC 7517).

import Foundation

package struct TokenKeys: Sendable {
    /// A token's key is found by its `kid`, so more keys than an operator rotates through make no sense.
    package static let maximumKeys = 64

    package let keys: [TokenKey]

    package init(_ keys: [TokenKey]) {
        self.keys = keys
    }

    /// The first key that can sign.
    package var signing: TokenKey? { keys.first { $0.isPrivate } }

    /// The key named `keyID`; without a name, the only one of the algorithm.
    func key(_ keyID: String?, algorithm: String) -> TokenKey? {
        let fitting = keys.filter { $0.algorithm.rawValue == algorithm }
        guard let keyID else { return fitting.count == 1 ? fitting[0] : nil }
        return fitting.first { $0.keyID == keyID }
    }

    private struct File: Decodable {
        let keys: [Entry]
    }

    private struct Entry: Decodable {
        let kty: String
        let kid: String?
        let alg: String?
        let crv: String?
        let x: String?
        let y: String?
        let d: String?
        let k: String?
    }

    /// Reads the file at `path`.
    package init(path: String) throws(TokenKey.Invalid) {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw TokenKey.Invalid(description: "cannot be read")
        }
        try self.init(json: Array(data))
    }

    /// - Parameter json: the file's bytes.
    /// - Throws: what is wrong, and with which key.
    package init(json: [UInt8]) throws(TokenKey.Invalid) {
        guard let file = try? JSONDecoder().decode(File.self, from: Data(json)) else {
            throw TokenKey.Invalid(description: "is not a JWKS: an object with an array 'keys'")
        }
        guard (1...Self.maximumKeys).contains(file.keys.count) else {
            throw TokenKey.Invalid(description: "must have 1 to \(Self.maximumKeys) keys")
        }
        var keys: [TokenKey] = []
        for (index, entry) in file.keys.enumerated() {
            let name = entry.kid.map { "key '\($0)'" } ?? "key number \(index + 1)"
            do throws(TokenKey.Invalid) {
                let key = try Self.key(entry)
                guard !keys.contains(where: { $0.keyID == key.keyID }) else {
                    throw TokenKey.Invalid(description: "another key has the same kid")
                }
                keys.append(key)
            } catch {
                throw TokenKey.Invalid(description: "\(name): \(error)")
            }
        }
        self.keys = keys
    }

    private static func key(_ entry: Entry) throws(TokenKey.Invalid) -> TokenKey {
        guard let keyID = entry.kid, !keyID.isEmpty else {
            throw TokenKey.Invalid(description: "kid is missing")
        }
        func bytes(_ text: String?, _ name: String) throws(TokenKey.Invalid) -> [UInt8] {
            guard let text, let bytes = Base64URL.decode(text) else {
                throw TokenKey.Invalid(description: "\(name) is missing or no base64url")
            }
            return bytes
        }
        switch (entry.kty, entry.crv, entry.alg) {
        case ("OKP", "Ed25519", "EdDSA"):
            if entry.d != nil { return try TokenKey(keyID: keyID, seed: bytes(entry.d, "d")) }
            return try TokenKey(keyID: keyID, publicKey: bytes(entry.x, "x"))
        case ("EC", "P-256", "ES256"):
            let d: [UInt8]? = entry.d == nil ? nil : try bytes(entry.d, "d")
            return try TokenKey(keyID: keyID, x: bytes(entry.x, "x"), y: bytes(entry.y, "y"), d: d)
        case ("oct", nil, "HS256"): return try TokenKey(keyID: keyID, secret: bytes(entry.k, "k"))
        default:
            throw TokenKey.Invalid(
                description:
                    "kty, crv and alg must be OKP, Ed25519, EdDSA; or EC, P-256, ES256; or oct, HS256")
        }
    }
}
