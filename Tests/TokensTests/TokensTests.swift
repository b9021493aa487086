import Foundation
import Testing
import Tokens

@Suite struct TokensTests {
    /// RFC 8032, section 7.1, TEST 1; also the key of RFC 8037, appendix A.
    private let seed: [UInt8] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
        0x49, 0xc5,
        0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ]

    @Test("signatures are those of RFC 8032 and RFC 8037")
    func vectors() throws {
        let key = try SigningKey(keyID: "k", seed: seed)
        let empty = key.sign([])
        #expect(empty.prefix(8) == [0xe5, 0x56, 0x43, 0x00, 0xc3, 0x60, 0xac, 0x72])
        #expect(key.verifies(empty, of: []))
        #expect(!key.verifies(empty, of: [0]))
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
        let expected =
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        let encoded = Data(key.sign(Array(input.utf8))).base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
        #expect(encoded == expected)
    }

    @Test("a token is valid until its end plus the leeway, for its key alone")
    func lifetime() throws {
        let key = SigningKey.random(keyID: "k1")
        let token = AccessToken(subject: "usr_1", expiresAt: 1_000, audience: "api")
        let text = token.signed(with: key)
        #expect(try AccessToken.verify(text, with: key, now: 999) == token)
        #expect(try AccessToken.verify(text, with: key, now: 1_004) == token)
        #expect(throws: AccessToken.Fault.expired) { try AccessToken.verify(text, with: key, now: 1_005) }
        #expect(throws: AccessToken.Fault.wrongSignature) {
            try AccessToken.verify(text, with: .random(keyID: "k1"), now: 999)
        }
    }

    @Test("altered, unsigned and malformed tokens are refused")
    func refuses() throws {
        let key = SigningKey.random(keyID: "k1")
        let text = AccessToken(subject: "usr_1", expiresAt: 1_000, audience: nil).signed(with: key)
        let parts = text.split(separator: ".").map(String.init)
        let other = AccessToken(subject: "usr_2", expiresAt: 1_000, audience: nil).signed(
            with: .random(keyID: "k1")
        )
        .split(separator: ".").map(String.init)
        #expect(throws: AccessToken.Fault.wrongSignature) {
            try AccessToken.verify("\(parts[0]).\(other[1]).\(parts[2])", with: key, now: 1)
        }
        let none = Data(#"{"alg":"none"}"#.utf8).base64EncodedString().replacing("=", with: "")
        #expect(throws: AccessToken.Fault.wrongSignature) {
            try AccessToken.verify("\(none).\(parts[1]).\(parts[2])", with: key, now: 1)
        }
        #expect(throws: AccessToken.Fault.malformed) {
            try AccessToken.verify("\(none).\(parts[1])", with: key, now: 1)
        }
        for bad in ["", "a.b.c", "....", text + "=", String(repeating: "x", count: 5_000)] {
            #expect(throws: AccessToken.Fault.self) { try AccessToken.verify(bad, with: key, now: 1) }
        }
    }

    @Test("a password verifies against its hash alone")
    func passwords() {
        let hash = PasswordHash.make("correct horse")
        #expect(hash.hasPrefix("scrypt$16384$8$1$"))
        #expect(PasswordHash.verify("correct horse", against: hash))
        #expect(!PasswordHash.verify("correct hors", against: hash))
        #expect(PasswordHash.make("correct horse") != hash, "each hash has its own salt")
        for bad in ["", "scrypt$1$2", hash + "$x", "md5$a$b$c$d$e"] {
            #expect(!PasswordHash.verify("x", against: bad))
        }
    }

    @Test("scrypt is that of RFC 7914, section 12")
    func scryptVector() {
        // N = 1024, r = 8, p = 16, password "password", salt "NaCl": the first 32 of the vector's 64 bytes.
        let stored = "scrypt$1024$8$16$TmFDbA$_bq-HJ00cgB4VucZDQHp_nxq18vII3gw53N2Y0s3MWI"
        #expect(PasswordHash.verify("password", against: stored))
        #expect(!PasswordHash.verify("Password", against: stored))
    }
}
