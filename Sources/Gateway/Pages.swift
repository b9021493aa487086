// The viewer page and the client library, built into the program so that one file is all there is to deploy.

import Wire

struct Pages: Sendable {
    private let pages: [String: HTTPResponse]

    init(configuration: GatewayConfiguration) {
        let bidAPI = configuration.bidAPIURL
        // Scripts and styles come from here only; the page talks to this gateway and to the bid API.
        let policy =
            "default-src 'self'; connect-src 'self' ws: wss: \(bidAPI); img-src 'self' data: https:; "
            + "frame-ancestors 'none'; base-uri 'none'"
        func page(_ type: String, _ body: [UInt8], _ fields: HTTPFields = [])
            -> HTTPResponse
        {
            HTTPResponse(
                .ok,
                fields: [
                    ("Content-Type", "\(type); charset=utf-8"), ("Cache-Control", "no-cache"),
                    ("X-Content-Type-Options", "nosniff"),
                ] + fields, body: body)
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

    func page(_ path: String) -> HTTPResponse? { pages[path] }
}
