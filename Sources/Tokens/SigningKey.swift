// An Ed25519 key pair in OpenSSL's keeping (RFC 8032; as a JWT algorithm "EdDSA", RFC 8037).

import COpenSSL

package final class SigningKey: Sendable {
    package struct Invalid: Error {}

    package static let seedBytes = 32
    static let signatureBytes = 64

    package let keyID: String
    // SAFETY: made in init, freed in deinit, never changed in between; OpenSSL allows concurrent use of an unchanging
    // key, each call having a context of its own.
    private nonisolated(unsafe) let key: OpaquePointer

    /// - Parameter seed: the private key, 32 bytes.
    package init(keyID: String, seed: [UInt8]) throws(Invalid) {
        guard seed.count == Self.seedBytes,
            let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count)
        else { throw Invalid() }
        self.keyID = keyID
        self.key = key
    }

    /// A key made of fresh random bytes.
    package static func random(keyID: String) -> SigningKey {
        var seed = [UInt8](repeating: 0, count: seedBytes)
        guard RAND_bytes(&seed, Int32(seed.count)) == 1, let key = try? SigningKey(keyID: keyID, seed: seed)
        else {
            preconditionFailure("OpenSSL has no randomness")
        }
        return key
    }

    deinit {
        EVP_PKEY_free(key)
    }

    package func sign(_ message: [UInt8]) -> [UInt8] {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var signature = [UInt8](repeating: 0, count: Self.signatureBytes)
        var count = signature.count
        let signed =
            EVP_DigestSignInit(context, nil, nil, nil, key) == 1
            && EVP_DigestSign(context, &signature, &count, message, message.count) == 1
        precondition(signed && count == Self.signatureBytes, "Ed25519 signing failed")
        return signature
    }

    package func verifies(_ signature: [UInt8], of message: [UInt8]) -> Bool {
        guard signature.count == Self.signatureBytes else { return false }
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        return EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1
            && EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
    }
}
