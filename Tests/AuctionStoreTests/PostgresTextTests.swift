import Testing

@testable import AuctionStore

@Suite struct PostgresTextTests {
    @Test("elements of an array literal are quoted, escaped, or NULL")
    func arrays() {
        #expect(PostgresText.array([String?]()) == "{}")
        #expect(PostgresText.array(["a", nil, "", "NULL"]) == #"{"a",NULL,"","NULL"}"#)
        #expect(PostgresText.array([#"a"b\c,{}"#]) == #"{"a\"b\\c,{}"}"#)
        #expect(PostgresText.array(["é😀\n"]) == "{\"é😀\n\"}")
        #expect(PostgresText.array([Int64.min, 0, 7]) == "{-9223372036854775808,0,7}")
    }
}
