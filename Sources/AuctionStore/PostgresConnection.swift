// One blocking libpq connection, used by one thread at a time. Statements are prepared on first use; several
// can go in one round trip (libpq's pipeline mode).

package import AuctionEvents
import CLibPQ
import Dispatch
import Glibc

/// One statement and its parameters in text form.
package struct Statement: Sendable {
    package let sql: String
    package let parameters: [String?]

    package init(_ sql: String, _ parameters: [String?] = []) {
        self.sql = sql
        self.parameters = parameters
    }
}

/// The rows of one result, every value as text.
package struct Rows: Sendable {
    private let values: [[String?]]

    fileprivate init(_ values: [[String?]]) {
        self.values = values
    }

    package var count: Int { values.count }
    package var isEmpty: Bool { values.isEmpty }
    package subscript(row: Int, column: Int) -> String? { values[row][column] }
    /// A column that the schema declares NOT NULL.
    package func text(_ row: Int, _ column: Int) -> String { values[row][column] ?? "" }
    /// A column that the schema declares an integer and NOT NULL.
    package func integer(_ row: Int, _ column: Int) throws(DatabaseError) -> Int64 {
        guard let value = values[row][column].flatMap({ Int64($0) }) else {
            throw .unreadable(
                "column \(column) of \(values[row].first.flatMap { $0 } ?? "a row") is no integer")
        }
        return value
    }
    /// A column that holds a sequence number.
    package func sequence(_ row: Int, _ column: Int) throws(DatabaseError) -> UInt64 {
        guard let value = UInt64(exactly: try integer(row, column)) else {
            throw .unreadable("column \(column) of \(text(row, 0)) is below 0")
        }
        return value
    }
    /// A column of milliseconds since 1970.
    package func time(_ row: Int, _ column: Int) throws(DatabaseError) -> Timestamp {
        Timestamp(milliseconds: try integer(row, column))
    }

    /// The rows as `decode` reads them. A row that it cannot read is left out and reported.
    /// - Parameter limit: how many rows are decoded at most.
    package func decode<Value>(
        _ connection: PostgresConnection, limit: Int = .max,
        _ decode: (Int) throws(DatabaseError) -> Value
    ) -> [Value] {
        var decoded: [Value] = []
        for row in 0..<min(count, limit) {
            do throws(DatabaseError) {
                decoded.append(try decode(row))
            } catch {
                connection.reportUnreadable?(error.description)
            }
        }
        return decoded
    }
}

