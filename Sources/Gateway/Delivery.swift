// The delivery loop: the same bytes to a stretch of a channel's watchers. This is where the gateway's time
// goes, so it touches one record a watcher, makes one system call, and allocates, locks and copies nothing.
// What does not go the plain way is noted and handled after the stretch, outside the loop.

import CLinux
import Fanout
import Glibc

/// A watcher that did not take the whole frame.
struct Setback {
    enum Reason {
        /// Output of before is still waiting, or bytes do not go to the socket as they are.
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
    records: UnsafeMutablePointer<ConnectionRecord>, setbacks: inout ContiguousArray<Setback>
) -> Int {
    var delivered = 0
    let flags = gavelcast_send_flags()
    // Another module's constants are calls: once a walk, not once a watcher.
    let tombstone = SubscriberList.tombstone
    let needsCare = ConnectionFlags([.hasBacklog, .isSecure]).rawValue
    for slot in slots where slot != tombstone {
        let record = records + Int(slot)
        let cursor = record.pointee.cursor
        if sequence != 0 {
            // Already covered by the watcher's snapshot or its catching up.
            if cursor >= sequence { continue }
            record.pointee.cursor = sequence
            if cursor >= first {
                setbacks.append(Setback(slot: slot, cursor: cursor, reason: .hasSeenPart))
                continue
            }
        }
        if record.pointee.flags.rawValue & needsCare != 0 {
            setbacks.append(Setback(slot: slot, cursor: cursor, reason: .needsCare))
            continue
        }
        let sent = send(record.pointee.descriptor, frame.baseAddress, frame.count, flags)
        if sent == frame.count {
            delivered += 1
        } else if sent >= 0 {
            setbacks.append(Setback(slot: slot, cursor: cursor, reason: .took(sent)))
        } else {
            let code = gavelcast_errno()
            precondition(code != EBADF && code != EFAULT, "send: errno \(code)")
            let isFull = code == EAGAIN || code == EINTR || code == ENOBUFS
            setbacks.append(Setback(slot: slot, cursor: cursor, reason: isFull ? .took(0) : .failed))
        }
    }
    return delivered
}
