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
                kill(getpid(), SIGTERM)
                return
            } catch {
                logger.error(
                    "the hand-over failed; this process keeps serving", metadata: ["error": "\(error)"])
            }
        }
    }

    /// Answers the new process's first message. Returns its id.
    private func greet(_ socket: DescriptorSocket) throws(HandoverFailure) -> Int32 {
        socket.setPatience(seconds: Limits.handoverPatienceSeconds)
        guard let peer = socket.peer, peer.user == getuid() else {
            throw .refused("the other process belongs to another user")
        }
        let version = try socket.receive { if case .hello(let version) = $0 { version } else { nil } }
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
        let connections = shared.connectionCount.load(ordering: .relaxed)
        try socket.send(.welcome(ports.moved, watched, connections: connections))
        // It reads Redis first.
        let kinds = try socket.receive { if case .ready(let kinds) = $0 { Set(kinds) } else { nil } }
        // A drain waits until this is over. One that has begun meanwhile comes first.
        shared.isHandingOver.store(true, ordering: .releasing)
        guard !shared.isDraining.load(ordering: .relaxed) else {
            shared.isHandingOver.store(false, ordering: .releasing)
            throw .refused("this process is shutting down")
        }
        shared.foreignListeners.withLock { $0 = kinds }
        let port = HandoverPort()
        for loop in shared.loops { _ = loop.mailbox.post(.giveAway(port, kinds), .always) }
        defer { shared.isHandingOver.store(false, ordering: .releasing) }
        do throws(HandoverFailure) {
            let count = try sendConnections(from: port, over: socket)
            // The next process counts these viewers from now on.
            let forgotten = Reply<Void>()
            _ = shared.feedMailbox.post(.stopCountingViewers(forgotten), .always)
            _ = forgotten.wait(seconds: Limits.viewersForgottenSeconds)
            try socket.send(.done)
            try confirm(socket)
            return count
        } catch {
            socket.hangUp()
            for item in port.close() {
                guard case .batch(let connections, let loop) = item else { continue }
                _ = shared.loops[loop].mailbox.post(.takeBack(connections), .always)
            }
            for loop in shared.loops { _ = loop.mailbox.post(.keepAll, .always) }
            _ = shared.feedMailbox.post(.countViewers, .always)
            shared.foreignListeners.withLock { $0 = [] }
            throw error
        }
    }

    private func confirm(_ socket: DescriptorSocket) throws(HandoverFailure) {
        try socket.receive { if case .taken = $0 { () } else { nil } }
    }

    private func sendConnections(
        from port: HandoverPort, over socket: DescriptorSocket
    ) throws(HandoverFailure) -> Int {
        var count = 0
        var finished = 0
        while finished < shared.loops.count {
            guard let item = port.next(withinSeconds: Limits.handoverPatienceSeconds) else {
                throw .refused("the event loops gave nothing for \(Limits.handoverPatienceSeconds) s")
            }
            guard case .batch(let connections, let loop) = item else {
                finished += 1
                continue
            }
            do throws(HandoverFailure) {
                try socket.send(.connections(connections))
                try confirmInTheEnd(socket)
            } catch {
                _ = shared.loops[loop].mailbox.post(.takeBack(connections), .always)
                throw error
            }
            for connection in connections { Sockets.close(connection.descriptor) }
            count += connections.count
            _ = shared.loops[loop].mailbox.post(.batchTaken(connections.count), .always)
        }
        return count
    }

    /// Waits for the confirmation of a batch. When that does not come, hangs up, so that it can come no more,
    /// and looks once again: both processes must agree on who serves the batch.
    private func confirmInTheEnd(_ socket: DescriptorSocket) throws(HandoverFailure) {
        do throws(HandoverFailure) {
            try confirm(socket)
        } catch {
            socket.hangUp()
            try confirm(socket)
        }
    }
}
