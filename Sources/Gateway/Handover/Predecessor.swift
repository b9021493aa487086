// The new process's side of a hand-over: it meets the old process at `takeover-socket`, inherits the
// listeners, subscribes to everything that is watched, and then takes the connections. It runs on a thread of
// its own and blocks.

import Fanout
import Glibc
import LiveProtocol
import Logging
import Reactor
import Synchronization

final class Predecessor: Sendable {
    let process: Int32
    let listeners: [MovedListener]
    /// How many connections it has.
    let connections: Int
    private let topics: [Topic]
    private let socket: DescriptorSocket

    private init(
        process: Int32, listeners: [MovedListener], topics: [Topic], connections: Int,
        socket: DescriptorSocket
    ) {
        self.process = process
        self.listeners = listeners
        self.topics = topics
        self.connections = connections
        self.socket = socket
    }

    /// Closes the received listeners. For a further attempt: this process kept those of the first one.
    func closeListeners() {
        for listener in listeners { Sockets.close(listener.descriptor) }
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
        do throws(HandoverFailure) {
            try socket.send(.hello(version: HandoverMessage.version))
            switch try socket.receiveMessage() {
            case .welcome(let listeners, let topics, let connections):
                return Predecessor(
                    process: peer.process, listeners: listeners, topics: topics, connections: connections,
                    socket: socket)
            case .refusal(let reason):
                throw .refused("the running gateway refuses to hand over: \(reason); stop it first")
            case let message:
                for descriptor in message.descriptors { Sockets.close(descriptor) }
                throw .unexpected
            }
        } catch {
            switch error {
            case .closed, .socket(Errno(code: ECONNRESET, call: "receive from the other process")):
                throw .refused("the running gateway has just handed over to another process, or ended")
            default: throw error
            }
        }
    }

    /// Subscribes to everything that is watched there, and reads it.
    /// - Throws: ``HandoverFailure/unprepared`` when that takes too long and the old process still serves.
    func prepare(_ shared: Shared) throws(HandoverFailure) {
        let prepared = Reply<Void>()
        _ = shared.feedMailbox.post(.prepare(topics, prepared), .always)
        guard prepared.wait(seconds: Limits.preparationSeconds) == nil else { return }
        guard !socket.hasEnded else { return }
        throw .unprepared
    }

    /// Serves the listeners by `listen`, and takes the connections. Returns how many have come.
    /// - Parameter kinds: of the listeners that this process serves.
    func takeConnections(_ kinds: [ListenerKind], _ shared: Shared, listen: () -> Void) -> Outcome {
        defer { socket.hangUp() }
        var count = 0
        do throws(HandoverFailure) {
            try socket.send(.ready(kinds))
            listen()
            while true {
                let connections = try socket.receive { message -> [MovedConnection]? in
                    switch message {
                    case .connections(let connections): connections
                    case .done: []
                    case .hello, .refusal, .welcome, .ready, .taken: nil
                    }
                }
                do throws(HandoverFailure) {
                    // A process that leaves itself takes nothing more.
                    guard !shared.isDraining.load(ordering: .relaxed) else { throw .refused("shutting down") }
                    // Before anything is sent to these clients: from here on the old process leaves them
                    // alone.
                    try socket.send(.taken)
                } catch {
                    for connection in connections { Sockets.close(connection.descriptor) }
                    throw error
                }
                guard !connections.isEmpty else { return .complete(count) }
                spread(connections, from: count, over: shared.loops)
                count += connections.count
            }
        } catch {
            // The old process may have ended before it could hear or say a word.
            if count == 0 { listen() }
            return .brokenOff(count, error)
        }
    }

    enum Outcome {
        /// Everything that could move has moved: so many connections.
        case complete(Int)
        /// The old process keeps what has not moved.
        case brokenOff(Int, HandoverFailure)
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
