// The setting `redis-url`: where Redis is, and how to sign in. User and password are percent-encoded
// (RFC 3986).
//
//     redis://[[user]:password@]host[:port][/database]              one server
//     rediss://…[?ca=FILE]                                           the same with TLS
//     unix://[[user]:password@]/path[?database=N]                    one server on a Unix socket
//     redis+sentinel://[[user]:password@]host[:port],…/master[/database]
//                     [?sentinel_user=…&sentinel_password=…]         the master that Sentinels name
//     redis+cluster://[[user]:password@]host[:port],…                any of the cluster's nodes
//
// `rediss+sentinel` and `rediss+cluster` speak TLS to every server, Sentinels included. `ca` names a PEM file
// of authorities to trust in place of the system's.

package import Reactor
import TransportSecurity
import Wire

package struct RedisURL: Sendable {
    /// Where Redis is.
    package enum Place: Sendable {
        case server(SocketAddress)
        /// Sentinels that know where the master called `master` is, at least one.
        case sentinels([SocketAddress], master: String, access: RedisAccess)
        /// Some nodes of a cluster, at least one.
        case cluster([SocketAddress])
    }

    package let place: Place
    /// How to sign in to Redis.
    package let access: RedisAccess

    package struct Invalid: Error, CustomStringConvertible {
        package let description: String
    }

    /// Reads the setting. The error says what is wrong but repeats no part of the text: a password that is
    /// not percent-encoded may look like any other part.
    package init(text: String) throws(Invalid) {
        let parts = try URLParts(text)
        let (user, password) = try parts.credentials()
        var database = 0
        switch parts.scheme.kind {
        case .server:
            place = .server(try parts.address(defaultPort: 6_379))
            database = try URLParts.database(parts.path.dropFirst())
            try parts.requireParameters([])
        case .socket:
            guard parts.hosts.isEmpty else {
                throw Invalid(description: "has a host; write unix:///path of the socket")
            }
            guard let path = PercentEncoding.decoded(parts.path.utf8), let address = SocketAddress(path: path)
            else { throw Invalid(description: "has no path of a socket, or one that is too long") }
            place = .server(address)
            try parts.requireParameters(["database"])
            database = try URLParts.database(parts.parameters["database", default: ""][...])
        case .sentinels:
            let path = parts.path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
            guard let name = path.first, !name.isEmpty, path.count <= 2,
                let master = PercentEncoding.decoded(name.utf8)
            else { throw Invalid(description: "must name the master after the Sentinels: …:26379/mymaster") }
            try parts.requireParameters(["sentinel_user", "sentinel_password"])
            let sentinels = try parts.addresses(defaultPort: 26_379)
            if path.count == 2 { database = try URLParts.database(path[1]) }
            let own = parts.parameters["sentinel_password"]
            if own == nil, parts.parameters["sentinel_user"] != nil {
                throw Invalid(description: "has sentinel_user without sentinel_password")
            }
            let sentinelAccess = RedisAccess(
                user: own == nil ? user : parts.parameters["sentinel_user"], password: own ?? password,
                database: 0, tls: try parts.tls(), isOptional: own == nil)
            place = .sentinels(sentinels, master: master, access: sentinelAccess)
        case .cluster:
            guard parts.path.isEmpty || parts.path == "/" else {
                throw Invalid(description: "names a database; a cluster has only one")
            }
            try parts.requireParameters([])
            place = .cluster(try parts.addresses(defaultPort: 6_379))
        }
        access = RedisAccess(user: user, password: password, database: database, tls: try parts.tls())
    }

    /// Reads the addresses of a setting. In an environment variable, commas separate both the addresses and
    /// the hosts of one address. So a part without `://` belongs to the address before it.
    /// - Throws: a message that says which address is wrong when there are several.
    package static func all(_ texts: [String]) throws(Invalid) -> [RedisURL] {
        var whole: [String] = []
        for text in texts {
            if let last = whole.indices.last, Self.mayGoOn(whole[last]), !text.contains("://") {
                whole[last] += "," + text
            } else {
                whole.append(text)
            }
        }
        var urls: [RedisURL] = []
        for (index, text) in whole.enumerated() {
            do throws(Invalid) {
                urls.append(try RedisURL(text: text))
            } catch {
                let place = whole.count == 1 ? "the address" : "address \(index + 1)"
                throw Invalid(description: "\(place) \(error)")
            }
        }
        if let fault = fault(urls) { throw Invalid(description: fault) }
        return urls
    }

    /// True for an address that may have more hosts than it shows: of Sentinels or a cluster, without a path
    /// yet.
    private static func mayGoOn(_ text: String) -> Bool {
        guard let separator = text.firstRange(of: "://") else { return false }
        let scheme = text[..<separator.lowerBound]
        return (scheme.hasSuffix("+sentinel") || scheme.hasSuffix("+cluster"))
            && !text[separator.upperBound...].contains("/")
    }

    /// Why these addresses cannot be used together; `nil` when they can.
    package static func fault(_ urls: [RedisURL]) -> String? {
        guard !urls.isEmpty else { return "at least one server is needed" }
        guard urls.count > 1 else { return nil }
        let areServers = urls.allSatisfy { if case .server = $0.place { true } else { false } }
        return areServers
            ? nil : "a redis+sentinel or redis+cluster address must be the only one: list all hosts in it"
    }
}

