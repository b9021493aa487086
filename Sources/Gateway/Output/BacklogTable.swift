// The backlogs of a loop's full sockets, and how much waits in all of them.

import Fanout

struct BacklogTable {
    private var table: [UInt32: Backlog] = [:]
    /// Bytes that wait, without bids that may still merge.
    private(set) var bytes = 0

    var count: Int { table.count }
    var connections: [UInt32] { Array(table.keys) }

    subscript(connection: UInt32) -> Backlog? { table[connection] }

    mutating func set(_ connection: UInt32, _ backlog: Backlog) {
        bytes += backlog.waitingBytes - (table[connection]?.waitingBytes ?? 0)
        table[connection] = backlog
    }

    mutating func remove(_ connection: UInt32) -> Backlog? {
        let backlog = table.removeValue(forKey: connection)
        bytes -= backlog?.waitingBytes ?? 0
        return backlog
    }

    /// Changes a connection's backlog in place; `nil` when it has none.
    @discardableResult
    mutating func change<Result>(_ connection: UInt32, _ body: (inout Backlog) -> Result) -> Result? {
        guard let index = table.index(forKey: connection) else { return nil }
        bytes -= table.values[index].waitingBytes
        defer { bytes += table.values[index].waitingBytes }
        return body(&table.values[index])
    }

    /// Returns the memory of a table that was large.
    mutating func shrinkIfEmpty() {
        if table.isEmpty, table.capacity > Limits.keptCapacity { table = [:] }
    }
}
