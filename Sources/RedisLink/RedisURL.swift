// The setting `redis-url`: `redis://[[user]:password@]host[:port][/database]`, or the same with `rediss://`
// for TLS, where `?ca=FILE` names a PEM file of authorities to trust in place of the system's. User and
// password are percent-encoded (RFC 3986).

package import Reactor
import TransportSecurity
import Wire

package struct RedisURL: Sendable {
    package let host: String
    package let port: UInt16
    package let user: String?
    package let password: String?
    package let database: Int
    /// The authorities to trust, with TLS; `nil` without TLS.
    let tls: TLSClientContext?

    package struct Invalid: Error, CustomStringConvertible {
        package let description: String
    }

    /// Reads the setting. The error says what is wrong but repeats no part of the text: a password that is
    /// not percent-encoded may look like any other part.
    package init(text: String) throws(Invalid) {
        guard let separator = text.firstRange(of: "://") else {
            throw Invalid(description: "does not begin with redis:// or rediss://")
        }
        let scheme = text[..<separator.lowerBound]
        guard scheme == "redis" || scheme == "rediss" else {
            throw Invalid(description: "begins with neither redis:// nor rediss://")
        }
        let rest = text[separator.upperBound...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let tail = rest.dropFirst(authority.count)
        let path = tail.prefix { $0 != "?" && $0 != "#" }
        let query = tail.dropFirst(path.count)
        (user, password) = try Self.credentials(authority)
        let place = authority[
            (authority.lastIndex(of: "@").map(authority.index(after:)) ?? authority.startIndex)...]
        let hasPort = place.last != "]" && place.contains(":")
        guard !place.isEmpty, let address = SocketAddress(text: hasPort ? String(place) : "\(place):6379"),
            address.port > 0, address.host != "*", !address.host.contains(where: \.isWhitespace)
        else {
            throw Invalid(
                description:
                    "has no valid host and port; percent-encode / ? # @ : % in user and password (%2F for /)")
        }
        host = address.host
        port = address.port
        database = try Self.database(path)
        let authorities = try Self.authorities(query, isSecure: scheme == "rediss")
        do throws(TLSError) {
            tls = scheme == "rediss" ? try TLSClientContext(authorities: authorities) : nil
        } catch {
            throw Invalid(description: "cannot be used with TLS: \(error)")
        }
    }

    private static func credentials(
        _ authority: Substring
    ) throws(Invalid) -> (user: String?, password: String?) {
        guard let at = authority.lastIndex(of: "@") else { return (nil, nil) }
        let parts = authority[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw Invalid(description: "has credentials without ':'") }
        guard let user = PercentEncoding.decoded(parts[0].utf8),
            let password = PercentEncoding.decoded(parts[1].utf8)
        else {
            throw Invalid(description: "has a '%' in its credentials that is no percent-encoding; write %25")
        }
        return (user.isEmpty ? nil : user, password)
    }

    private static func database(_ path: Substring) throws(Invalid) -> Int {
        let text = path.dropFirst()
        guard !text.isEmpty else { return 0 }
        guard text.utf8.count <= 5, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(text)
        else { throw Invalid(description: "has a database that is no number") }
        return number
    }

    /// - Parameter query: with its `?`, if there is one.
    private static func authorities(_ query: Substring, isSecure: Bool) throws(Invalid) -> String? {
        guard !query.isEmpty else { return nil }
        let prefix = "?ca="
        guard isSecure, query.hasPrefix(prefix), !query.contains("&"), query.count > prefix.count,
            let file = PercentEncoding.decoded(query.dropFirst(prefix.count).utf8)
        else {
            throw Invalid(
                description: "has an invalid parameter; only ca=FILE is allowed, and only with rediss://")
        }
        return file
    }

    package var address: SocketAddress { SocketAddress(host: host, port: port) }

    /// The commands that a new connection sends first.
    var greeting: [[String]] {
        var commands: [[String]] = []
        if let password { commands.append(["AUTH"] + (user.map { [$0] } ?? []) + [password]) }
        if database != 0 { commands.append(["SELECT", "\(database)"]) }
        return commands
    }
}
