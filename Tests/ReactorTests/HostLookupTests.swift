import LocalServers
import Reactor
import Testing

@Suite struct HostLookupTests {
    private func answer(_ host: String) throws -> HostLookup.Answer {
        let lookup = HostLookup(SocketAddress(host: host, port: 1))
        var answer = lookup.next()
        try eventually("it is looked up", within: 60) {
            answer = lookup.next()
            return answer != .pending
        }
        return answer
    }

    @Test("an address is known at once, a name soon, and one that nobody knows is a failure")
    func answers() throws {
        let address = HostLookup(SocketAddress(host: "127.0.0.1", port: 1)).next()
        guard case .address = address else { throw Errno(code: 0, call: "\(address)") }
        guard case .address = HostLookup(SocketAddress(host: "::1", port: 1)).next() else {
            throw Errno(code: 0, call: "::1")
        }
        // The name's addresses come in turn.
        let named = try (0..<2).map { _ in try answer("localhost") }
        #expect(named.contains(address) || named.allSatisfy { if case .address = $0 { true } else { false } })
        guard case .failed = try answer("nobody.invalid") else {
            throw Errno(code: 0, call: "nobody.invalid")
        }
    }
}
