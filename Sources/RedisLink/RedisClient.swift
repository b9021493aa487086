// A blocking client for threads that do one thing, such as the bid API's relay. Each call
// has a time-out; after a failure the client is closed and the caller makes a new one.

import CLinux
import Glibc
import Reactor
import TransportSecurity

package final class RedisClient {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
        package init(description: String) { self.description = description }
    }

    private let descriptor: Int32
    /// The server's address, as this connection has it.
    private let address: ResolvedAddress
    private let endpoint: RedisEndpoint
    private let codec = RedisCodec()
    private let timeoutMilliseconds: Int32
    private var session: TLSSession?

    /// How quickly a waiting call notices that the server is no longer the right one.
    private static let noticeMilliseconds: Int32 = 50

    /// Connects and greets.
    /// - Parameters:
    ///   - timeoutMilliseconds: for connecting, and then for each call.
    ///   - skippedAddresses: how many of a name's several addresses are tried after the others. A caller that
    ///     found a server of no use counts this up.
    package init(
        endpoint: RedisEndpoint, timeoutMilliseconds: Int32 = 2_000, skippedAddresses: Int = 0
    ) throws(Failure) {
        self.timeoutMilliseconds = timeoutMilliseconds
        self.endpoint = endpoint
        (descriptor, address) = try Self.connect(to: endpoint, timeoutMilliseconds, skippedAddresses)
        if let tls = endpoint.access.tls { try secure(tls) }
        for command in endpoint.access.greeting {
            let reply = try pipeline([command])[0]
            guard let refusal = reply.refusal else { continue }
            guard endpoint.access.isOptional else { throw Failure(description: refusal.description) }
        }
    }

    /// Connects to the one server that `url` names.
    package convenience init(url: RedisURL, timeoutMilliseconds: Int32 = 2_000) throws(Failure) {
        guard case .server(let address) = url.place else {
            throw Failure(description: "needs the address of a single Redis server")
        }
        try self.init(
            endpoint: RedisEndpoint(address, access: url.access), timeoutMilliseconds: timeoutMilliseconds)
    }

    deinit {
        session?.free()
        close(descriptor)
    }

    /// True when another server is the right one now, so that this connection is of no use.
    package var isObsolete: Bool { endpoint.hasLeft(address) }

    /// Connects to the first of the server's addresses that answers.
    private static func connect(
        to endpoint: RedisEndpoint, _ timeoutMilliseconds: Int32, _ skippedAddresses: Int
    ) throws(Failure) -> (Int32, ResolvedAddress) {
        let addresses = try endpoint.addresses(within: timeoutMilliseconds)
        var last = Errno(code: EADDRNOTAVAIL, call: "connect to \(endpoint.label)")
        let skipped = skippedAddresses % addresses.count
        for address in addresses[skipped...] + addresses[..<skipped] {
            do throws(Errno) {
                let descriptor = try Sockets.connect(to: address)
                var code = ETIMEDOUT
                if Self.isReady(
                    descriptor, POLLOUT, timeoutMilliseconds, until: { endpoint.hasLeft(address) })
                {
                    code = Sockets.pendingError(descriptor)
                }
                if code == 0 { return (descriptor, address) }
                Sockets.close(descriptor)
                last = Errno(code: code, call: "connect to \(endpoint.label)")
            } catch {
                last = error
            }
        }
        throw Failure(description: "\(last)")
    }

    private func secure(_ tls: TLSClientContext) throws(Failure) {
        guard let session = TLSSession(tls, host: endpoint.tlsHost, descriptor: descriptor) else {
            throw Failure(description: "TLS: no memory")
        }
        self.session = session
        let fault = try session.completeHandshake { (forWriting) throws(Failure) in
            try wait(forWriting ? POLLOUT : POLLIN)
        }
        if let fault { throw Failure(description: "TLS with \(endpoint.label): \(fault)") }
    }

    package func call(_ arguments: String...) throws(Failure) -> RedisReply {
        try pipeline([arguments.map { Array($0.utf8) }])[0]
    }

    package func call(_ arguments: [[UInt8]]) throws(Failure) -> RedisReply {
        try pipeline([arguments])[0]
    }

    /// Sends all commands, then reads their replies in the same order.
    package func pipeline(_ commands: [[[UInt8]]]) throws(Failure) -> [RedisReply] {
        try send(commands)
        var replies: [RedisReply] = []
        while replies.count < commands.count { replies.append(try receive()) }
        return replies
    }

    package func pipeline(_ commands: [[String]]) throws(Failure) -> [RedisReply] {
        try pipeline(commands.map { $0.map { Array($0.utf8) } })
    }

    /// Sends commands whose replies the caller receives.
    func send(_ commands: [[String]]) throws(Failure) {
        try send(commands.map { $0.map { Array($0.utf8) } })
    }

    private func send(_ commands: [[[UInt8]]]) throws(Failure) {
        var output: [UInt8] = []
        for command in commands { RedisCodec.append(command, to: &output) }
        var written = 0
        while written < output.count {
            // SAFETY: the pointers into `output` and `buffer` are used within their closures.
            let outcome = output.withUnsafeBytes {
                let rest = UnsafeRawBufferPointer(rebasing: $0[written...])
                return session?.send(rest) ?? Sockets.send(descriptor, rest)
            }
            switch outcome {
            case .bytes(let count): written += count
            case .wouldBlock: try wait(POLLOUT)
            case .closed, .failed: throw Failure(description: "connection to Redis is broken")
            }
        }
    }

    /// Waits for one reply or pushed message.
    package func receive() throws(Failure) -> RedisReply {
        guard let reply = try receive(within: timeoutMilliseconds) else {
            throw Failure(description: "Redis did not answer within \(timeoutMilliseconds) ms")
        }
        return reply
    }

    /// Waits for one reply or pushed message; `nil` when none has come in time.
    func receive(within milliseconds: Int32) throws(Failure) -> RedisReply? {
        var buffer = [UInt8](repeating: 0, count: 16_384)
        do {
            while true {
                var result: RedisReply?
                if try codec.next({ result = RedisReply($0) }), let result { return result }
                let outcome = buffer.withUnsafeMutableBytes {
                    session?.receive(into: $0) ?? Sockets.receive(descriptor, into: $0)
                }
                switch outcome {
                case .bytes(let count):
                    try buffer.withUnsafeBytes { try codec.feed(.init(rebasing: $0[..<count])) }
                // The client waits only when nothing is there to read: a TLS record may hold several replies.
                case .wouldBlock: guard try waits(for: POLLIN, milliseconds) else { return nil }
                case .closed, .failed: throw Failure(description: "connection to Redis is broken")
                }
            }
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure(description: "\(error)")
        }
    }

    private func wait(_ events: Int32) throws(Failure) {
        guard try waits(for: events, timeoutMilliseconds) else {
            throw Failure(description: "Redis did not answer within \(timeoutMilliseconds) ms")
        }
    }

    /// Waits until the socket is ready; false when the time is over. Throws when another server has become
    /// the right one, because the old one may hang.
    private func waits(for events: Int32, _ milliseconds: Int32) throws(Failure) -> Bool {
        if Self.isReady(descriptor, events, milliseconds, until: { isObsolete }) { return true }
        guard !isObsolete else { throw Failure(description: "\(endpoint.label) has moved") }
        return false
    }

    /// - Parameter isObsolete: asked while waiting; `true` ends the wait.
    private static func isReady(
        _ descriptor: Int32, _ events: Int32, _ milliseconds: Int32, until isObsolete: () -> Bool
    ) -> Bool {
        var left = milliseconds
        while true {
            let step = min(left, noticeMilliseconds)
            var target = pollfd(fd: descriptor, events: Int16(events), revents: 0)
            if poll(&target, 1, step) > 0 { return true }
            left -= step
            guard left > 0, !isObsolete() else { return false }
        }
    }
}
