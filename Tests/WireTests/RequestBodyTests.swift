import Testing
import Wire

@Suite struct RequestBodyTests {
    private func head(_ fields: String) throws -> RequestHead {
        let bytes = Array("POST / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n\r\n".utf8)
        guard case .complete(let head, _) = RequestHead.parse(bytes.span) else {
            throw Refused()
        }
        return head
    }

    private struct Refused: Error {}

    /// What a body comes to when its bytes arrive in pieces of `size`: its text and what is left over, or the
    /// fault.
    private func read(_ text: String, _ fields: String, size: Int = .max, limit: Int = 1_000) throws -> String
    {
        guard var body = RequestBody(try head(fields), maximumBytes: limit) else { return "tooLarge" }
        var rest = Array(text.utf8)[...]
        repeat {
            let piece = Array(rest.prefix(size))
            switch body.take(piece.span) {
            case .more(let consumed): rest = rest.dropFirst(consumed)
            case .complete(let consumed):
                return String(decoding: body.bytes, as: UTF8.self) + "|"
                    + String(decoding: rest.dropFirst(consumed), as: UTF8.self)
            case .malformed: return "malformed"
            case .tooLarge: return "tooLarge"
            }
        } while !rest.isEmpty
        return "incomplete"
    }

    @Test(
        "bodies end where their length or their last chunk says, however they are cut",
        arguments: [1, 2, 7, 1_000])
    func reads(size: Int) throws {
        #expect(try read("helloGET", "Content-Length: 5", size: size) == "hello|GET")
        let chunks = "5;name=value\r\nhello\r\nA\r\n, world...\r\n0\r\nTrailer: x\r\n\r\nGET"
        #expect(try read(chunks, "Transfer-Encoding: chunked", size: size) == "hello, world...|GET")
        #expect(try read("0\r\n\r\n", "Transfer-Encoding: Chunked", size: size) == "|")
    }

    @Test(
        "chunks that two servers could read differently are refused",
        arguments: [
            "5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "\r\n", "x\r\n",
            "-5\r\n",
            "+5\r\nhello", "0x5\r\nhello", " 5\r\nhello", "5 \r\nhello", "00000005\r\nhello", "5\r\rhello",
            "0\r\nA: b\n\r\n", "5;\u{0}\r\nhello", "0\r\n\rX",
        ])
    func refuses(chunks: String) throws {
        #expect(try read(chunks, "Transfer-Encoding: chunked") == "malformed")
        #expect(try read(chunks, "Transfer-Encoding: chunked", size: 1) == "malformed")
    }

    @Test("bodies over the bound are refused before they are read")
    func bounds() throws {
        #expect(try read("", "Content-Length: 1001") == "tooLarge")
        #expect(try read("3E9\r\n", "Transfer-Encoding: chunked") == "tooLarge")
        let chunks = String(repeating: "64\r\n" + String(repeating: "x", count: 100) + "\r\n", count: 11)
        #expect(try read(chunks, "Transfer-Encoding: chunked") == "tooLarge")
        let trailer = "0\r\nX: " + String(repeating: "y", count: 5_000)
        #expect(try read(trailer, "Transfer-Encoding: chunked") == "malformed")
    }
}
