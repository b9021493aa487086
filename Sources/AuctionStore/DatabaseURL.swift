// The setting `database-url`, checked as far as can be known without a network. libpq reads it, and its
// messages about a malformed URL may repeat part of a password. Those are never passed on; messages about a
// failed connection are passed on without the password.

import CLibPQ
import Glibc

package enum DatabaseURL {
    private static let choices: [String: [String]] = [
        "sslmode": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        "target_session_attrs": ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"],
        "gssencmode": ["disable", "prefer", "require"], "channel_binding": ["disable", "prefer", "require"],
        "ssl_min_protocol_version": ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"],
        "ssl_max_protocol_version": ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"], "sslcompression": ["0", "1"],
        "sslsni": ["0", "1"], "keepalives": ["0", "1"],
    ]
    private static let numbers = [
        "connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
    ]
    private static let files = ["sslrootcert", "sslcert", "sslkey", "sslcrl"]

    /// Why the setting cannot be used; `nil` when it can. Repeats no part of the setting except the name of a
    /// parameter that libpq knows.
    package static func fault(_ text: String) -> String? {
        guard let values = parse(text) else {
            return """
                is no address such as postgresql://user:password@host:5432/database with parameters of libpq; \
                in a user or password, encode / ? # @ : % as %2F and so on
                """
        }
        let hosts = (values["host"] ?? "").split(separator: ",", omittingEmptySubsequences: false)
        guard hosts.allSatisfy(isHost) else {
            return "has no valid host; percent-encode / ? # @ : % in user and password (%2F for /)"
        }
        let ports = (values["port"] ?? "").split(separator: ",")
        guard ports.allSatisfy({ UInt16($0).map { $0 > 0 } ?? false }) else {
            return "has a port that is not from 1 to 65535"
        }
        guard ports.count <= 1 || ports.count == hosts.count else {
            return "must give one port for all hosts, or one for each host"
        }
        guard !(values["dbname"] ?? "").contains(where: { $0 == "@" || $0 == "/" }) else {
            return "has no valid database name; percent-encode / ? # @ : % in user and password (%2F for /)"
        }
        for (name, allowed) in choices.sorted(by: { $0.key < $1.key }) {
            guard let value = values[name], !value.isEmpty, !allowed.contains(value) else { continue }
            return "\(name) must be one of \(allowed.joined(separator: ", "))"
        }
        for name in numbers {
            if let value = values[name], Int32(value) == nil { return "\(name) must be a whole number" }
        }
        for name in files {
            guard let path = values[name], !path.isEmpty, path != "system", access(path, R_OK) != 0 else {
                continue
            }
            return "\(name) names a file that cannot be read: \(String(cString: strerror(errno)))"
        }
        return nil
    }

    /// The hosts that the connection string names, in its order. Empty when it leaves them to libpq.
    static func places(_ text: String) -> [DatabaseServers.Place] {
        let values = parse(text) ?? [:]
        func list(_ name: String) -> [String] {
            (values[name] ?? "").split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        }
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"))
        let count = max(hosts.count, addresses.count)
        guard values["host"] != nil || values["hostaddr"] != nil else { return [] }
        func value(_ list: [String], _ index: Int) -> String { index < list.count ? list[index] : "" }
        return (0..<count).map { index in
            let port = value(ports, ports.count == 1 ? 0 : index)
            return DatabaseServers.Place(
                host: value(hosts, index), address: value(addresses, index),
                port: port)
        }
    }

    /// `text` without the password that stands in `url`.
    static func redacted(_ text: String, _ url: String) -> String {
        guard let password = parse(url)?["password"], !password.isEmpty else { return text }
        return text.replacing(password, with: "***")
    }

    // SAFETY: the options are libpq's, which are copied from before they are freed here.
    /// What libpq reads; `nil` when it refuses.
    private static func parse(_ text: String) -> [String: String]? {
        var message: UnsafeMutablePointer<CChar>?
        defer { PQfreemem(message) }
        guard let options = PQconninfoParse(text, &message) else { return nil }
        defer { PQconninfoFree(options) }
        var values: [String: String] = [:]
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val {
                values[String(cString: keyword)] = String(cString: value)
            }
            option += 1
        }
        return values
    }

    /// A name, an address, or the folder of a socket.
    private static func isHost(_ text: Substring) -> Bool {
        if text.hasPrefix("/") { return true }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"),
                UInt8(ascii: ":"), UInt8(ascii: "%"):
                true
            default: false
            }
        }
    }
}
