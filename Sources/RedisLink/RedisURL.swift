// The setting `redis-url`: `redis://[[user]:password@]host[:port][/database]`, or the same with `rediss://`
// for TLS, where `?ca=FILE` names a PEM file of authorities to trust in place of the system's.

package import Reactor
import TransportSecurity

package struct RedisURL: Sendable {
    package let host: String
    package let port: UInt16
    package let user: String?
    package let password: String?
    package let database: Int
    /// Whom to trust, with TLS; `nil` without.
    let tls: TLSClientContext?

    package struct Invalid: Error, CustomStringConvertible {
        package let description: String
    }

    /// Reads the setting; the error says what is wrong with it, without the password.
    package init(text: String) throws(Invalid) {
        guard let separator = text.firstRange(of: "://") else {
            throw Invalid(description: "is no redis:// address")
        }
        let scheme = text[..<separator.lowerBound]
        guard scheme == "redis" || scheme == "rediss" else {
            throw Invalid(description: "has scheme '\(scheme)'; redis:// and rediss:// are supported")
        }
        var rest = text[separator.upperBound...]
        var authorities: String?
        if let question = rest.lastIndex(of: "?") {
            let parameter = rest[rest.index(after: question)...]
            guard scheme == "rediss", parameter.hasPrefix("ca="), parameter.count > 3 else {
                throw Invalid(description: "has a parameter that is not ca=FILE, of rediss:// alone")
            }
            authorities = String(parameter.dropFirst(3))
            rest = rest[..<question]
        }
        var user: String?
        var password: String?
        if let at = rest.lastIndex(of: "@") {
            let credentials = rest[..<at].split(
                separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard credentials.count == 2 else { throw Invalid(description: "has credentials without ':'") }
            user = credentials[0].isEmpty ? nil : String(credentials[0])
            password = String(credentials[1])
            rest = rest[rest.index(after: at)...]
        }
        var database = 0
        if let slash = rest.firstIndex(of: "/") {
            let text = rest[rest.index(after: slash)...]
            guard text.isEmpty || Int(text).map({ $0 >= 0 }) == true else {
                throw Invalid(description: "has database '\(text)', which is no number")
            }
            database = Int(text) ?? 0
            rest = rest[..<slash]
        }
        let hasPort = rest.last != "]" && rest.contains(":")
        guard !rest.isEmpty, let address = SocketAddress(text: hasPort ? String(rest) : "\(rest):6379") else {
            throw Invalid(description: "has no valid host and port")
        }
        host = address.host
        port = address.port
        self.user = user
        self.password = password
        self.database = database
        do throws(TLSError) {
            tls = scheme == "rediss" ? try TLSClientContext(authorities: authorities) : nil
        } catch {
            throw Invalid(description: error.description)
        }
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
