// The yardstick: what a gateway costs that does nothing but the kernel's part of the work. One loop; it
// accepts, answers the WebSocket handshake, hears Redis and sends each message to the auction's sockets. No
// order, no cursor, no backlog, no timers, no limits: whoever does not take a message whole is closed. Not
// for use; for comparison.

import CHiredis
import CLinux
import COpenSSL
import Glibc
package import Reactor
package import RedisLink
import Wire

package final class BareGateway {
    private static let listenerToken = UInt64.max
    private static let redisToken = UInt64.max - 1
    private static let acceptsPerTurn = 64

    private final class Auction {
        var sockets: ContiguousArray<Int32> = []
    }

    private let poller: Poller
    private let listener: Int32
    private let redis: Int32
    private let codec = RedisCodec()
    private var auctions: [String: Auction] = [:]
    private var frame: [UInt8] = []
    // SAFETY: allocated in init, freed in deinit, used by the one thread that runs this.
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)

    /// - Parameter pattern: the channels it hears, as Redis' PSUBSCRIBE takes them.
    package init(port: Int, redis url: RedisURL, pattern: String) throws(Errno) {
        _ = DescriptorLimit.raise()
        poller = try Poller()
        listener = try Sockets.listen(
            on: SocketAddress(host: "127.0.0.1", port: UInt16(port)), sharesPort: false)
        guard case .server(let address) = url.place else {
            throw Errno(code: EINVAL, call: "connect to several Redis servers")
        }
        redis = try Sockets.connect(to: address.resolve()[0])
        try poller.add(listener, .readable, token: Self.listenerToken)
        try poller.add(redis, [.readable, .writable, .edgeTriggered], token: Self.redisToken)
        var command: [UInt8] = []
        RedisCodec.append(["PSUBSCRIBE", pattern], to: &command)
        subscription = command
    }

    deinit {
        buffer.deallocate()
    }

    private var subscription: [UInt8]

    /// Serves until the process is ended.
    package func run() -> Never {
        while true {
            poller.wait(milliseconds: -1) { event in
                switch event.token {
                case Self.listenerToken: acceptAll()
                case Self.redisToken: hearRedis()
                default: read(Int32(truncatingIfNeeded: event.token))
                }
            }
        }
    }

    private func acceptAll() {
        for _ in 0..<Self.acceptsPerTurn {
            do throws(Errno) {
                guard let descriptor = try Sockets.accept(listener) else { return }
                try poller.add(descriptor, .readable, token: UInt64(descriptor))
            } catch {
                return
            }
        }
    }

    /// A head comes whole from our clients; what follows it is not read.
    private func read(_ descriptor: Int32) {
        guard case .bytes(let count) = Sockets.receive(descriptor, into: buffer) else {
            return end(descriptor)
        }
        // SAFETY: the span is used within this call, and the buffer is not written meanwhile.
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count]).bindMemory(to: UInt8.self).span
        guard case .complete(let head, _) = RequestHead.parse(bytes), head.wantsWebSocket else { return }
        let path = bytes.text(head.path).split(separator: "/")
        guard path.count == 4 else { return end(descriptor) }
        let key = WebSocketHandshake.acceptKey(for: bytes.text(head.webSocketKey)) { input in
            var digest = [UInt8](repeating: 0, count: 20)
            SHA1(input, input.count, &digest)
            return digest
        }
        _ = WebSocketHandshake.response(acceptKey: key).withUnsafeBytes { Sockets.send(descriptor, $0) }
        let name = RedisKeys.channel(String(path[2]))
        let auction = auctions[name] ?? Auction()
        auctions[name] = auction
        auction.sockets.append(descriptor)
    }

    private func end(_ descriptor: Int32) {
        for auction in auctions.values { auction.sockets.removeAll { $0 == descriptor } }
        Sockets.close(descriptor)
    }

    private func hearRedis() {
        if !subscription.isEmpty {
            _ = subscription.withUnsafeBytes { Sockets.send(redis, $0) }
            subscription = []
        }
        while case .bytes(let count) = Sockets.receive(redis, into: buffer) {
            do {
                try codec.feed(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                while try codec.next({ broadcast($0.pointee) }) {}
            } catch {
                preconditionFailure("\(error)")
            }
        }
    }

    // SAFETY: the reply and its parts live for the length of the call.
    /// A pattern's message: `pmessage`, pattern, channel, payload.
    private func broadcast(_ reply: redisReply) {
        guard reply.elements == 4, let channel = reply.element[2], let payload = reply.element[3],
            payload.pointee.type == REDIS_REPLY_STRING,
            let auction = auctions[String(cString: channel.pointee.str)]
        else { return }
        frame.removeAll(keepingCapacity: true)
        let bytes = UnsafeRawBufferPointer(start: payload.pointee.str, count: Int(payload.pointee.len))
        WebSocketFrame.appendHeader(.text, payloadCount: bytes.count, to: &frame)
        frame.append(contentsOf: bytes)
        let flags = gavelcast_send_flags()
        frame.withUnsafeBytes { frame in
            auction.sockets.withUnsafeBufferPointer { sockets in
                for socket in sockets { _ = send(socket, frame.baseAddress, frame.count, flags) }
            }
        }
    }
}
