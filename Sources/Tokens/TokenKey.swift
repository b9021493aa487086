// A key that tokens are signed or checked with, in OpenSSL's keeping. Its algorithm is part of it: EdDSA over
// Ed25519 (RFC 8037), ES256 (ECDSA over P-256, RFC 7518, 3.4) or HS256 (RFC 7518, 3.2).

import COpenSSL

package final class TokenKey: Sendable {
    package enum Algorithm: String, Sendable {
        case edDSA = "EdDSA"
        case es256 = "ES256"
        case hs256 = "HS256"
    }

    package struct Invalid: Error, CustomStringConvertible {
        package let description: String
        package init(description: String) { self.description = description }
    }

    /// Of an Ed25519 key's halves and signatures' halves, and of P-256 numbers.
    static let numberBytes = 32
    static let signatureBytes = 64
    /// RFC 7518, 3.2: a key of the digest's size or more.
    static let leastSecretBytes = 32

    package let keyID: String
    package let algorithm: Algorithm
    /// Whether it can sign.
    package let isPrivate: Bool
    // SAFETY: made in init, freed in deinit, never changed in between; OpenSSL allows concurrent use of an
    // unchanging key, each call having a context of its own. `nil` for HS256, whose secret is in `secret`.
    private nonisolated(unsafe) let key: OpaquePointer?
    private let secret: [UInt8]

    private init(
        _ keyID: String, _ algorithm: Algorithm, isPrivate: Bool, key: OpaquePointer?, secret: [UInt8]
    ) {
        self.keyID = keyID
        self.algorithm = algorithm
        self.isPrivate = isPrivate
        self.key = key
        self.secret = secret
    }

    deinit {
        EVP_PKEY_free(key)
    }

    // MARK: Making

    /// An Ed25519 key pair.
    /// - Parameter seed: the private key, 32 bytes.
    package convenience init(keyID: String, seed: [UInt8]) throws(Invalid) {
        guard seed.count == Self.numberBytes,
            let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count)
        else { throw Invalid(description: "an Ed25519 private key is 32 bytes") }
        self.init(keyID, .edDSA, isPrivate: true, key: key, secret: [])
    }

    /// The public half of an Ed25519 key.
    package convenience init(keyID: String, publicKey: [UInt8]) throws(Invalid) {
        guard publicKey.count == Self.numberBytes,
            let key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, publicKey, publicKey.count)
        else { throw Invalid(description: "an Ed25519 public key is 32 bytes") }
        self.init(keyID, .edDSA, isPrivate: false, key: key, secret: [])
    }

    /// A shared secret for HS256.
    package convenience init(keyID: String, secret: [UInt8]) throws(Invalid) {
        guard secret.count >= Self.leastSecretBytes else {
            throw Invalid(description: "an HS256 secret has at least 32 bytes")
        }
        self.init(keyID, .hs256, isPrivate: true, key: nil, secret: secret)
    }

    /// A P-256 key: the point's coordinates, and the private number where it may sign.
    package convenience init(keyID: String, x: [UInt8], y: [UInt8], d: [UInt8]?) throws(Invalid) {
        guard x.count == Self.numberBytes, y.count == Self.numberBytes, (d?.count ?? 32) == Self.numberBytes,
            let key = Self.curveKey(point: [0x04] + x + y, d: d)
        else { throw Invalid(description: "no point of P-256, or not its private number") }
        self.init(keyID, .es256, isPrivate: d != nil, key: key, secret: [])
    }

    /// An Ed25519 key made of fresh random bytes.
    package static func random(keyID: String) -> TokenKey {
        var seed = [UInt8](repeating: 0, count: numberBytes)
        guard RAND_bytes(&seed, Int32(seed.count)) == 1, let key = try? TokenKey(keyID: keyID, seed: seed)
        else {
            preconditionFailure("OpenSSL has no randomness")
        }
        return key
    }

    // SAFETY: every OpenSSL object made here is freed here, but for the key that is returned to its one
    // owner. The builder keeps pointers until it has made the parameters: the names are C constants, and the
    // point is pinned.
    private static func curveKey(point: [UInt8], d: [UInt8]?) -> OpaquePointer? {
        let builder = OSSL_PARAM_BLD_new()
        defer { OSSL_PARAM_BLD_free(builder) }
        let number = d.flatMap { BN_bin2bn($0, Int32($0.count), nil) }
        defer { BN_clear_free(number) }
        let parameters = point.withUnsafeBytes { point -> UnsafeMutablePointer<OSSL_PARAM>? in
            guard OSSL_PARAM_BLD_push_utf8_string(builder, gavelcast_param_group, gavelcast_curve, 0) == 1,
                OSSL_PARAM_BLD_push_octet_string(
                    builder, gavelcast_param_public, point.baseAddress, point.count) == 1,
                number == nil || OSSL_PARAM_BLD_push_BN(builder, gavelcast_param_private, number) == 1
            else { return nil }
            return OSSL_PARAM_BLD_to_param(builder)
        }
        guard let parameters else { return nil }
        defer { OSSL_PARAM_free(parameters) }
        let context = EVP_PKEY_CTX_new_from_name(nil, gavelcast_key_type, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        let half = d == nil ? gavelcast_pkey_public_key : gavelcast_pkey_keypair
        guard EVP_PKEY_fromdata_init(context) == 1,
            EVP_PKEY_fromdata(context, &key, half, parameters) == 1
        else { return nil }
        // The point must lie on the curve, and both halves belong together.
        let check = EVP_PKEY_CTX_new(key, nil)
        defer { EVP_PKEY_CTX_free(check) }
        guard (d == nil ? EVP_PKEY_public_check(check) : EVP_PKEY_check(check)) == 1 else {
            EVP_PKEY_free(key)
            return nil
        }
        return key
    }

    /// The public half of an Ed25519 key; `nil` for another key.
    var publicBytes: [UInt8]? {
        guard algorithm == .edDSA else { return nil }
        var bytes = [UInt8](repeating: 0, count: Self.numberBytes)
        var count = bytes.count
        guard EVP_PKEY_get_raw_public_key(key, &bytes, &count) == 1, count == bytes.count else { return nil }
        return bytes
    }

    // MARK: Signing

    /// The signature of `message` in the form of JWS. The key must be private.
    package func sign(_ message: [UInt8]) -> [UInt8] {
        precondition(isPrivate, "key \(keyID) cannot sign")
        guard algorithm != .hs256 else { return authenticationCode(message) }
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        var signature = [UInt8](repeating: 0, count: 80)
        var count = signature.count
        let digest = algorithm == .es256 ? EVP_sha256() : nil
        let signed =
            EVP_DigestSignInit(context, nil, digest, nil, key) == 1
            && EVP_DigestSign(context, &signature, &count, message, message.count) == 1
        precondition(signed, "signing failed")
        signature.removeLast(signature.count - count)
        return algorithm == .es256 ? Self.fixedForm(signature) : signature
    }

    package func verifies(_ signature: [UInt8], of message: [UInt8]) -> Bool {
        if algorithm == .hs256 {
            let expected = authenticationCode(message)
            return signature.count == expected.count
                && CRYPTO_memcmp(signature, expected, expected.count) == 0
        }
        guard signature.count == Self.signatureBytes else { return false }
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        let digest = algorithm == .es256 ? EVP_sha256() : nil
        let form = algorithm == .es256 ? Self.distinguishedForm(signature) : signature
        return EVP_DigestVerifyInit(context, nil, digest, nil, key) == 1
            && EVP_DigestVerify(context, form, form.count, message, message.count) == 1
    }

    private func authenticationCode(_ message: [UInt8]) -> [UInt8] {
        var code = [UInt8](repeating: 0, count: 32)
        var count: UInt32 = 32
        HMAC(EVP_sha256(), secret, Int32(secret.count), message, message.count, &code, &count)
        precondition(count == 32)
        return code
    }

    // SAFETY: in both conversions OpenSSL's object is freed where it is made; its numbers are borrowed until
    // then.

    /// OpenSSL's ASN.1 form of an ECDSA signature as two numbers of 32 bytes (RFC 7518, 3.4).
    private static func fixedForm(_ signature: [UInt8]) -> [UInt8] {
        signature.withUnsafeBufferPointer { bytes in
            var start = bytes.baseAddress
            let pair = d2i_ECDSA_SIG(nil, &start, bytes.count)
            defer { ECDSA_SIG_free(pair) }
            var output = [UInt8](repeating: 0, count: signatureBytes)
            output.withUnsafeMutableBufferPointer {
                BN_bn2binpad(ECDSA_SIG_get0_r(pair), $0.baseAddress, Int32(numberBytes))
                BN_bn2binpad(ECDSA_SIG_get0_s(pair), $0.baseAddress! + numberBytes, Int32(numberBytes))
            }
            return output
        }
    }

    private static func distinguishedForm(_ signature: [UInt8]) -> [UInt8] {
        let pair = ECDSA_SIG_new()
        defer { ECDSA_SIG_free(pair) }
        let r = BN_bin2bn(Array(signature[..<numberBytes]), Int32(numberBytes), nil)
        let s = BN_bin2bn(Array(signature[numberBytes...]), Int32(numberBytes), nil)
        // Takes both numbers over.
        ECDSA_SIG_set0(pair, r, s)
        var output = [UInt8](repeating: 0, count: 80)
        let count = output.withUnsafeMutableBufferPointer { bytes in
            var end = bytes.baseAddress
            return i2d_ECDSA_SIG(pair, &end)
        }
        return Array(output[..<Int(count)])
    }
}
