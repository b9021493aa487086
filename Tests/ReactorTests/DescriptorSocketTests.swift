import CLinux
import Foundation
import Glibc
import Testing

@testable import Reactor

@Suite struct DescriptorSocketTests {
    private let address = SocketAddress(path: "/tmp/gavelcast-\(UUID().uuidString.prefix(8)).sock")!

    private func pair() throws -> (DescriptorSocket, DescriptorSocket) {
        let listener = try DescriptorSocket.listen(on: address)
        defer { Sockets.close(listener) }
        let client = try #require(try DescriptorSocket.connect(to: address))
        unlink(address.path!)
        return (client, try #require(DescriptorSocket.accept(listener)))
    }

    @Test("messages keep their bounds, and descriptors arrive with their message")
    func messages() throws {
        let (one, other) = try pair()
        var pipe: [Int32] = [0, 0]
        #expect(Glibc.pipe(&pipe) == 0)
        let long = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
        let ends = pipe
        let sending = Thread { try? one.send(long, descriptors: ends) }
        sending.start()
        let first = try #require(try other.receive(atMost: long.count))
        #expect(first.bytes == long && first.descriptors.count == 2)
        try one.send([])
        try one.send([1, 2])
        #expect(try other.receive(atMost: 10)?.bytes == [])
        let third = try #require(try other.receive(atMost: 10))
        #expect(third.bytes == [1, 2] && third.descriptors.isEmpty)
        // The copies lead to the same pipe.
        #expect(write(first.descriptors[1], [9], 1) == 1)
        var byte: UInt8 = 0
        #expect(read(pipe[0], &byte, 1) == 1 && byte == 9)
        for descriptor in pipe + first.descriptors { Sockets.close(descriptor) }
        #expect(other.peer?.process == getpid() && other.peer?.user == getuid())
    }

    @Test("a message that is too long is refused, and its descriptors are closed; silence ends")
    func refusals() throws {
        let (one, other) = try pair()
        try one.send([UInt8](repeating: 0, count: 11), descriptors: [0])
        #expect(throws: Errno(code: EBADMSG, call: "receive from the other process")) {
            try other.receive(atMost: 10)
        }
        let (quiet, waiting) = try pair()
        waiting.setPatience(seconds: 1)
        #expect(throws: Errno(code: EAGAIN, call: "receive from the other process")) {
            try waiting.receive(atMost: 10)
        }
        try quiet.send([1])
        #expect(try waiting.receive(atMost: 10)?.bytes == [1])
    }

    @Test("a listener takes the place of another one, but not of a file; only its user may connect")
    func places() throws {
        let path = try #require(address.path)
        #expect(try DescriptorSocket.connect(to: address) == nil)
        let old = try DescriptorSocket.listen(on: address)
        var status = stat()
        #expect(lstat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        let new = try DescriptorSocket.listen(on: address)
        let client = try #require(try DescriptorSocket.connect(to: address))
        let server = try #require(DescriptorSocket.accept(new))
        try client.send([5])
        #expect(try server.receive(atMost: 1)?.bytes == [5])
        Sockets.close(old)
        Sockets.close(new)
        #expect(try DescriptorSocket.connect(to: address) == nil, "nobody listens")
        unlink(path)
        try Data("text".utf8).write(to: URL(fileURLWithPath: path))
        #expect(throws: Errno.self) { try DescriptorSocket.listen(on: address) }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "text")
        unlink(path)
    }
}
