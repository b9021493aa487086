// A blocking client for threads that do one thing: the bid API's relay, and the tests that publish. Each call
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
    private let codec = RedisCodec()
    private let timeoutMilliseconds: Int32
    private var session: TLSSession?

    /// Connects and greets.
    /// - Parameters:
    ///   - timeoutMilliseconds: for connecting, and then for each call.
    ///   - skippedAddresses: how many of a name's several addresses are tried after the others. A caller that
    ///     found a server of no use counts this up.
    package init(
        url: RedisURL, timeoutMilliseconds: Int32 = 2_000, skippedAddresses: Int = 0
    ) throws(Failure) {
        self.timeoutMilliseconds = timeoutMilliseconds
        descriptor = try Self.connect(to: url.address, timeoutMilliseconds, skippedAddresses)
        if let tls = url.tls { try secure(tls, url) }
        for reply in try pipeline(url.greeting.map { $0.map { Array($0.utf8) } }) {
            if let refusal = reply.refusal { throw Failure(description: refusal.description) }
        }
    }

    deinit {
        session?.free()
        close(descriptor)
    }

    /// Connects to the first of the host's addresses that answers.
    private static func connect(
        to host: SocketAddress, _ timeoutMilliseconds: Int32, _ skippedAddresses: Int
    ) throws(Failure) -> Int32 {
        do throws(Errno) {
            var last = Errno(code: EADDRNOTAVAIL, call: "connect to \(host)")
            let addresses = try host.resolve()
            let skipped = skippedAddresses % addresses.count
            for address in addresses[skipped...] + addresses[..<skipped] {
                do throws(Errno) {
                    let descriptor = try Sockets.connect(to: address)
                    var code = ETIMEDOUT
                    if isReady(descriptor, POLLOUT, timeoutMilliseconds) {
                        code = Sockets.pendingError(descriptor)
                    }
                    if code == 0 { return descriptor }
                    Sockets.close(descriptor)
                    last = Errno(code: code, call: "connect to \(host)")
                } catch {
                    last = error
                }
            }
            throw last
        } catch {
            throw Failure(description: "\(error)")
        }
    }

    private func secure(_ tls: TLSClientContext, _ url: RedisURL) throws(Failure) {
        guard let session = TLSSession(tls, host: url.host, descriptor: descriptor) else {
            throw Failure(description: "TLS: no memory")
        }
        self.session = session
        let fault = try session.completeHandshake { (forWriting) throws(Failure) in
            try wait(forWriting ? POLLOUT : POLLIN)
        }
        if let fault { throw Failure(description: "TLS with \(url.address): \(fault)") }
    }

    package func call(_ arguments: String...) throws(Failure) -> RedisReply {
        try pipeline([arguments.map { Array($0.utf8) }])[0]
    }

    package func call(_ arguments: [[UInt8]]) throws(Failure) -> RedisReply {
        try pipeline([arguments])[0]
    }

    /// Sends all commands, then reads their replies in the same order.
    package func pipeline(_ commands: [[[UInt8]]]) throws(Failure) -> [RedisReply] {
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
        var replies: [RedisReply] = []
        while replies.count < commands.count { replies.append(try receive()) }
        return replies
    }

    /// Waits for one reply or pushed message.
    package func receive() throws(Failure) -> RedisReply {
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
                case .wouldBlock: try wait(POLLIN)
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
        guard Self.isReady(descriptor, events, timeoutMilliseconds) else {
            throw Failure(description: "Redis did not answer within \(timeoutMilliseconds) ms")
        }
    }

    private static func isReady(_ descriptor: Int32, _ events: Int32, _ milliseconds: Int32) -> Bool {
        var target = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return poll(&target, 1, milliseconds) > 0
    }
}
