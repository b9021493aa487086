// Reads the PROXY protocol header, in which a proxy names its client. Never receives more than the header:
// what follows may belong to a TLS session, which reads from the socket itself.

import Fanout
import Reactor
import Telemetry
import Wire

/// What a connection keeps until its proxy's header is complete.
struct Introduction {
    /// True when a TLS handshake follows.
    let isSecure: Bool
    var header: [UInt8] = []
}

extension Connections {
    func readIntroduction(_ slot: UInt32, with handler: any InputHandler) {
        guard var introduction = introductions.removeValue(forKey: slot) else { return }
        while true {
            switch ProxyHeader.read(introduction.header) {
            case .invalid:
                context.counters.refusedHeads.add()
                return end(slot, .abrupt)
            case .complete(let client):
                handler.takeIntroduction(slot, client: client, isSecure: introduction.isSecure)
                // Most often, the client's first bytes have arrived too.
                return read(slot, with: handler)
            case .incomplete(let needed):
                // SAFETY: part of the loop's receive buffer, which is larger than any header; used here only.
                let rest = UnsafeMutableRawBufferPointer(
                    rebasing: receiveBuffer[..<(needed - introduction.header.count)])
                switch Sockets.receive(self[slot].descriptor, into: rest) {
                case .bytes(let count): introduction.header.append(contentsOf: rest[..<count])
                case .wouldBlock:
                    introductions[slot] = introduction
                    return
                case .closed, .failed: return end(slot, .abrupt)
                }
            }
        }
    }
}