/// How to sign in to a Redis server.
package struct RedisAccess: Sendable {
    package let user: String?
    package let password: String?
    package let database: Int
    /// The authorities to trust, with TLS; `nil` without TLS.
    let tls: TLSClientContext?
    /// True when a server that wants no password is welcome too.
    let isOptional: Bool

    init(user: String?, password: String?, database: Int, tls: TLSClientContext?, isOptional: Bool = false) {
        self.user = user
        self.password = password
        self.database = database
        self.tls = tls
        self.isOptional = isOptional
    }

    /// The commands that a new connection sends first.
    var greeting: [[String]] {
        var commands: [[String]] = []
        // A Sentinel may know Redis' password without its user. The second attempt counts if it succeeds.
        if let password, isOptional, user != nil { commands.append(["AUTH", password]) }
        if let password { commands.append(["AUTH"] + (user.map { [$0] } ?? []) + [password]) }
        if database != 0 { commands.append(["SELECT", "\(database)"]) }
        return commands
    }
}

/// The parts of a `redis-url`, still encoded.
private struct URLParts {
    enum Kind { case server, socket, sentinels, cluster }

    static let schemes: [Substring: (kind: Kind, isSecure: Bool)] = [
        "redis": (.server, false), "rediss": (.server, true), "unix": (.socket, false),
        "redis+sentinel": (.sentinels, false), "rediss+sentinel": (.sentinels, true),
        "redis+cluster": (.cluster, false), "rediss+cluster": (.cluster, true),
    ]

    let scheme: (kind: Kind, isSecure: Bool)
    private let userInformation: Substring?
    let hosts: Substring
    /// With its `/`, if there is one.
    let path: Substring
    /// Decoded, by name.
    let parameters: [String: String]

    private static let encodingHint =
        "percent-encode / ? # @ : % in user and password (%2F for /)"

