// Why PostgreSQL did not do what was asked. Callers decide by the case, and show the text to operators only.

/// Why the database did not do what was asked.
package enum DatabaseError: Error, Sendable, CustomStringConvertible {
    /// The database cannot be reached, was lost, or is too busy. The outcome is unknown. A retry is allowed.
    case unavailable(String)
    /// A unique constraint, by name.
    case conflict(constraint: String)
    /// Anything else the server refused: a defect of ours.
    case refused(sqlState: String, message: String)
    /// A row that this version cannot read. A newer version wrote it, or somebody by hand.
    case unreadable(String)

    package var description: String {
        switch self {
        case .unavailable(let reason): "database unavailable: \(reason)"
        case .conflict(let constraint): "conflict with \(constraint)"
        case .refused(let sqlState, let message): "\(sqlState): \(message)"
        case .unreadable(let what): "unreadable: \(what)"
        }
    }
}

extension DatabaseError {
    /// True for a statement that took too long, or that a standby had to end for the sake of replication. The
    /// server itself is well.
    package var concernsStatementOnly: Bool {
        guard case .unavailable(let reason) = self else { return false }
        return reason.hasPrefix("57014") || reason.hasPrefix("40001")
    }
}
