// Passwords are kept as scrypt hashes (RFC 7914). Hashing takes tens of milliseconds and 16 MiB on purpose:
// callers run it on a thread that may block.

import COpenSSL
import Foundation

package enum PasswordHash {
    private static let cost: UInt64 = 16_384
    private static let blockSize: UInt64 = 8
    private static let parallelism: UInt64 = 1
    private static let saltBytes = 16
    private static let hashBytes = 32

    /// The stored form: `scrypt$N$r$p$salt$hash`.
    package static func make(_ password: String) -> String {
        var salt = [UInt8](repeating: 0, count: saltBytes)
        guard RAND_bytes(&salt, Int32(salt.count)) == 1,
            let hash = derive(password, salt, cost, blockSize, parallelism)
        else { preconditionFailure("OpenSSL cannot derive a key") }
        return
            "scrypt$\(cost)$\(blockSize)$\(parallelism)$\(Base64URL.encode(salt))$\(Base64URL.encode(hash))"
    }

    package static func verify(_ password: String, against stored: String) -> Bool {
        let parts = stored.split(separator: "$")
        guard parts.count == 6, parts[0] == "scrypt", let cost = UInt64(parts[1]),
            let blockSize = UInt64(parts[2]),
            let parallelism = UInt64(parts[3]), let salt = Base64URL.decode(parts[4]),
            let expected = Base64URL.decode(parts[5]),
            let hash = derive(password, salt, cost, blockSize, parallelism), hash.count == expected.count
        else { return false }
        return CRYPTO_memcmp(hash, expected, hash.count) == 0
    }

    private static func derive(
        _ password: String, _ salt: [UInt8], _ cost: UInt64, _ blockSize: UInt64, _ parallelism: UInt64
    ) -> [UInt8]? {
        var hash = [UInt8](repeating: 0, count: hashBytes)
        let secret = Array(password.utf8).map { CChar(bitPattern: $0) }
        let derived = EVP_PBE_scrypt(
            secret, secret.count, salt, salt.count, cost, blockSize, parallelism, 64 << 20, &hash, hash.count)
        return derived == 1 ? hash : nil
    }
}
