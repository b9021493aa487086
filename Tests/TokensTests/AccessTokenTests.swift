import Foundation
import Testing
import Tokens

@Suite struct AccessTokenTests {
    /// RFC 8032, section 7.1, TEST 1; also the key of RFC 8037, appendix A.
    private let seed: [UInt8] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
        0x49, 0xc5,
        0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ]

    @Test("signatures are those of RFC 8032 and RFC 8037")
    func vectors() throws {
        let key = try TokenKey(keyID: "k", seed: seed)
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
        let key = TokenKey.random(keyID: "k1")
        let token = AccessToken(subject: "usr_1", expiresAt: 1_000, audience: "api")
        let text = token.signed(with: key)
        #expect(try AccessToken.verify(text, with: TokenKeys([key]), now: 999) == token)
        #expect(try AccessToken.verify(text, with: TokenKeys([key]), now: 1_004) == token)
        #expect(throws: AccessToken.Fault.expired) {
            try AccessToken.verify(text, with: TokenKeys([key]), now: 1_005)
        }
        #expect(throws: AccessToken.Fault.wrongSignature) {
            try AccessToken.verify(text, with: TokenKeys([.random(keyID: "k1")]), now: 999)
        }
    }

    @Test("altered, unsigned and malformed tokens are refused")
    func refuses() throws {
        let key = TokenKey.random(keyID: "k1")
        let text = AccessToken(subject: "usr_1", expiresAt: 1_000, audience: nil).signed(with: key)
        let parts = text.split(separator: ".").map(String.init)
        let other = AccessToken(subject: "usr_2", expiresAt: 1_000, audience: nil).signed(
            with: .random(keyID: "k1")
        )
        .split(separator: ".").map(String.init)
        #expect(throws: AccessToken.Fault.wrongSignature) {
            try AccessToken.verify("\(parts[0]).\(other[1]).\(parts[2])", with: TokenKeys([key]), now: 1)
        }
        let none = Data(#"{"alg":"none"}"#.utf8).base64EncodedString().replacing("=", with: "")
        #expect(throws: AccessToken.Fault.wrongSignature) {
            try AccessToken.verify("\(none).\(parts[1]).\(parts[2])", with: TokenKeys([key]), now: 1)
        }
        #expect(throws: AccessToken.Fault.malformed) {
            try AccessToken.verify("\(none).\(parts[1])", with: TokenKeys([key]), now: 1)
        }
        for bad in ["", "a.b.c", "....", text + "=", String(repeating: "x", count: 5_000)] {
            #expect(throws: AccessToken.Fault.self) {
                try AccessToken.verify(bad, with: TokenKeys([key]), now: 1)
            }
        }
    }

    @Test("a token is not valid before its time, and its audience is read from one or many")
    func claims() throws {
        let key = TokenKey.random(keyID: "k1")
        func verify(_ claims: String, now: Int) throws -> AccessToken {
            let parts = [#"{"alg":"EdDSA","kid":"k1"}"#, claims].map { encode(Array($0.utf8)) }
            let input = parts.joined(separator: ".")
            let text = "\(input).\(encode(key.sign(Array(input.utf8))))"
            return try AccessToken.verify(text, with: TokenKeys([key]), now: now)
        }
        let early = #"{"sub":"u","exp":1000,"nbf":500}"#
        #expect(try verify(early, now: 495).subject == "u")
        #expect(throws: AccessToken.Fault.notYetValid) { try verify(early, now: 494) }
        for (audience, read) in [
            (#""api""#, "api"), (#"["x","watch"]"#, "watch"), (#"["watch","api"]"#, "api"), (#"["x"]"#, "x"),
            ("[]", ""),
        ] {
            let token = try verify(#"{"sub":"u","exp":1000,"aud":\#(audience)}"#, now: 1)
            #expect(token.audience == read, "\(audience)")
        }
        #expect(try verify(#"{"sub":"u","exp":1000}"#, now: 1).audience == nil)
        for malformed in [#"{"sub":"u"}"#, #"{"exp":1000}"#, #"{"sub":"u","exp":"x"}"#, "[]", "x"] {
            #expect(throws: AccessToken.Fault.malformed, "\(malformed)") { try verify(malformed, now: 1) }
        }
    }

    private func encode(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_")
            .replacing("=", with: "")
    }

    /// RFC 7515, appendix A.1 (HS256) and A.3 (ES256): keys, signing inputs and signatures.
    private static let jwks = #"""
        {"keys":[
        {"kty":"oct","kid":"h","alg":"HS256",
         "k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
        {"kty":"EC","kid":"e","alg":"ES256","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"},
        {"kty":"OKP","kid":"o","alg":"EdDSA","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
        """#

    private func keys(_ json: String) throws -> TokenKeys { try TokenKeys(json: Array(json.utf8)) }

    @Test("HS256 and ES256 are those of RFC 7515, and a JWKS file gives the keys")
    func otherAlgorithms() throws {
        let keys = try keys(Self.jwks).keys
        #expect(
            keys.map(\.algorithm) == [.hs256, .es256, .edDSA] && keys.map(\.isPrivate) == [true, true, false])
        let claims =
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        let cases = [
            (
                keys[0], "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
            ),
            (
                keys[1], "eyJhbGciOiJFUzI1NiJ9",
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
        ]
        for (key, header, signature) in cases {
            let input = Array("\(header).\(claims)".utf8)
            let bytes = try #require(decode(signature))
            #expect(key.verifies(bytes, of: input))
            #expect(
                !key.verifies(bytes, of: input + [0]) && !key.verifies(Array(bytes.dropLast()), of: input))
            #expect(key.verifies(key.sign(input), of: input))
        }
    }

    private func decode(_ text: String) -> [UInt8]? {
        let standard = text.replacing("-", with: "+").replacing("_", with: "/")
        return Data(base64Encoded: standard + String(repeating: "=", count: (4 - standard.count % 4) % 4))
            .map(Array.init)
    }

    @Test("a token with an extension that must be understood is refused, and so is one that is long")
    func criticalExtensions() throws {
        let key = try TokenKey(keyID: "k", secret: [UInt8](repeating: 3, count: 32))
        let claims = Data(#"{"sub":"u","exp":2000}"#.utf8).base64EncodedString().replacing("=", with: "")
        func verify(_ header: String) throws -> AccessToken {
            let head = Data(header.utf8).base64EncodedString().replacing("=", with: "")
            let signature = Data(key.sign(Array("\(head).\(claims)".utf8))).base64EncodedString()
                .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
            return try AccessToken.verify("\(head).\(claims).\(signature)", with: TokenKeys([key]), now: 1)
        }
        #expect(try verify(#"{"alg":"HS256","kid":"k"}"#).subject == "u")
        #expect(throws: AccessToken.Fault.malformed) {
            try verify(#"{"alg":"HS256","kid":"k","crit":["b64"]}"#)
        }
        let filler = String(repeating: "x", count: 600)
        #expect(throws: AccessToken.Fault.malformed) {
            try verify(#"{"alg":"HS256","kid":"k","x":"\#(filler)"}"#)
        }
    }

    @Test("a token's algorithm is its key's: another one in the header is refused, and so is none")
    func confusion() throws {
        let keys = try keys(Self.jwks)
        let token = AccessToken(
            subject: "u", expiresAt: 1_000, audience: "watch", auctions: .listed(["prv_1", "prv_2"]))
        for key in keys.keys where key.isPrivate {
            let text = token.signed(with: key)
            #expect(try AccessToken.verify(text, with: keys, now: 1) == token)
            for algorithm in ["none", "HS256", "ES256", "EdDSA", "hs256"]
            where algorithm != key.algorithm.rawValue {
                let header = Data(#"{"alg":"\#(algorithm)","kid":"\#(key.keyID)"}"#.utf8)
                    .base64EncodedString()
                    .replacing("=", with: "")
                let parts = text.split(separator: ".")
                #expect(throws: AccessToken.Fault.wrongSignature) {
                    try AccessToken.verify("\(header).\(parts[1]).\(parts[2])", with: keys, now: 1)
                }
            }
        }
        let all = AccessToken(subject: "u", expiresAt: 1_000, audience: nil, auctions: .all)
        #expect(try AccessToken.verify(all.signed(with: keys.keys[0]), with: keys, now: 1) == all)
    }

    @Test(
        "a key file that is wrong is refused, with the key named",
        arguments: [
            ("", "not a JWKS"), ("[]", "not a JWKS"), (#"{"keys":[]}"#, "1 to 64"),
            (#"{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"c2hvcnQ"}]}"#, "'a'"),
            (#"{"keys":[{"kty":"RSA","kid":"a","alg":"RS256"}]}"#, "'a'"),
            (#"{"keys":[{"kty":"oct","alg":"HS256","k":"c2hvcnQ"}]}"#, "number 1"),
            (#"{"keys":[{"kty":"OKP","kid":"a","alg":"EdDSA","crv":"Ed25519","x":"AA"}]}"#, "32 bytes"),
            (
                #"{"keys":[{"kty":"EC","kid":"a","alg":"ES256","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#
                    + #""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5b0"}]}"#, "P-256"
            ),
        ])
    func badKeys(_ json: String, _ part: String) {
        let error = #expect(throws: TokenKey.Invalid.self) { try keys(json) }
        #expect(error?.description.contains(part) == true, "\(String(describing: error))")
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
