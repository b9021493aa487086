import AuctionEvents
import Foundation
import TestSupport
import Testing

@Suite struct JSONScannerTests {
    /// The members as `key=value`, or `nil` when the text is refused.
    private func members(_ text: String) -> [String]? {
        let bytes = Array(text.utf8)
        var scanner = JSONScanner()
        var found: [String] = []
        do throws(JSONScanner.Failure) {
            while let member = try scanner.next(in: bytes.span) {
                found.append(
                    String(decoding: bytes[member.key], as: UTF8.self) + "="
                        + String(decoding: bytes[member.value], as: UTF8.self))
            }
            return found
        } catch {
            return nil
        }
    }

    @Test("members of an object are found with their values")
    func finds() {
        #expect(
            members(#" { "a" : 1 , "b":"x\"y" , "c":{"d":[1,{}]},"e":null } "#) == [
                "a=1", #"b=x\"y"#, #"c={"d":[1,{}]}"#, "e=null",
            ])
        #expect(members("{}") == [])
        #expect(members("\t{\n}\r\n") == [])
    }

    @Test("numbers follow RFC 8259", arguments: ["0", "-0", "10", "1.5", "-1.5e10", "1E+2", "1e-2"])
    func acceptsNumbers(number: String) {
        #expect(members("{\"n\":\(number)}") == ["n=\(number)"])
    }

    @Test(
        "what is no object, or malformed, is refused",
        arguments: [
            "", " ", "[]", "1", "null", "\"a\"", "{", "}", "{}{}", "{} x", "{,}", #"{"a"}"#, #"{"a":}"#,
            #"{"a":1,}"#,
            #"{a:1}"#, #"{'a':1}"#, #"{"a":01}"#, #"{"a":1.}"#, #"{"a":.5}"#, #"{"a":+1}"#, #"{"a":--1}"#,
            #"{"a":1e}"#,
            #"{"a":tru}"#, #"{"a":True}"#, #"{"a":nul}"#, #"{"a":"\x"}"#, #"{"a":"\u12g4"}"#,
            #"{"a":"\u12"}"#, #"{"a":"b}"#,
            "{\"a\":\"\n\"}", #"{"a":[1,]}"#, #"{"a":[1 2]}"#, #"{"a":{"b"}}"#, #"{"a":[}"#,
            #"{"a":1 "b":2}"#, "{\"a\":NaN}",
        ])
    func refuses(text: String) {
        #expect(members(text) == nil)
    }

    @Test("every proper prefix of an object is refused")
    func refusesPrefixes() {
        let text =
            #"{"type":"BID_UPDATE","seq":12,"bid":{"amount":1.50,"who":"ü\n"},"list":[true,false,null]}"#
        let bytes = Array(text.utf8)
        for count in 0..<bytes.count {
            var scanner = JSONScanner()
            let prefix = Array(bytes[..<count])
            #expect(throws: JSONScanner.Failure.malformed) {
                while try scanner.next(in: prefix.span) != nil {}
            }
        }
        #expect(members(text)?.count == 4)
    }

    @Test("nesting beyond the limit is refused and does not exhaust the stack")
    func boundsNesting() {
        let deep = { (depth: Int) in
            #"{"a":"# + String(repeating: "[", count: depth) + String(repeating: "]", count: depth) + "}"
        }
        #expect(members(deep(JSONScanner.maximumDepth - 1)) != nil)
        #expect(members(deep(JSONScanner.maximumDepth)) == nil)
        #expect(members(deep(1_000_000)) == nil)
    }

    private func hasDuplicate(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        var scanner = JSONScanner()
        do throws(JSONScanner.Failure) {
            while try scanner.next(in: bytes.span) != nil {}
            return false
        } catch {
            return error == .duplicateMember
        }
    }

    @Test("the scanner agrees with Foundation's parser on randomly damaged text")
    func agreesWithFoundation() {
        var generator = SeededGenerator.announced("JSON damage")
        let base = Array(#"{"type":"A","seq":10,"x":[1,2.5,{"y":"z\u00e9"}],"t":true,"n":null}"#.utf8)
        let alphabet = Array(#"{}[]",:\0123456789.eE+-truefalsn "#.utf8)
        for _ in 0..<20_000 {
            var bytes = base
            for _ in 0...Int.random(in: 0...2, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = alphabet.randomElement(
                    using: &generator)!
            }
            let text = String(decoding: bytes, as: UTF8.self)
            // It also takes an object with a member twice, and keeps one of them.
            let ours = members(text) != nil || hasDuplicate(text)
            let theirs = (try? JSONSerialization.jsonObject(with: Data(bytes))) as? [String: Any] != nil
            // Foundation refuses lone surrogates and numbers it cannot hold, which RFC 8259 leaves open.
            if theirs { #expect(ours, "\(text)") }
        }
    }
}
