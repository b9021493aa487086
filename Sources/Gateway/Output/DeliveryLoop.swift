// The delivery loop: the same bytes to a stretch of a channel's watchers. This is where the gateway's time
// goes, so it touches one record a watcher, makes one system call, and allocates, locks and copies nothing.
// The watchers that need individual handling are listed for the caller, which handles them after the stretch.

import CLinux
import Fanout
import Glibc
import Reactor

/// A watcher that did not take the whole frame in the plain way.
struct IncompleteSend {
    enum Reason {
        /// Earlier output still waits, the bytes must go through TLS, or the connection is about to end.
        case needsCare
        /// The watcher has seen the first of the events that are sent.
        case hasSeenPart
        /// The socket took so many bytes of the frame, possibly none.
        case took(Int)
        /// The connection is broken.
        case failed
    }

    let slot: UInt32
    /// The watcher's cursor before this event.
    let cursor: UInt64
    let reason: Reason
}

/// Sends `frame`, which carries the events `first`…`sequence`, to the watchers in `slots` whose cursor is
/// before `sequence`.
/// - Returns: how many took it whole.
// SAFETY: `frame` and `slots` are borrowed by the caller for the length of the call; every slot that is no
// tombstone indexes an initialised record in `records`, which only this thread touches.
@inline(never)
func deliver(
    _ frame: UnsafeRawBufferPointer, first: UInt64, sequence: UInt64, to slots: UnsafeBufferPointer<UInt32>,
    records: UnsafeMutablePointer<ConnectionRecord>, incomplete: inout ContiguousArray<IncompleteSend>
) -> Int {
    var delivered = 0
    let flags = gavelcast_send_flags()
    // Reading another module's constant is a call. So it happens once a walk, not once a watcher.
    let tombstone = SubscriberList.tombstone
    let needsCare =
        ConnectionFlags.hasBacklog.rawValue | ConnectionFlags.isSecure.rawValue
        | ConnectionFlags.isEnding.rawValue
    for slot in slots where slot != tombstone {
        let record = records + Int(slot)
        let cursor = record.pointee.cursor
        if sequence != 0 {
            // The watcher's snapshot or catching up already covers this.
            if cursor >= sequence { continue }
            record.pointee.cursor = sequence
            if cursor >= first {
                incomplete.append(IncompleteSend(slot: slot, cursor: cursor, reason: .hasSeenPart))
                continue
            }
        }
        if record.pointee.flags.rawValue & needsCare != 0 {
            incomplete.append(IncompleteSend(slot: slot, cursor: cursor, reason: .needsCare))
            continue
        }
        let sent = send(record.pointee.descriptor, frame.baseAddress, frame.count, flags)
        if sent == frame.count {
            delivered += 1
        } else if sent >= 0 {
            incomplete.append(IncompleteSend(slot: slot, cursor: cursor, reason: .took(sent)))
        } else {
            let code = gavelcast_errno()
            precondition(code != EBADF && code != EFAULT, "send: errno \(code)")
            let reason: IncompleteSend.Reason = Sockets.isTemporary(code) ? .took(0) : .failed
            incomplete.append(IncompleteSend(slot: slot, cursor: cursor, reason: reason))
        }
    }
    return delivered
}
