// A step of a traced bid, and its line in OTLP's JSON form, which OpenTelemetry collectors read from a file.

package import AuctionEvents

package struct TraceSpan: Sendable {
    /// OTLP's numbers.
    package enum Kind: Int, Sendable {
        case `internal` = 1
        case server, client, producer, consumer
    }

    package enum Attribute: Sendable {
        case text(String)
        case number(Int)
    }

    /// The trace, and the id of this span.
    package let context: TraceContext
    package let parentID: UInt64
    package let name: String
    package let kind: Kind
    /// In microseconds since 1970.
    package let start: Int64
    package let end: Int64
    package let attributes: [(key: String, value: Attribute)]
    package let hasFailed: Bool

    package init(
        _ context: TraceContext, parentID: UInt64, _ name: String, _ kind: Kind, from start: Int64,
        to end: Int64, _ attributes: [(key: String, value: Attribute)] = [], hasFailed: Bool = false
    ) {
        self.context = context
        self.parentID = parentID
        self.name = name
        self.kind = kind
        self.start = start
        // Wall clocks may be set back between the two.
        self.end = max(start, end)
        self.attributes = attributes
        self.hasFailed = hasFailed
    }

    /// One export request of OTLP, on one line without its end.
    package func line(service: String, version: String) -> String {
        func list(_ attributes: [(key: String, value: Attribute)]) -> String {
            attributes.map { key, value in
                let text =
                    switch value {
                    case .text(let text): #""stringValue":\#(JSONText.quoted(text))"#
                    // OTLP writes 64-bit numbers as strings.
                    case .number(let number): #""intValue":"\#(number)""#
                    }
                return #"{"key":\#(JSONText.quoted(key)),"value":{\#(text)}}"#
            }.joined(separator: ",")
        }
        let span =
            #"{"traceId":"\#(context.traceIDText)","spanId":"\#(context.spanIDText)""#
            + #","parentSpanId":"\#(TraceContext.text(parentID))","name":\#(JSONText.quoted(name))"#
            + #","kind":\#(kind.rawValue),"startTimeUnixNano":"\#(start)000","endTimeUnixNano":"\#(end)000""#
            + #","attributes":[\#(list(attributes))],"status":{\#(hasFailed ? #""code":2"# : "")}}"#
        let resource = list([("service.name", .text(service)), ("service.version", .text(version))])
        return #"{"resourceSpans":[{"resource":{"attributes":[\#(resource)]},"scopeSpans":["#
            + #"{"scope":{"name":"gavelcast"},"spans":[\#(span)]}]}]}"#
    }
}