    init(_ text: String) throws(RedisURL.Invalid) {
        guard let separator = text.firstRange(of: "://"),
            let scheme = Self.schemes[text[..<separator.lowerBound]]
        else {
            throw RedisURL.Invalid(
                description:
                    "begins with none of redis://, rediss://, unix://, redis+sentinel:// and redis+cluster://"
            )
        }
        self.scheme = scheme
        let rest = text[separator.upperBound...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let tail = rest.dropFirst(authority.count)
        path = tail.prefix { $0 != "?" && $0 != "#" }
        let at = authority.lastIndex(of: "@")
        userInformation = at.map { authority[..<$0] }
        hosts = at.map { authority[authority.index(after: $0)...] } ?? authority
        // An unencoded `/`, `?` or `#` in the user or password ended the authority before its `@`.
        let unencoded = RedisURL.Invalid(description: "cannot be read: \(Self.encodingHint)")
        guard scheme.kind == .socket || !path.contains("@") else { throw unencoded }
        do throws(RedisURL.Invalid) {
            parameters = try Self.parameters(tail.dropFirst(path.count))
        } catch {
            throw at == nil && tail.contains("@") ? unencoded : error
        }
    }

    /// - Parameter query: with its `?`, if there is one.
    private static func parameters(_ query: Substring) throws(RedisURL.Invalid) -> [String: String] {
        guard !query.isEmpty else { return [:] }
        var parameters: [String: String] = [:]
        for pair in query.dropFirst().split(separator: "&", omittingEmptySubsequences: false) {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard query.first == "?", parts.count == 2, !parts[1].isEmpty,
                let value = PercentEncoding.decoded(parts[1].utf8),
                parameters.updateValue(value, forKey: String(parts[0])) == nil
            else { throw RedisURL.Invalid(description: "has parameters that are not name=value, each once") }
        }
        return parameters
    }

    /// Throws when there is a parameter that the scheme does not take.
    func requireParameters(_ names: [String]) throws(RedisURL.Invalid) {
        let known = names + (scheme.isSecure ? ["ca"] : [])
        guard parameters.keys.allSatisfy(known.contains) else {
            throw RedisURL.Invalid(
                description: known.isEmpty
                    ? "takes no parameter (ca=FILE needs TLS)"
                    : "has a parameter other than \(known.joined(separator: ", "))")
        }
    }

    func credentials() throws(RedisURL.Invalid) -> (user: String?, password: String?) {
        guard let userInformation else { return (nil, nil) }
        let parts = userInformation.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw RedisURL.Invalid(description: "has credentials without ':'") }
        guard let user = PercentEncoding.decoded(parts[0].utf8),
            let password = PercentEncoding.decoded(parts[1].utf8)
        else {
            throw RedisURL.Invalid(
                description: "has a '%' in its credentials that is no percent-encoding; write %25")
        }
        return (user.isEmpty ? nil : user, password)
    }

    func address(defaultPort: UInt16) throws(RedisURL.Invalid) -> SocketAddress {
        let all = try addresses(defaultPort: defaultPort)
        guard all.count == 1 else {
            throw RedisURL.Invalid(description: "has several hosts; write one address for each server")
        }
        return all[0]
    }

    /// At least one.
    func addresses(defaultPort: UInt16) throws(RedisURL.Invalid) -> [SocketAddress] {
        let places = hosts.split(separator: ",", omittingEmptySubsequences: false)
        let addresses = places.compactMap { place -> SocketAddress? in
            let hasPort = place.last != "]" && place.contains(":")
            let text = hasPort ? String(place) : "\(place):\(defaultPort)"
            guard !place.isEmpty, let address = SocketAddress(text: text), address.path == nil,
                address.port > 0, address.host != "*", !address.host.contains(where: \.isWhitespace)
            else { return nil }
            return address
        }
        guard addresses.count == places.count else {
            throw RedisURL.Invalid(
                description: "has no valid host and port; \(Self.encodingHint)")
        }
        return addresses
    }

    static func database(_ text: Substring) throws(RedisURL.Invalid) -> Int {
        guard !text.isEmpty else { return 0 }
        guard text.utf8.count <= 5, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(text)
        else { throw RedisURL.Invalid(description: "has a database that is no number") }
        return number
    }

    func tls() throws(RedisURL.Invalid) -> TLSClientContext? {
        guard scheme.isSecure else { return nil }
        do throws(TLSError) {
            return try TLSClientContext(authorities: parameters["ca"])
        } catch {
            throw RedisURL.Invalid(description: "cannot be used with TLS: \(error)")
        }
    }
}
