// The new process's side of a hand-over: it meets the old process at `takeover-socket`, inherits the
// listeners, subscribes to everything that is watched, and then takes the connections. It runs on a thread of
// its own and blocks.

import Fanout
import Glibc
import LiveProtocol
import Logging
import Reactor

final class Predecessor: Sendable {
    let process: Int32
    let listeners: [MovedListener]
    private let topics: [Topic]
    private let socket: DescriptorSocket

    private init(process: Int32, listeners: [MovedListener], topics: [Topic], socket: DescriptorSocket) {
        self.process = process
        self.listeners = listeners
        self.topics = topics
        self.socket = socket
    }

    /// Meets the process that listens at `address`; `nil` when none does.
    static func meet(at address: SocketAddress) throws(HandoverFailure) -> Predecessor? {
        let connected: DescriptorSocket?
        do throws(Errno) {
            connected = try DescriptorSocket.connect(to: address)
        } catch {
            throw .socket(error)
        }
        guard let socket = connected else { return nil }
        socket.setPatience(seconds: Limits.handoverPatienceSeconds)
        guard let peer = socket.peer, peer.user == getuid() else {
            throw .refused("the running gateway belongs to another user; stop it first")
        }
        try socket.send(.hello(version: HandoverMessage.version))
        switch try socket.receiveMessage() {
        case .welcome(let listeners, let topics):
            return Predecessor(process: peer.process, listeners: listeners, topics: topics, socket: socket)
        case .refusal(let reason):
            throw .refused("the running gateway hands nothing over: \(reason); stop it first")
        case .hello, .ready, .connections, .taken, .done: throw .unexpected
        }
    }

    /// Takes everything over.
    /// - Parameter listen: called when Redis has been read: the listeners are to be served from then on.
    func takeOver(_ shared: Shared, _ logger: Logger, listen: () -> Void) throws(HandoverFailure) {
        let start = Clock.monotonicMilliseconds()
        let prepared = Reply<Void>()
        _ = shared.feedMailbox.post(.prepare(topics, prepared), .always)
        guard prepared.wait(seconds: Limits.preparationSeconds) != nil else { throw .unprepared }
        try socket.send(.ready)
        listen()
        let count: Int
        do throws(HandoverFailure) {
            count = try takeConnections(shared)
        } catch {
            // The connections that are here are served, and the old process serves the others.
            return logger.error("the hand-over broke off", metadata: ["error": "\(error)"])
        }
        let milliseconds = Clock.monotonicMilliseconds() - start
        logger.info(
            "took over",
            metadata: [
                "from_process": "\(process)", "connections": "\(count)", "milliseconds": "\(milliseconds)",
            ])
    }

    private func takeConnections(_ shared: Shared) throws(HandoverFailure) -> Int {
        var count = 0
        while true {
            switch try socket.receiveMessage() {
            case .connections(let connections):
                do throws(HandoverFailure) {
                    // Before anything is sent to these clients: from here on the old process leaves them
                    // alone.
                    try socket.send(.taken)
                } catch {
                    for connection in connections { Sockets.close(connection.descriptor) }
                    throw error
                }
                spread(connections, from: count, over: shared.loops)
                count += connections.count
            case .done: return count
            case .hello, .refusal, .welcome, .ready, .taken: throw .unexpected
            }
        }
    }

    /// Gives each loop its share, in turn.
    private func spread(_ connections: [MovedConnection], from first: Int, over loops: [LoopHandle]) {
        for loop in loops {
            let share = connections.indices.filter { (first + $0) % loops.count == loop.index }
            guard !share.isEmpty else { continue }
            _ = loop.mailbox.post(.adopt(share.map { connections[$0] }), .always)
        }
    }
}
