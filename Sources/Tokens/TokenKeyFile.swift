// A new key as the text of JWKS files (RFC 7517): one with the private half, for the bid API, and one
// without, for gateways.

import COpenSSL

package struct TokenKeyFile: Sendable {
    /// Signs and checks. Secret.
    package let privateText: String
    /// Checks only.
    package let publicText: String

    /// Makes an Ed25519 key of fresh random bytes.
    package init(keyID: String) {
        var seed = [UInt8](repeating: 0, count: TokenKey.numberBytes)
        guard RAND_bytes(&seed, Int32(seed.count)) == 1, let key = try? TokenKey(keyID: keyID, seed: seed),
            let publicKey = key.publicBytes
        else { preconditionFailure("OpenSSL has no randomness") }
        let x = Base64URL.encode(publicKey)
        let common = #""kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"\#(keyID)","x":"\#(x)""#
        privateText = #"{"keys":[{\#(common),"d":"\#(Base64URL.encode(seed))"}]}"# + "\n"
        publicText = #"{"keys":[{\#(common)}]}"# + "\n"
    }
}
