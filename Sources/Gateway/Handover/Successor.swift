// The old process's side of a hand-over: it waits for the next gateway process at `takeover-socket`, and
// gives it the listeners and then the connections. It runs on a thread of its own and blocks. The loops pick
// the connections (`Giving`) and put them into a port. What the new process has not confirmed stays here: the
// loops get it back and serve on.

import Glibc
import LiveProtocol
import Logging
import Reactor
import Synchronization

struct Successor {
    let shared: Shared
    let ports: ListeningPorts
    let logger: Logger

    /// Waits for successors at a listener, until one has taken everything.
    func await(at listener: Int32) {
        defer { Sockets.close(listener) }
        while true {
            guard let socket = DescriptorSocket.accept(listener) else {
                // Descriptors may have run out.
                Clock.pause(milliseconds: Limits.acceptPauseMilliseconds)
                continue
            }
            do throws(HandoverFailure) {
                let process = try greet(socket)
                logger.info("handing over", metadata: ["to_process": "\(process)"])
                let count = try handOver(over: socket)
                logger.info(
                    "handed over; draining what cannot move",
                    metadata: ["to_process": "\(process)", "connections": "\(count)"])
                // The main thread leads the drain.
                shared.hasHandedOver.store(true, ordering: .releasing)
                kill(getpid(), SIGTERM)
                return
            } catch {
                logger.error("handing over failed; serving on", metadata: ["error": "\(error)"])
            }
        }
    }

    /// Answers the new process's first message. Returns its id.
    private func greet(_ socket: DescriptorSocket) throws(HandoverFailure) -> Int32 {
        socket.setPatience(seconds: Limits.handoverPatienceSeconds)
        guard let peer = socket.peer, peer.user == getuid() else {
            throw .refused("the other process belongs to another user")
        }
        guard case .hello(let version) = try socket.receiveMessage() else { throw .unexpected }
        var reason: String?
        if version != HandoverMessage.version {
            reason = "it speaks version \(HandoverMessage.version) and not \(version)"
        } else if shared.isDraining.load(ordering: .relaxed) {
            reason = "it is shutting down"
        }
        guard let reason else { return peer.process }
        try socket.send(.refusal(reason))
        throw .refused("refused a process: \(reason)")
    }

    /// Returns how many connections moved.
    private func handOver(over socket: DescriptorSocket) throws(HandoverFailure) -> Int {
        let topics = Reply<[Topic]>()
        _ = shared.feedMailbox.post(.listTopics(topics), .always)
        let watched = topics.wait(seconds: Limits.handoverPatienceSeconds) ?? []
        try socket.send(.welcome(ports.moved, watched))
        // It reads Redis first.
        guard case .ready = try socket.receiveMessage() else { throw .unexpected }
        let port = HandoverPort()
        for loop in shared.loops { _ = loop.mailbox.post(.giveAway(port), .always) }
        do throws(HandoverFailure) {
            return try sendConnections(from: port, over: socket)
        } catch {
            for item in port.close() {
                guard case .batch(let connections, let loop) = item else { continue }
                _ = shared.loops[loop].mailbox.post(.adopt(connections), .always)
            }
            for loop in shared.loops { _ = loop.mailbox.post(.keepAll, .always) }
            throw error
        }
    }

    private func sendConnections(
        from port: HandoverPort, over socket: DescriptorSocket
    ) throws(HandoverFailure) -> Int {
        var count = 0
        var finished = 0
        while finished < shared.loops.count {
            guard let item = port.next(withinSeconds: Limits.handoverPatienceSeconds) else {
                throw .unexpected
            }
            guard case .batch(let connections, let loop) = item else {
                finished += 1
                continue
            }
            do throws(HandoverFailure) {
                try socket.send(.connections(connections))
                guard case .taken = try socket.receiveMessage() else { throw .unexpected }
            } catch {
                _ = shared.loops[loop].mailbox.post(.adopt(connections), .always)
                throw error
            }
            for connection in connections { Sockets.close(connection.descriptor) }
            count += connections.count
            _ = shared.loops[loop].mailbox.post(.batchTaken, .always)
        }
        try socket.send(.done)
        return count
    }
}
