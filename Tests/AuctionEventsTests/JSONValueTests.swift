import AuctionEvents
import Foundation
import TestSupport
import Testing

@Suite struct JSONValueTests {
    private func read(_ text: String) -> Result<JSONValue, JSONValue.Failure> {
        do throws(JSONValue.Failure) {
            return .success(try JSONValue(Array(text.utf8).span))
        } catch {
            return .failure(error)
        }
    }

    @Test("values are read with their kinds, strings without escapes, numbers as they were written")
    func reads() {
        let text = #" {"a":[1.50,-2e3,true,null],"b":{"\u0063":"x\n\ud83d\udd28\"\/"},"d":""} "#
        #expect(
            read(text)
                == .success(
                    .object([
                        "a": .array([.number("1.50"), .number("-2e3"), .boolean(true), .null]),
                        "b": .object(["c": .string("x\n\u{1F528}\"/")]), "d": .string(""),
                    ])))
        for scalar in ["1", #""x""#, "null", "[]", "{}"] { #expect((try? read(scalar).get()) != nil) }
    }

    @Test(
        "what RFC 8259 does not allow is refused",
        arguments: [
            #"{"amount":7,}"#, "[1,]", "{,}", "", " ", "{} {}", "[1 2]", #"{"a" 1}"#, "01", "1.", ".5", "+1",
            "NaN",
            #"{"a":1"#, "[", "tru", "'a'", #""\x""#, "\"\t\"", "// c\n1", "\u{FEFF}{}",
        ])
    func malformed(text: String) {
        #expect(read(text) == .failure(.malformed))
    }

    @Test(
        "a member that is there twice is refused",
        arguments: [#"{"a":1,"a":1}"#, #"[{"b":{"a":1,"\u0061":2}}]"#])
    func duplicates(text: String) {
        #expect(read(text) == .failure(.duplicateMember))
    }

    @Test("half of a surrogate pair is no text", arguments: [#""\ud800""#, #""\udc00x""#, #"{"\ud83dx":1}"#])
    func surrogates(text: String) {
        #expect(read(text) == .failure(.loneSurrogate))
    }

    @Test("depth is bounded")
    func depth() {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect((try? read(nested(JSONScanner.maximumDepth - 1)).get()) != nil)
        #expect(read(nested(JSONScanner.maximumDepth)) == .failure(.malformed))
        #expect(read(nested(100_000)) == .failure(.malformed))
    }

    @Test("what Foundation reads as an object with distinct keys is read to the same, and the reverse")
    func agrees() throws {
        var generator = SeededGenerator.announced("JSON values")
        let pieces = [
            "{", "}", "[", "]", ",", ":", #""a""#, #""b\u0063""#, "1", "-0.5e1 ", "true", "null", " ",
            #""\n""#,
        ]
        var accepted = 0
        for _ in 0..<200_000 {
            let count = Int.random(in: 1...9, using: &generator)
            let text = (0..<count).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &generator)] }
                .joined()
            guard case .success = read(text) else { continue }
            accepted += 1
            let options: JSONSerialization.ReadingOptions = [.fragmentsAllowed]
            #expect(
                (try? JSONSerialization.jsonObject(with: Data(text.utf8), options: options)) != nil,
                "only we read \(text)")
        }
        #expect(accepted > 1_000)
    }
}
