// What the bid API's program does beside serving: it makes token keys and tokens. Runs before anything is
// opened, and ends the process.

import AuctionEvents
import Foundation
import Settings
import Tokens

package enum BidAPICommand: String, CaseIterable {
    /// Makes a key file.
    case keys
    /// Makes a token.
    case token

    private var schema: SettingsSchema {
        switch self {
        case .keys:
            SettingsSchema(
                program: "gavelcast-bidapi keys",
                summary: "Makes a new key that signs tokens, and writes it to a file that only you can read.",
                settings: [
                    Setting(
                        "out", .text, default: "token-keys.json", "JWKS file for the bid API; must not exist"),
                    Setting(
                        "public-out", .text, "JWKS file with the public half, for gateways; must not exist"),
                ])
        case .token:
            SettingsSchema(
                program: "gavelcast-bidapi token",
                summary: "Prints a token, signed with the first private key of a file.",
                settings: [
                    Setting("token-keys", .file, "JWKS file with a private key"),
                    Setting("user", .text, "the id of the token's user"),
                    Setting(
                        "audience", .choice(["api", "watch"]), default: "watch",
                        "watch: for watching only; api: also for the bid API"),
                    Setting("auctions", .list, "private auctions that the token opens; * means all"),
                    Setting(
                        "seconds", .number(1...31_536_000), default: "3600", "how long the token is valid"),
                ])
        }
    }

    /// - Parameter arguments: the command line behind the command.
    package func run(_ arguments: [String]) -> Never {
        let text = ProgramEntry.configure(schema, arguments: arguments) { values throws(SettingsError) in
            switch self {
            case .keys: try Self.makeKeys(values)
            case .token: try Self.makeToken(values)
            }
        }
        print(text)
        exit(0)
    }

    private static func makeKeys(_ values: SettingsValues) throws(SettingsError) -> String {
        let file = TokenKeyFile(keyID: AuctionID.random(prefix: "key_").text)
        let (path, publicPath) = (values.text("out"), values.text("public-out"))
        try write(file.privateText, to: path, "out", mode: 0o600)
        if !publicPath.isEmpty { try write(file.publicText, to: publicPath, "public-out", mode: 0o644) }
        return "wrote \(path)" + (publicPath.isEmpty ? "" : " and \(publicPath)")
    }

    private static func write(
        _ text: String, to path: String, _ setting: String, mode: mode_t
    ) throws(SettingsError) {
        // An existing file may be the only copy of a key.
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, mode)
        guard descriptor >= 0 else {
            throw .configuration("\(setting): cannot create '\(path)': \(String(cString: strerror(errno)))")
        }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        do {
            try file.write(contentsOf: Data(text.utf8))
        } catch {
            throw .configuration("\(setting): cannot write '\(path)'")
        }
    }

    private static func makeToken(_ values: SettingsValues) throws(SettingsError) -> String {
        let (path, user) = (values.text("token-keys"), values.text("user"))
        guard !path.isEmpty else { throw .usage("--token-keys: names the file with the key; it is missing") }
        guard !user.isEmpty else { throw .usage("--user: names the token's user; it is missing") }
        let key: TokenKey?
        do throws(TokenKey.Invalid) {
            key = try TokenKeys(path: path).signing
        } catch {
            throw .configuration("token-keys: \(path) \(error)")
        }
        guard let key else { throw .configuration("token-keys: \(path) has no private key to sign with") }
        let ids = values.list("auctions")
        for id in ids where id != "*" && AuctionID(id) == nil {
            throw .usage("--auctions: '\(id)' is no auction's id")
        }
        let auctions: AccessToken.Auctions =
            ids.isEmpty ? .none : ids.contains("*") ? .all : .listed(Set(ids))
        let token = AccessToken(
            subject: user, expiresAt: Int(Date.now.timeIntervalSince1970) + values.number("seconds"),
            audience: values.text("audience"), auctions: auctions)
        return token.signed(with: key)
    }
}
