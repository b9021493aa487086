import Foundation
import LoadClient
import LocalServers
import Testing

extension EndToEndTests {
    /// `gavelcast-bidapi keys` and `gavelcast-bidapi token`.
    @Suite(.serialized) struct TokenCommands {
        private func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
            let process = try ChildProcess("bidapi", [Programs.path("gavelcast-bidapi")] + arguments)
            let status = process.waitForExit()
            return (status, process.log.trimmingCharacters(in: .whitespacesAndNewlines))
        }

        @Test("keys and a token made on the command line open a private auction; no file is overwritten")
        func commands() throws {
            let folder = Guardian.shared.folder + "/keys-\(UUID().uuidString.prefix(8))"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let (keys, publicKeys) = ("\(folder)/keys.json", "\(folder)/public.json")
            let make = ["keys", "--out", keys, "--public-out", publicKeys]
            #expect(try run(make).status == 0)
            let rights = try FileManager.default.attributesOfItem(atPath: keys)[.posixPermissions] as? Int
            #expect(rights == 0o600)
            let written = try String(contentsOfFile: keys, encoding: .utf8)
            let again = try run(make)
            #expect(again.status == 78 && again.output.contains("File exists"), "\(again)")
            #expect(try String(contentsOfFile: keys, encoding: .utf8) == written)
            #expect(try !String(contentsOfFile: publicKeys, encoding: .utf8).contains(#""d""#))

            let redis = try RedisServer()
            let gateway = try GatewayProcess(redis: [redis.url], arguments: ["--token-keys", publicKeys])
            let token = try run(["token", "--token-keys", keys, "--user", "u1", "--auctions", "prv_a1"])
            #expect(token.status == 0)
            let path = "/v1/auctions/prv_a1/live"
            #expect(try gateway.get(path).status == 401)
            #expect(try gateway.get("\(path)?token=\(token.output)").status == 200)
            #expect(try gateway.get("/v1/auctions/prv_a2/live?token=\(token.output)").status == 403)
        }

        @Test(
            "what a command lacks is one line",
            arguments: [
                (["token"], 64, "--token-keys"), (["token", "--token-keys", #filePath], 64, "--user"),
                (["token", "--token-keys", #filePath, "--user", "u"], 78, "is not a JWKS"),
                (["keys", "--out", "/nowhere/keys.json"], 78, "cannot create"),
                (["keys", "out"], 64, "--help"),
            ])
        func refusals(arguments: [String], status: Int32, words: String) throws {
            let (found, output) = try run(arguments)
            #expect(found == status && output.contains(words), "\(output)")
            #expect(!output.contains("\n"))
        }
    }
}