package final class PostgresConnection {
    /// How long the server works on a statement, and waits for a lock, before it gives up.
    package static let statementMilliseconds = 10_000
    package static let lockMilliseconds = 3_000
    /// How long a replica works on a statement before it gives up.
    static let readingMilliseconds = 3_000
    /// How long the server may stay silent beyond the statement timeout before it counts as lost. By then the
    /// server or the network has stalled.
    private static let silenceMarginMilliseconds = 2_000

    /// How often a waiting call checks how long the server has been silent.
    private static let pollMilliseconds: Int32 = 1_000
    /// The same where another server may take the place of the silent one.
    private static let shortPollMilliseconds: Int32 = 100
    /// How long the server may stay silent before the other servers are asked whether one takes writes.
    private static let doubtMilliseconds = 1_500

    /// SQL that sets up the session and returns the server's ``identity``. The settings are not sent as the
    /// parameter `options`, which PgBouncer refuses. A value from the connection string's own `options`
    /// stays, except that warnings must arrive.
    private static func session(statementMilliseconds: Int) -> String {
        """
        SELECT set_config(name, ours.value, false) FROM pg_settings JOIN (VALUES \
        ('statement_timeout', '\(statementMilliseconds)'), ('lock_timeout', '\(lockMilliseconds)'), \
        ('idle_in_transaction_session_timeout', '10000'), ('TimeZone', 'UTC'), \
        ('client_min_messages', 'warning')) AS ours (name, value) \
        USING (name) WHERE source <> 'client' OR name = 'client_min_messages'; \
        SELECT pg_postmaster_start_time()
        """
    }
    /// Connection parameters. The connection string overrides them.
    private static let parameters: KeyValuePairs<String, String> = [
        "connect_timeout": "2", "fallback_application_name": "gavelcast-bidapi",
        // The first is in milliseconds and detects a vanished host while we wait for it. The keepalives are
        // in seconds and detect it while nobody waits.
        "tcp_user_timeout": "10000", "keepalives_idle": "10", "keepalives_interval": "5",
        "keepalives_count": "3",
    ]

    // SAFETY: made in init, finished in deinit, used by the one thread that owns this object.
    private let connection: OpaquePointer
    private let servers: DatabaseServers
    /// False when no other server may replace this one. Also false for a connection that was itself made to
    /// find another server: otherwise such searches would never end.
    private let maySuspect: Bool
    /// How long the server may stay silent before it counts as lost. Until the first answer this is short,
    /// because a pooler without a free connection accepts a client and then stays silent.
    private var silenceMilliseconds = 2_500
    /// When the server was started, in microseconds: no two servers share it.
    private var identity = ""
    /// True while a commit has ended without the standby's confirmation, and no caller was told.
    // SAFETY: made in init, written by libpq within our own calls, freed in deinit after the connection.
    private let isUnconfirmed = UnsafeMutablePointer<Bool>.allocate(capacity: 1)
    private var prepared: [String: String] = [:]
    /// Called for each row that cannot be read and is left out.
    package var reportUnreadable: (@Sendable (String) -> Void)?
    /// Called on the waiting thread about once a second while a statement's answer is awaited, and possibly
    /// more often; not while connecting or running a script. Must not use this connection.
    package var whileWaiting: (() -> Void)?
    /// True after the connection was lost. It must not be used any more.
    package private(set) var isBroken = false

    /// True after the server refused a write because it is read-only. That transaction changed nothing.
    private(set) var hasRefusedWrites = false

    /// Connects; waits at most 2 s for each address.
    package convenience init(url: String) throws(DatabaseError) {
        try self.init(DatabaseServers(url))
    }

    /// Connects to the first server that accepts, and begins with the one that worked last.
    package convenience init(_ servers: DatabaseServers) throws(DatabaseError) {
        try self.init(servers, order: servers.order, maySuspect: servers.mayReplace)
    }

    /// - Parameter order: parameters that override those of the connection string.
    private init(
        _ servers: DatabaseServers, order: [(name: String, value: String)], maySuspect: Bool
    ) throws(DatabaseError) {
        self.servers = servers
        self.maySuspect = maySuspect
        // libpq takes the last value of several, so the connection string follows our defaults. Where writes
        // are needed, libpq picks the host that accepts them, and refuses a single one that does not.
        let attributes = servers.purpose == .everything ? "read-write" : "any"
        let names = Self.parameters.map(\.key) + ["target_session_attrs", "dbname"] + order.map(\.name)
        let values = Self.parameters.map(\.value) + [attributes, servers.url] + order.map(\.value)
        let pointer = Self.withCStrings(names) { names in
            Self.withCStrings(values) { values in
                // 1: `dbname` is a whole connection string.
                PQconnectdbParams(names, values, 1)
            }
        }
        guard let pointer else { throw .unavailable("out of memory") }
        guard PQstatus(pointer) == CONNECTION_OK else {
            let message = DatabaseURL.redacted(Self.trimmed(PQerrorMessage(pointer)), servers.url)
            PQfinish(pointer)
            throw .unavailable(message)
        }
        connection = pointer
        isUnconfirmed.initialize(to: false)
        receiveNotices()
        let session = Self.session(statementMilliseconds: servers.statementMilliseconds)
        identity = try simple(session).text(0, 0)
        silenceMilliseconds = servers.statementMilliseconds + Self.silenceMarginMilliseconds
        guard isFit else { return }
        servers.noteAccepted(
            identity, host: String(cString: PQhost(pointer)), port: String(cString: PQport(pointer)))
    }

    /// Connects to the first server of `order` that takes writes, and returns its identity; `nil` when there
    /// is none.
    static func identity(of servers: DatabaseServers, order: [(name: String, value: String)]) -> String? {
        do throws(DatabaseError) {
            let writing = order + [("target_session_attrs", "read-write")]
            return try PostgresConnection(servers, order: writing, maySuspect: false).identity
        } catch {
            return nil
        }
    }

    /// True when another server takes writes in place of this silent one.
    private var isReplaced: Bool {
        servers.suspect(
            identity, host: String(cString: PQhost(connection)), port: String(cString: PQport(connection)))
        return servers.isReplaced(identity)
    }

    /// Watches for the one notice that matters; all others (such as "already exists, skipping") are ignored.
    /// When the wait for a synchronous standby is cancelled, PostgreSQL reports the COMMIT as a success. Only
    /// this warning says that the standby may lack the commit. The server function that sends it identifies
    /// it, because its text is translated.
    private func receiveNotices() {
        PQsetNoticeReceiver(
            connection,
            { argument, result in
                guard let argument,
                    let source = PQresultErrorField(result, PostgresConnection.sourceFunction),
                    String(cString: source) == "SyncRepWaitForLSN"
                else { return }
                argument.assumingMemoryBound(to: Bool.self).pointee = true
            }, isUnconfirmed)
    }

    /// libpq's PG_DIAG_SOURCE_FUNCTION.
    private static let sourceFunction = Int32(UInt8(ascii: "R"))

    /// Throws when a commit has ended without the standby's confirmation. It stands on this server, but a
    /// failover may lose it.
    private func requireConfirmation() throws(DatabaseError) {
        guard isUnconfirmed.pointee else { return }
        isUnconfirmed.pointee = false
        throw .unavailable("the standby has not confirmed the commit")
    }

    deinit {
        PQfinish(connection)
        isUnconfirmed.deallocate()
    }

    /// True while the server has not closed the connection and, as far as it has said, takes writes.
    /// Reads the socket without a query. The first read may return only the server's last message; the second
    /// then sees the end of the stream.
    package var isStillOpen: Bool {
        !isBroken && PQconsumeInput(connection) == 1 && PQconsumeInput(connection) == 1
            && PQstatus(connection) == CONNECTION_OK && isFit && !servers.isReplaced(identity)
    }

    /// True when the server takes what the connection is for, as far as it has said.
    private var isFit: Bool { servers.purpose == .reading || !isReadOnly }

    /// True when the server's last answer said that it takes no writes (PostgreSQL 14 and newer say so). Such
    /// a connection is useless even for reading: another server may be the right one.
    private var isReadOnly: Bool {
        ["default_transaction_read_only", "in_hot_standby"].contains { (name: String) in
            PQparameterStatus(connection, name).map { String(cString: $0) } == "on"
        }
    }

    /// Asks the server whether it takes writes; throws, and ends the connection, when it does not.
    package func requireWritable() throws(DatabaseError) {
        guard !servers.isReplaced(identity) else {
            isBroken = true
            throw .unavailable("another server takes the writes")
        }
        guard try query("SHOW transaction_read_only").text(0, 0) != "on" else {
            isBroken = true
            hasRefusedWrites = true
            throw .unavailable("the server takes no writes")
        }
    }

    /// Runs SQL text without parameters, of several statements if need be; waits as long as they take.
    package func script(_ sql: String) throws(DatabaseError) {
        _ = try rows(PQexec(connection, sql))
        try requireConfirmation()
    }

    /// Runs SQL text without parameters in libpq's simple protocol, which leaves nothing on the server.
    /// Returns the last statement's rows.
    func simple(_ sql: String) throws(DatabaseError) -> Rows {
        guard PQsendQuery(connection, sql) == 1 else { throw lost() }
        var last: Rows?
        var failure: DatabaseError?
        while let result = try nextResult() {
            do throws(DatabaseError) { last = try rows(result) } catch { failure = error }
        }
        if let failure { throw failure }
        try requireConfirmation()
        guard let last else { throw lost() }
        return last
    }

    /// Commits a transaction that only has to wait. When it has returned, every earlier commit that this
    /// connection can see is on the synchronous standbys too, if there are any.
    func confirmCommits() throws(DatabaseError) {
        // Without something written, COMMIT would not wait.
        let write = Statement("SELECT pg_logical_emit_message(true, 'gavelcast', '')::text")
        _ = try pipeline([Statement("BEGIN"), write, Statement("COMMIT")])
    }

    /// Makes the server end a transaction that idles for this long, and this connection with it.
    package func endIdleTransactions(afterMilliseconds milliseconds: Int) throws(DatabaseError) {
        try query("SET idle_in_transaction_session_timeout = \(milliseconds)")
    }

    @discardableResult
    package func query(_ sql: String, _ parameters: [String?] = []) throws(DatabaseError) -> Rows {
        try pipeline([Statement(sql, parameters)])[0]
    }

    /// Runs the statements in one round trip. When one fails, the rest are skipped and its error is thrown.
    package func pipeline(_ statements: [Statement]) throws(DatabaseError) -> [Rows] {
        for statement in statements { try prepare(statement.sql) }
        guard PQenterPipelineMode(connection) == 1 else { throw lost() }
        for statement in statements {
            let sent = Self.withCStrings(statement.parameters) { values in
                PQsendQueryPrepared(
                    connection, prepared[statement.sql], Int32(statement.parameters.count), values, nil, nil,
                    0)
            }
            guard sent == 1 else { throw lost() }
        }
        guard PQpipelineSync(connection) == 1 else { throw lost() }
        var results: [Rows] = []
        var failure: DatabaseError?
        for _ in statements {
            do throws(DatabaseError) {
                results.append(try rows(nextResult()))
            } catch {
                if failure == nil { failure = error }
                if isBroken { throw error }
            }
            // The end of this statement's results.
            PQclear(try nextResult())
        }
        PQclear(try nextResult())
        guard PQexitPipelineMode(connection) == 1 else { throw lost() }
        if let failure { throw failure }
        try requireConfirmation()
        return results
    }

    /// Runs reading statements in one round trip, all of one moment.
    package func snapshot(_ statements: [Statement]) throws(DatabaseError) -> [Rows] {
        let begin = Statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        do throws(DatabaseError) {
            return Array(try pipeline([begin] + statements + [Statement("COMMIT")])[1...statements.count])
        } catch {
            rollBack()
            throw error
        }
    }

    /// Runs `body` between BEGIN and COMMIT; on an error everything is rolled back.
    package func transaction<Result>(
        _ body: () throws(DatabaseError) -> Result
    ) throws(DatabaseError) -> Result {
        try query("BEGIN")
        do throws(DatabaseError) {
            let result = try body()
            try query("COMMIT")
            return result
        } catch {
            rollBack()
            throw error
        }
    }

    /// Ends a transaction that must not be committed; when that fails the connection is not used again.
    package func rollBack() {
        guard !isBroken else { return }
        do throws(DatabaseError) {
            try query("ROLLBACK")
        } catch {
            isBroken = true
        }
    }

    // MARK: Results

    private func prepare(_ sql: String) throws(DatabaseError) {
        guard prepared[sql] == nil else { return }
        let name = "s\(prepared.count)"
        guard PQsendPrepare(connection, name, sql, 0, nil) == 1 else { throw lost() }
        let result = try nextResult()
        PQclear(try nextResult())
        _ = try rows(result)
        prepared[sql] = name
    }

    /// The next result of what was sent, `nil` at the end of a statement's; the caller frees it.
    private func nextResult() throws(DatabaseError) -> OpaquePointer? {
        let start = DispatchTime.now()
        let doubt = start + .milliseconds(Self.doubtMilliseconds)
        while PQisBusy(connection) == 1 {
            var target = pollfd(fd: PQsocket(connection), events: Int16(POLLIN), revents: 0)
            // Before the first answer, nobody knows which server this is.
            let isDoubtful = maySuspect && !identity.isEmpty && DispatchTime.now() >= doubt
            let wait = maySuspect ? Self.shortPollMilliseconds : Self.pollMilliseconds
            guard DispatchTime.now() < start + .milliseconds(silenceMilliseconds),
                poll(&target, 1, wait) >= 0 || errno == EINTR
            else {
                isBroken = true
                throw .unavailable("no answer within \(silenceMilliseconds) ms")
            }
            guard PQconsumeInput(connection) == 1 else { throw lost() }
            guard PQisBusy(connection) == 1 else { break }
            whileWaiting?()
            if isDoubtful, isReplaced {
                isBroken = true
                throw .unavailable("the server is silent, and another one takes the writes")
            }
        }
        return PQgetResult(connection)
    }

    private func rows(_ result: OpaquePointer?) throws(DatabaseError) -> Rows {
        guard let result else { throw lost() }
        defer { PQclear(result) }
        switch PQresultStatus(result) {
        case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: return Rows([])
        case PGRES_TUPLES_OK:
            let columns = PQnfields(result)
            return Rows(
                (0..<PQntuples(result)).map { row in
                    (0..<columns).map { column in
                        PQgetisnull(result, row, column) == 1
                            ? nil : String(cString: PQgetvalue(result, row, column))
                    }
                })
        case PGRES_PIPELINE_ABORTED: throw .refused(sqlState: "25P02", message: "skipped after an error")
        default: throw failure(result)
        }
    }

    private func failure(_ result: OpaquePointer) -> DatabaseError {
        if PQstatus(connection) != CONNECTION_OK { return lost() }
        let field = { (code: Character) in
            PQresultErrorField(result, Int32(code.asciiValue ?? 0)).map { String(cString: $0) }
        }
        let sqlState = field("C") ?? ""
        let message = field("M") ?? Self.trimmed(PQresultErrorMessage(result))
        if sqlState == "23505" { return .conflict(constraint: field("n") ?? "") }
        guard Self.isTransient(sqlState) else { return .refused(sqlState: sqlState, message: message) }
        // After an administrator's shutdown or an idle transaction's end, the server closes the connection
        // right after the message. Leave a read-only server too, so that the next connection finds a writable
        // one.
        if sqlState == Self.readOnly { hasRefusedWrites = true }
        if sqlState.hasPrefix("57P") || sqlState == Self.idleTimeout || sqlState == Self.readOnly {
            isBroken = true
        }
        return .unavailable("\(sqlState) \(message)")
    }

    private static let idleTimeout = "25P03"
    private static let readOnly = "25006"

    /// Connection exceptions, insufficient resources, operator intervention, lock time-outs, serialization
    /// failures and read-only servers: nothing is wrong with the statement.
    private static func isTransient(_ sqlState: String) -> Bool {
        switch sqlState {
        case "55P03", "40001", "40P01", readOnly, idleTimeout, "": true
        default: ["08", "53", "57"].contains(sqlState.prefix(2))
        }
    }

    private func lost() -> DatabaseError {
        isBroken = true
        return .unavailable(Self.trimmed(PQerrorMessage(connection)))
    }

    private static func trimmed(_ message: UnsafePointer<CChar>?) -> String {
        guard let message else { return "no reason given" }
        return String(cString: message).split(separator: "\n").joined(separator: "; ")
    }

    /// Calls `body` with a NULL-terminated array of C strings; `nil` elements become NULL.
    // SAFETY: the copies live until `body` has returned and are freed here.
    private static func withCStrings<Result>(
        _ texts: [String?], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
    ) -> Result {
        let copies: [UnsafeMutablePointer<CChar>?] = texts.map { text in
            guard let text else { return nil }
            let bytes = text.utf8CString
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
            for (offset, byte) in bytes.enumerated() { copy[offset] = byte }
            return copy
        }
        defer { for copy in copies { copy?.deallocate() } }
        let pointers = copies.map { UnsafePointer($0) } + [nil]
        return pointers.withUnsafeBufferPointer { body($0.baseAddress!) }
    }
}
