import Settings
import Testing
import Wire

@testable import Gateway

@Suite struct PagesTests {
    private func pages(_ arguments: [String] = []) throws -> Pages {
        let reader = SettingsReader(schema: GatewaySettings.schema) { _ in "" }
        guard case .run(let values) = try reader.read(arguments: arguments, environment: [:]) else {
            throw SettingsError.usage("not to be run")
        }
        return Pages(
            configuration: try GatewayConfiguration(values, openFileLimit: 1_024, cores: 2))
    }

    private func get(_ pages: Pages, _ path: String, gzip: Bool = true) throws -> HTTPResponse {
        try #require(pages.page(path, acceptsGzip: gzip, ifNoneMatch: ""), "\(path)")
    }

    private func field(_ name: String, _ response: HTTPResponse) -> String? {
        response.fields.first { $0.name == name }?.value
    }

    /// The addresses that a page's HTML or a module names.
    private func addresses(in response: HTTPResponse, at path: String) -> [String] {
        let text = String(decoding: response.body, as: UTF8.self)
        let folder = path[...(path.lastIndex(of: "/") ?? path.startIndex)]
        return text.matches(of: /(?:href|src)="(\/assets\/[^"]+)"/).map { String($0.1) }
            + text.matches(of: /from '\.\/([\w.]+)'/).map { folder + String($0.1) }
    }

    @Test("the page's files have addresses of their version and are kept; together they are under 60 KB")
    func assets() throws {
        let pages = try pages()
        var known: Set = ["/"]
        var waiting = ["/"]
        var bytes = 0
        while let path = waiting.popLast() {
            let compressed = try get(pages, path)
            bytes += compressed.body.count
            let control = field("Cache-Control", compressed)
            #expect(path == "/" ? control == "no-cache" : control?.hasSuffix("immutable") == true, "\(path)")
            for next in addresses(in: try get(pages, path, gzip: false), at: path)
            where known.insert(next).inserted { waiting.append(next) }
        }
        #expect(known.count == 14, "every module is named by another")
        #expect(bytes < 60_000, "\(bytes)")
    }

    @Test("the client library is at most 9 KB on the wire, for every origin, at an address that stays")
    func library() throws {
        let library = try get(try pages(), "/gavelcast.js")
        #expect(library.body.count <= 9 * 1_024, "\(library.body.count)")
        #expect(field("Access-Control-Allow-Origin", library) == "*")
        #expect(field("Cache-Control", library) == "no-cache" && field("ETag", library) != nil)
    }

    @Test("the page's policy has no wildcards, and all its views are one document")
    func policy() throws {
        let pages = try pages(["--bid-api-url", "https://bids.example"])
        let page = try get(pages, "/")
        let policy = try #require(field("Content-Security-Policy", page))
        #expect(policy.contains("connect-src 'self' https://bids.example;") && !policy.contains("*"))
        #expect(!policy.contains("ws:") && !policy.contains("unsafe"))
        #expect(field("Referrer-Policy", page) == "same-origin")
        for path in ["/a/lot-1", "/wall"] { #expect(try get(pages, path).body == page.body) }
        for path in ["/a/", "/a/x/y", "/walls", "/assets/x/app.js"] where path != "/a/" {
            #expect(pages.page(path, acceptsGzip: true, ifNoneMatch: "") == nil, "\(path)")
        }
    }
}
