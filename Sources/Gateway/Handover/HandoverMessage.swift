// What two gateway processes say to each other while the new one takes over from the old one.

import Glibc
import LiveProtocol
package import Reactor

/// A listening socket on its way to the next process.
struct MovedListener: Sendable {
    let kind: ListenerKind
    /// The address in the settings of the process that opened it.
    let configured: String
    /// The address that it is bound to.
    let actual: String
    let descriptor: Int32
}

enum HandoverMessage {
    /// Raise this with every change to a message. Processes with different versions then stop at the first
    /// message.
    static let version: UInt64 = 1
    /// The longest message in bytes. One with the names of all auctions is the longest.
    static let limit = 1 << 30

    /// From the new process: its version.
    case hello(version: UInt64)
    /// From the old process: it hands nothing over, for this reason.
    case refusal(String)
    /// From the old process: its listeners, what its clients watch, and how many connections it has.
    case welcome([MovedListener], [Topic], connections: Int)
    /// From the new process: it has subscribed and read, and serves listeners of these kinds from now on.
    case ready([ListenerKind])
    /// From the old process.
    case connections([MovedConnection])
    /// From the new process: it has the last batch of connections and will serve them; or it has heard that
    /// nothing more comes.
    case taken
    /// From the old process: nothing more comes.
    case done

    var descriptors: [Int32] {
        switch self {
        case .welcome(let listeners, _, _): listeners.map(\.descriptor)
        case .connections(let connections): connections.map(\.descriptor)
        case .hello, .refusal, .ready, .taken, .done: []
        }
    }

    var bytes: [UInt8] {
        var writer = HandoverWriter()
        switch self {
        case .hello(let version):
            writer.write(0)
            writer.write(version)
        case .refusal(let reason):
            writer.write(1)
            writer.write(reason)
        case .welcome(let listeners, let topics, let connections):
            writer.write(2)
            writer.write(listeners) { writer, listener in
                writer.write(listener.kind.rawValue)
                writer.write(listener.configured)
                writer.write(listener.actual)
            }
            writer.write(topics) { writer, topic in topic.write(to: &writer) }
            writer.write(connections)
        case .ready(let kinds):
            writer.write(3)
            writer.write(kinds) { $0.write($1.rawValue) }
        case .connections(let connections):
            writer.write(4)
            writer.write(connections) { writer, connection in connection.write(to: &writer) }
        case .taken: writer.write(5)
        case .done: writer.write(6)
        }
        return writer.bytes
    }

    init(_ message: DescriptorSocket.Message) throws(HandoverMalformed) {
        var reader = HandoverReader(message.bytes)
        var descriptors = message.descriptors.makeIterator()
        switch try reader.number() {
        case 0: self = .hello(version: try reader.number())
        case 1: self = .refusal(try reader.text())
        case 2:
            let listeners = try reader.list { reader throws(HandoverMalformed) in
                guard let kind = ListenerKind(rawValue: try reader.number(as: UInt8.self)),
                    let descriptor = descriptors.next()
                else { throw HandoverMalformed() }
                return MovedListener(
                    kind: kind, configured: try reader.text(), actual: try reader.text(),
                    descriptor: descriptor)
            }
            let topics = try reader.list { reader throws(HandoverMalformed) in try Topic(from: &reader) }
            self = .welcome(listeners, topics, connections: try reader.number(as: Int.self))
        case 3:
            self = .ready(
                try reader.list { reader throws(HandoverMalformed) in
                    guard let kind = ListenerKind(rawValue: try reader.number(as: UInt8.self)) else {
                        throw HandoverMalformed()
                    }
                    return kind
                })
        case 4:
            self = .connections(
                try reader.list { reader throws(HandoverMalformed) in
                    guard let descriptor = descriptors.next() else { throw HandoverMalformed() }
                    return try MovedConnection(descriptor: descriptor, from: &reader)
                })
        case 5: self = .taken
        case 6: self = .done
        default: throw HandoverMalformed()
        }
        guard reader.isAtEnd, descriptors.next() == nil else { throw HandoverMalformed() }
    }
}

/// Why a hand-over failed.
package enum HandoverFailure: Error, CustomStringConvertible {
    case socket(Errno)
    /// The other process ended, or closed the socket.
    case closed
    /// It sent a message out of turn, or one that this version does not understand.
    case unexpected
    /// The other process hands nothing over, or may not take anything over.
    case refused(String)
    /// Redis could not be read in time.
    case unprepared

    package var description: String {
        switch self {
        case .socket(let error) where error.code == EAGAIN: "the other process does not answer"
        case .socket(let error) where error.code == EMFILE:
            "this process may open no more files; raise the limit (ulimit -n)"
        case .socket(let error): "\(error)"
        case .closed: "the other process has ended"
        case .unexpected: "the other process speaks another version"
        case .refused(let reason): reason
        case .unprepared: "Redis cannot be read"
        }
    }
}

extension DescriptorSocket {
    func send(_ message: HandoverMessage) throws(HandoverFailure) {
        do throws(Errno) {
            try send(message.bytes, descriptors: message.descriptors)
        } catch {
            throw .socket(error)
        }
    }

    /// Receives the message that `expect` picks.
    /// - Throws: ``HandoverFailure/unexpected`` for another one, whose descriptors are closed.
    func receive<Value>(_ expect: (HandoverMessage) -> Value?) throws(HandoverFailure) -> Value {
        let message = try receiveMessage()
        if let value = expect(message) { return value }
        for descriptor in message.descriptors { Sockets.close(descriptor) }
        throw .unexpected
    }

    func receiveMessage() throws(HandoverFailure) -> HandoverMessage {
        let message: Message?
        do throws(Errno) {
            message = try receive(atMost: HandoverMessage.limit)
        } catch {
            throw .socket(error)
        }
        guard let message else { throw .closed }
        do throws(HandoverMalformed) {
            return try HandoverMessage(message)
        } catch {
            for descriptor in message.descriptors { Sockets.close(descriptor) }
            throw .unexpected
        }
    }
}
