// The viewer page and the client library, built into the program so that one file is all there is to deploy.

import COpenSSL
import Compression
import Wire

struct Pages: Sendable {
    /// One address in its two forms.
    private struct Page: Sendable {
        let type: String
        let fields: HTTPFields
        let plain: [UInt8]
        let gzipped: [UInt8]
        /// The entity tag of the plain form. The compressed form has another.
        let tag: String
    }

    /// The page's own files, by name. Their addresses name the version, so browsers may cache them for
    /// good.
    private static let assets: [(name: String, type: String, content: [UInt8])] = [
        ("style.css", "text/css", PackageResources.style_css),
        ("gavelcast.js", "text/javascript", ScriptCompaction.compact(PackageResources.gavelcast_js)),
        ("api.js", "text/javascript", ScriptCompaction.compact(PackageResources.api_js)),
        ("app.js", "text/javascript", ScriptCompaction.compact(PackageResources.app_js)),
        ("bidding.js", "text/javascript", ScriptCompaction.compact(PackageResources.bidding_js)),
        ("dialogs.js", "text/javascript", ScriptCompaction.compact(PackageResources.dialogs_js)),
        ("list.js", "text/javascript", ScriptCompaction.compact(PackageResources.list_js)),
        ("lots.js", "text/javascript", ScriptCompaction.compact(PackageResources.lots_js)),
        ("money.js", "text/javascript", ScriptCompaction.compact(PackageResources.money_js)),
        ("pictures.js", "text/javascript", ScriptCompaction.compact(PackageResources.pictures_js)),
        ("room.js", "text/javascript", ScriptCompaction.compact(PackageResources.room_js)),
        ("speech.js", "text/javascript", ScriptCompaction.compact(PackageResources.speech_js)),
        ("wall.js", "text/javascript", ScriptCompaction.compact(PackageResources.wall_js)),
    ]

    private let pages: [String: Page]

    init(configuration: GatewayConfiguration) {
        let version = Self.digest(Self.assets.flatMap(\.content))
        let folder = "/assets/\(version)"
        let index = String(decoding: PackageResources.index_html, as: UTF8.self)
            .replacing("ASSETS", with: folder)
        let bidAPI = configuration.bidAPIURL
        let quoted = bidAPI.replacing("\\", with: "").replacing("\"", with: "")
        let anyOrigin: HTTPFields = [("Access-Control-Allow-Origin", "*")]
        let library = ScriptCompaction.compact(PackageResources.gavelcast_js)
        var pages = [
            "/": Self.page(
                "text/html", Array(index.utf8),
                [
                    ("Content-Security-Policy", Self.policy(bidAPI: bidAPI)),
                    ("Referrer-Policy", "same-origin"),
                ]),
            "/gavelcast.js": Self.page("text/javascript", library, anyOrigin),
            "/gavelcast.d.ts": Self.page(
                "application/typescript", PackageResources.gavelcast_d_ts, anyOrigin),
            "/config.json": Self.page("application/json", Array(#"{"bid_api_url":"\#(quoted)"}"#.utf8)),
        ]
        for asset in Self.assets {
            pages["\(folder)/\(asset.name)"] = Self.page(asset.type, asset.content, isImmutable: true)
        }
        self.pages = pages
    }

    /// Scripts and styles come from here only. The page talks to this gateway and to the bid API. A lot's
    /// pictures may come from any https address.
    private static func policy(bidAPI: String) -> String {
        "default-src 'self'; connect-src 'self' \(bidAPI); img-src 'self' data: https:; "
            + "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    }

    private static func page(
        _ type: String, _ body: [UInt8], _ fields: HTTPFields = [], isImmutable: Bool = false
    ) -> Page {
        Page(
            type: "\(type); charset=utf-8",
            fields: [("Cache-Control", isImmutable ? "public, max-age=31536000, immutable" : "no-cache")]
                + fields,
            plain: body, gzipped: Gzip.compress(body), tag: digest(body))
    }

    /// The answer to a request for `path`; `nil` when there is no such page.
    /// - Parameter ifNoneMatch: the request's field; empty without one.
    func page(_ path: String, acceptsGzip: Bool, ifNoneMatch: String) -> HTTPResponse? {
        guard let page = pages[Self.isView(path) ? "/" : path] else { return nil }
        // A file that compression does not make smaller is sent plain.
        let isGzipped = acceptsGzip && page.gzipped.count < page.plain.count
        let tag = isGzipped ? "\"\(page.tag)-gzip\"" : "\"\(page.tag)\""
        let fields: HTTPFields =
            [("ETag", tag), ("Vary", "Accept-Encoding"), ("X-Content-Type-Options", "nosniff")] + page.fields
        guard !Self.matches(ifNoneMatch, tag) else { return HTTPResponse(.notModified, fields: fields) }
        let encoding: HTTPFields = isGzipped ? [("Content-Encoding", "gzip")] : []
        return HTTPResponse(
            .ok, fields: [("Content-Type", page.type)] + fields + encoding,
            body: isGzipped ? page.gzipped : page.plain)
    }

    /// True for the addresses that the page itself tells apart: `/a/<id>` and `/wall`.
    private static func isView(_ path: String) -> Bool {
        path == "/wall" || path.hasPrefix("/a/") && !path.dropFirst(3).contains("/")
    }

    /// True when a list of entity tags names `tag`, by the weak comparison (RFC 9110, 13.1.2).
    private static func matches(_ list: String, _ tag: String) -> Bool {
        list.split(separator: ",").contains { element in
            let text = element.drop { $0 == " " || $0 == "\t" }.prefix { $0 != " " && $0 != "\t" }
            return text == "*" || text == tag || text == "W/" + tag
        }
    }

    private static func digest(_ content: [UInt8]) -> String {
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        SHA256(content, content.count, &digest)
        return digest[..<12].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
