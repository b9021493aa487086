// The gateway's listening sockets: opened at the start, or inherited from the process that ran before.

import Glibc
import Reactor

/// The kind of connection that a listener accepts.
enum ListenerKind: UInt8 {
    case plain
    case secure
    case admin

    /// The token by which the poller reports the listener.
    var token: UInt64 {
        switch self {
        case .plain: OwnDescriptor.listener
        case .secure: OwnDescriptor.secureListener
        case .admin: OwnDescriptor.adminListener
        }
    }
}

/// A loop's public listeners.
struct PublicListeners: Sendable {
    let plain: [Int32]
    /// For TLS; empty without.
    let secure: [Int32]
}

struct ListeningPorts: Sendable {
    /// The sockets of each loop.
    let loops: [PublicListeners]
    let admin: Int32
    /// The kinds of the listeners that were inherited.
    let inheritedKinds: Set<ListenerKind>
    /// The files of Unix sockets.
    private let files: [ListenerKind: SocketFile]
    private let configuration: GatewayConfiguration

    /// - Parameter inherited: sockets of the process that ran before. Those whose address this configuration
    ///   does not name are closed.
    init(_ configuration: GatewayConfiguration, inherited: [MovedListener] = []) throws(Errno) {
        self.configuration = configuration
        func inheritance(_ kind: ListenerKind, _ address: SocketAddress) -> [Int32] {
            inherited.filter { listener in
                listener.kind == kind
                    && (listener.configured == address.description || listener.actual == address.description)
            }.map(\.descriptor)
        }
        let plain = inheritance(.plain, configuration.listen)
        let secure = configuration.tlsListen.map { inheritance(.secure, $0) } ?? []
        let admins = inheritance(.admin, configuration.adminListen)
        for listener in inherited where !(plain + secure + admins).contains(listener.descriptor) {
            Sockets.close(listener.descriptor)
        }
        let plainByLoop = try Self.open(configuration, on: configuration.listen, inherited: plain)
        var secureByLoop = [[Int32]](repeating: [], count: configuration.workers)
        if let address = configuration.tlsListen {
            secureByLoop = try Self.open(configuration, on: address, inherited: secure)
        }
        loops = zip(plainByLoop, secureByLoop).map { PublicListeners(plain: $0, secure: $1) }
        if let listener = admins.first {
            admin = listener
        } else {
            admin = try Sockets.listen(
                on: configuration.adminListen, sharesPort: false, sendBufferBytes: Limits.adminSendBytes)
        }
        let kept: [(ListenerKind, [Int32])] = [(.plain, plain), (.secure, secure), (.admin, admins)]
        inheritedKinds = Set(kept.filter { !$0.1.isEmpty }.map(\.0))
        var files: [ListenerKind: SocketFile] = [:]
        files[.plain] = SocketFile(listeningOn: configuration.listen)
        files[.secure] = configuration.tlsListen.flatMap(SocketFile.init(listeningOn:))
        files[.admin] = SocketFile(listeningOn: configuration.adminListen)
        self.files = files
    }

    /// Removes the files of Unix sockets, but not those of these kinds, which another process serves.
    func removeFiles(except foreign: Set<ListenerKind>) {
        for (kind, file) in files where !foreign.contains(kind) { file.remove() }
    }

    /// The sockets as the next process gets them.
    var moved: [MovedListener] {
        var moved: [MovedListener] = []
        func add(_ descriptors: [Int32], _ kind: ListenerKind, _ address: SocketAddress?) {
            for descriptor in descriptors {
                moved.append(
                    MovedListener(
                        kind: kind, configured: address?.description ?? "",
                        actual: SocketAddress.local(of: descriptor)?.description ?? "",
                        descriptor: descriptor))
            }
        }
        for listeners in loops {
            add(listeners.plain, .plain, configuration.listen)
            add(listeners.secure, .secure, configuration.tlsListen)
        }
        add([admin], .admin, configuration.adminListen)
        return moved
    }

    /// A listener for each loop, at least.
    private static func open(
        _ configuration: GatewayConfiguration, on address: SocketAddress, inherited: [Int32]
    ) throws(Errno) -> [[Int32]] {
        var listeners = inherited
        if address.path != nil {
            try openSocketListeners(configuration, on: address, &listeners)
        } else {
            try openListeners(configuration, on: address, &listeners)
        }
        return (0..<configuration.workers).map { loop in
            listeners.indices.filter { $0 % configuration.workers == loop }.map { listeners[$0] }
        }
    }

    /// Opens a listener for each loop on one port. When the port is not to be shared, first opens it alone to
    /// check that no other process has it. With SO_REUSEPORT, a second gateway would silently take half of
    /// the watchers.
    private static func openListeners(
        _ configuration: GatewayConfiguration, on address: SocketAddress, _ listeners: inout [Int32]
    ) throws(Errno) {
        var port = listeners.first.flatMap(SocketAddress.local)?.port ?? address.port
        if !configuration.reusePort, listeners.isEmpty {
            let probe = try Sockets.listen(on: address, sharesPort: false)
            port = SocketAddress.local(of: probe)?.port ?? port
            Sockets.close(probe)
        }
        // A socket of its own would get a share of new connections at once, before anybody accepts.
        let inherited = listeners
        while !inherited.isEmpty, listeners.count < configuration.workers {
            listeners.append(try Sockets.duplicate(inherited[listeners.count % inherited.count]))
        }
        while listeners.count < configuration.workers {
            let listener = try Sockets.listen(
                on: SocketAddress(host: address.host, port: port), sharesPort: true,
                sendBufferBytes: configuration.sendBufferBytes)
            port = SocketAddress.local(of: listener)?.port ?? port
            listeners.append(listener)
        }
    }

    /// A Unix socket has one queue of connections, from which every loop accepts.
    private static func openSocketListeners(
        _ configuration: GatewayConfiguration, on address: SocketAddress, _ listeners: inout [Int32]
    ) throws(Errno) {
        if listeners.isEmpty {
            listeners.append(
                try Sockets.listen(
                    on: address, sharesPort: false, sendBufferBytes: configuration.sendBufferBytes))
        }
        while listeners.count < configuration.workers {
            listeners.append(try Sockets.duplicate(listeners[0]))
        }
    }
}
