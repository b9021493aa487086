// One non-blocking connection to Redis inside a loop: bytes in and out, replies one by one. It decides
// nothing; ``RedisLink`` tells it what to send and what a broken connection means.

import CHiredis
import Reactor
import TransportSecurity

final class RedisConnection {
    enum Failure: Error, CustomStringConvertible {
        case refused(Errno)
        case broken(String)

        var description: String {
            switch self {
            case .refused(let error): error.description
            case .broken(let reason): reason
            }
        }
    }

    /// At most so many bytes may wait for Redis to take them. Beyond that, the connection counts as broken.
    private static let maximumOutputBytes = 32 << 20

    let descriptor: Int32
    private let token: UInt64
    private let codec = RedisCodec()
    private var output: [UInt8] = []
    private var written = 0
    private var waitsForWritable = true
    private let endpoint: RedisEndpoint
    private var hasSocket = false
    /// With TLS, from the moment the socket is connected.
    private var session: TLSSession?
    private(set) var isConnected = false

    /// - Parameter address: one of the endpoint's.
    init(
        endpoint: RedisEndpoint, address: ResolvedAddress, token: UInt64, poller: borrowing Poller
    ) throws(Failure) {
        self.endpoint = endpoint
        do throws(Errno) {
            descriptor = try Sockets.connect(to: address)
            try poller.add(descriptor, [.readable, .writable], token: token)
        } catch {
            throw .refused(error)
        }
        self.token = token
    }

    /// Closes the socket; the object must not be used afterwards.
    func close(poller: borrowing Poller) {
        poller.remove(descriptor)
        session?.free()
        session = nil
        Sockets.close(descriptor)
    }

    func send(_ arguments: [[UInt8]]) {
        RedisCodec.append(arguments, to: &output)
    }

    func send(_ arguments: [String]) {
        RedisCodec.append(arguments, to: &output)
    }

    /// Continues connecting, TLS handshake included, at an event of the socket. Throws when connecting
    /// failed.
    func continueConnecting(_ event: Poller.Event, poller: borrowing Poller) throws(Failure) {
        if !hasSocket {
            guard event.isWritable || event.isBroken else { return }
            let code = Sockets.pendingError(descriptor)
            guard code == 0 else { throw .refused(Errno(code: code, call: "connect")) }
            hasSocket = true
            if let tls = endpoint.access.tls {
                session = TLSSession(tls, host: endpoint.tlsHost, descriptor: descriptor)
                guard session != nil else { throw .broken("TLS: no memory") }
            }
        }
        switch session?.handshake() ?? .complete {
        case .complete: isConnected = true
        case .wantsToRead: wait(forWritable: false, poller)
        case .wantsToWrite: wait(forWritable: true, poller)
        case .failed(let reason): throw .broken("TLS with \(endpoint.label): \(reason)")
        }
    }

    private func transmit(_ bytes: UnsafeRawBufferPointer) -> Sockets.Outcome {
        session?.send(bytes) ?? Sockets.send(descriptor, bytes)
    }

    // SAFETY: `buffer` is lent by the loop, and `bytes` above by the output, for the length of the call.
    /// Reads what is there, at most `buffer.count` bytes a call, and gives each complete reply to `body`.
    func receive(
        into buffer: UnsafeMutableRawBufferPointer, _ body: (UnsafePointer<redisReply>) -> Void
    ) throws(Failure) {
        switch session?.receive(into: buffer) ?? Sockets.receive(descriptor, into: buffer) {
        case .wouldBlock: return
        case .closed: throw .broken("connection closed by Redis")
        case .failed(let code): throw .refused(Errno(code: code, call: "receive"))
        case .bytes(let count):
            do throws(RedisCodec.ProtocolError) {
                try codec.feed(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                while try codec.next(body) {}
            } catch {
                throw .broken("protocol error: \(error)")
            }
        }
    }

    /// Writes what waits, and asks the poller to say when more can be written.
    func flush(poller: borrowing Poller) throws(Failure) {
        guard isConnected else { return }
        while written < output.count {
            let outcome = output.withUnsafeBytes {
                transmit(UnsafeRawBufferPointer(rebasing: $0[written...]))
            }
            switch outcome {
            case .bytes(let count): written += count
            case .closed: throw .broken("connection closed by Redis")
            case .failed(let code): throw .refused(Errno(code: code, call: "send"))
            case .wouldBlock:
                guard output.count - written <= Self.maximumOutputBytes else {
                    throw .broken("Redis stopped reading; the output buffer is full")
                }
                return wait(forWritable: true, poller)
            }
        }
        output.removeAll(keepingCapacity: output.count <= 65_536)
        written = 0
        wait(forWritable: false, poller)
    }

    private func wait(forWritable wanted: Bool, _ poller: borrowing Poller) {
        guard wanted != waitsForWritable else { return }
        waitsForWritable = wanted
        poller.modify(descriptor, wanted ? [.readable, .writable] : .readable, token: token)
    }
}
