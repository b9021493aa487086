// The kinds that the gateway's metrics tell apart. A kind's label is the value of the metric's label.

import AuctionEvents
import Fanout
import Telemetry
import Wire

/// Why a bid was merged into a newer one.
enum MergeCause: Int, TallyKind {
    /// The watcher's socket is full.
    case socket
    /// The window of `conflate-ms` is open.
    case window
    /// The loop is late.
    case late

    var index: Int { rawValue }
    var label: String { "\(self)" }
}

/// From where a watcher that gave a cursor went on.
enum ResumeSource: Int, TallyKind {
    /// From the events that the gateway keeps.
    case memory
    /// From Redis' log.
    case log
    /// From a SNAPSHOT with `complete:false`, because the events are lost.
    case incomplete

    var index: Int { rawValue }
    var label: String { "\(self)" }
}

/// Why a connection or a watch was refused.
enum RefusalKind: Int, TallyKind {
    /// `max-connections`.
    case capacity
    /// `max-memory-bytes`.
    case memory
    /// No descriptor is left.
    case descriptors
    /// `max-connections-per-ip`.
    case address
    /// `messages-per-second`.
    case messages
    /// The gateway drains.
    case draining
    /// `max-auctions`.
    case auctions
    /// Redis refuses the topic.
    case topic

    var index: Int { rawValue }
    var label: String { "\(self)" }
}

/// How a watching connection ended.
enum CloseKind: Int, TallyKind {
    case normal, goingAway, protocolError, unsupportedData, invalidPayload, policy, tooBig, restart, tryAgain
    case tooSlow
    /// The client closed with a close frame.
    case client
    /// Without a word from either side: the connection broke, or the client is gone.
    case abrupt
    /// With another code.
    case other

    var index: Int { rawValue }

    private var code: UInt16? {
        switch self {
        case .normal: CloseCode.normal
        case .goingAway: CloseCode.goingAway
        case .protocolError: CloseCode.protocolError
        case .unsupportedData: CloseCode.unsupportedData
        case .invalidPayload: CloseCode.invalidPayload
        case .policy: CloseCode.policyViolation
        case .tooBig: CloseCode.messageTooBig
        case .restart: CloseCode.serviceRestart
        case .tryAgain: CloseCode.tryAgainLater
        case .tooSlow: CloseCode.tooSlow
        case .client, .abrupt, .other: nil
        }
    }

    init(code: UInt16) {
        self = Self.allCases.first { $0.code == code } ?? .other
    }

    var label: String { code.map { "\($0)" } ?? "\(self)" }
}

/// What carries bytes to clients.
enum ByteCarrier: Int, TallyKind {
    case websocket, sse
    /// Long-polls, pages and other answers.
    case http

    var index: Int { rawValue }
    var label: String { "\(self)" }

    init(_ transport: Transport) {
        switch transport {
        case .webSocket, .subscription: self = .websocket
        case .eventStream: self = .sse
        case .http, .longPoll: self = .http
        }
    }
}

extension ByteCarrier {
    /// What carries the events of a group whose watchers all get the same bytes.
    init(_ group: DeliveryGroup) {
        self = group == .streams ? .sse : .websocket
    }
}

extension EventEnvelope.Rejection: TallyKind {
    package var index: Int { Int(rawValue) }
}

extension RepairCause: TallyKind {
    package var index: Int { rawValue }
    package var label: String { "\(self)" }
}
