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

    private let pages: [String: Page]

    init(configuration: GatewayConfiguration) {
        let bidAPI = configuration.bidAPIURL
        // Scripts and styles come from here only; the page talks to this gateway and to the bid API.
        let policy =
            "default-src 'self'; connect-src 'self' ws: wss: \(bidAPI); img-src 'self' data: https:; "
            + "frame-ancestors 'none'; base-uri 'none'"
        func page(_ type: String, _ body: [UInt8], _ fields: HTTPFields = []) -> Page {
            Page(
                type: "\(type); charset=utf-8", fields: fields, plain: body, gzipped: Gzip.compress(body),
                tag: Self.digest(body))
        }
        let quoted = bidAPI.replacing("\\", with: "").replacing("\"", with: "")
        pages = [
            "/": page("text/html", PackageResources.index_html, [("Content-Security-Policy", policy)]),
            "/viewer.js": page("text/javascript", PackageResources.viewer_js),
            "/format.js": page("text/javascript", PackageResources.format_js),
            "/gavelcast.js": page(
                "text/javascript", PackageResources.gavelcast_js, [("Access-Control-Allow-Origin", "*")]),
            "/style.css": page("text/css", PackageResources.style_css),
            "/config.json": page("application/json", Array(#"{"bid_api_url":"\#(quoted)"}"#.utf8)),
        ]
    }

    /// The answer to a request for `path`; `nil` when there is no such page.
    /// - Parameter ifNoneMatch: the request's field; empty without one.
    func page(_ path: String, acceptsGzip: Bool, ifNoneMatch: String) -> HTTPResponse? {
        guard let page = pages[path] else { return nil }
        // A file that compression does not make smaller is sent plain.
        let isGzipped = acceptsGzip && page.gzipped.count < page.plain.count
        let tag = isGzipped ? "\"\(page.tag)-gzip\"" : "\"\(page.tag)\""
        let fields: HTTPFields =
            [
                ("ETag", tag), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding"),
                ("X-Content-Type-Options", "nosniff"),
            ] + page.fields
        guard !Self.matches(ifNoneMatch, tag) else { return HTTPResponse(.notModified, fields: fields) }
        let encoding: HTTPFields = isGzipped ? [("Content-Encoding", "gzip")] : []
        return HTTPResponse(
            .ok, fields: [("Content-Type", page.type)] + fields + encoding,
            body: isGzipped ? page.gzipped : page.plain)
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
