// Doing things at once, and what is shared meanwhile.

import Foundation
import Testing

/// Runs the bodies at once, each on a thread of its own, and waits for all; the first error is thrown.
func together<Result: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (Int) throws -> Result
) throws -> [Result] {
    let results = Results<Result>()
    let group = DispatchGroup()
    for index in 0..<count {
        group.enter()
        let thread = Thread {
            let result = Swift.Result { try body(index) }
            results.set(index, result)
            group.leave()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }
    group.wait()
    return try (0..<count).map { try results.get($0).get() }
}

private final class Results<Value: Sendable>: Sendable {
    private let values = Locked<[Int: Swift.Result<Value, any Error>]>([:])
    func set(_ index: Int, _ result: Swift.Result<Value, any Error>) { values.with { $0[index] = result } }
    func get(_ index: Int) -> Swift.Result<Value, any Error> { values.with { $0[index]! } }
}

/// A value behind a lock.
final class Locked<Value: Sendable>: Sendable {
    private nonisolated(unsafe) var value: Value
    private let lock = NSLock()

    init(_ value: Value) { self.value = value }

    func with<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        try lock.withLock { try body(&value) }
    }
}

/// Lets a client that one thread made be used by the next.
struct Carried: Sendable {
    nonisolated(unsafe) let value: Watcher
    init(_ value: Watcher) { self.value = value }
}
