import CLinux
import Glibc
import Reactor
import Testing

@Suite struct SocketsTests {
    @Test("a full socket and a kernel short of memory are temporary, and a broken connection is not")
    func temporary() {
        for code in [EAGAIN, EWOULDBLOCK, EINTR, ENOBUFS] { #expect(Sockets.isTemporary(code), "\(code)") }
        for code in [EPIPE, ECONNRESET, ETIMEDOUT, EBADF, 0] {
            #expect(!Sockets.isTemporary(code), "\(code)")
        }
    }

    @Test("a socket tells bytes, an empty or full buffer, the peer's end and a broken connection apart")
    func outcomes() throws {
        var pair: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(gavelcast_stream | gavelcast_nonblocking), 0, &pair) == 0)
        var buffer = [UInt8](repeating: 7, count: 65_536)
        #expect(buffer.withUnsafeMutableBytes { Sockets.receive(pair[0], into: $0) } == .wouldBlock)
        var outcome = Sockets.Outcome.bytes(0)
        while outcome.isBytes { outcome = buffer.withUnsafeBytes { Sockets.send(pair[1], $0) } }
        #expect(outcome == .wouldBlock)
        #expect(buffer.withUnsafeMutableBytes { Sockets.receive(pair[0], into: $0) } == .bytes(65_536))
        Sockets.close(pair[1])
        repeat {
            outcome = buffer.withUnsafeMutableBytes { Sockets.receive(pair[0], into: $0) }
        } while outcome.isBytes
        #expect(outcome == .closed)
        #expect(buffer.withUnsafeBytes { Sockets.send(pair[0], $0) } == .failed(EPIPE))
        Sockets.close(pair[0])
    }

    @Test("a failure to listen says what to do")
    func listeningFailures() throws {
        func failure(_ address: SocketAddress?) throws -> String {
            let address = try #require(address)
            let error = #expect(throws: Errno.self) {
                try Sockets.listen(on: address, sharesPort: false)
            }
            return error?.listeningFailure ?? ""
        }
        let listener = try Sockets.listen(on: SocketAddress(host: "127.0.0.1", port: 0), sharesPort: false)
        defer { Sockets.close(listener) }
        #expect(try failure(SocketAddress.local(of: listener)).contains("another program uses the address"))
        #expect(try failure(SocketAddress(path: "/tmp/no-such-folder/x")).contains("create the folder"))
        #expect(try failure(SocketAddress(path: "/proc/self/status")).contains("is not a socket"))
        #expect(try failure(SocketAddress(host: "192.0.2.1", port: 1)).contains("no such address"))
    }

    @Test("a Unix listener removes its own socket file, and not that of a successor")
    func socketFiles() throws {
        let path = "/tmp/gavelcast-\(getpid()).sock"
        let address = try #require(SocketAddress(path: path))
        let first = try Sockets.listen(on: address, sharesPort: false)
        let own = try #require(SocketFile(listeningOn: address))
        Sockets.close(first)
        let second = try Sockets.listen(on: address, sharesPort: false)
        let successor = try #require(SocketFile(listeningOn: address))
        own.remove()
        #expect(access(path, F_OK) == 0)
        Sockets.close(second)
        #expect(chmod(path, 0o600) == 0)
        successor.remove()
        #expect(access(path, F_OK) != 0)
        #expect(SocketFile(listeningOn: SocketAddress(host: "127.0.0.1", port: 1)) == nil)
    }
}

extension Sockets.Outcome {
    fileprivate var isBytes: Bool {
        if case .bytes = self { true } else { false }
    }
}
