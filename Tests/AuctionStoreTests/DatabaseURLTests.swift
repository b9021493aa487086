import Testing

@testable import AuctionStore

@Suite struct DatabaseURLTests {
    @Test(
        "what libpq takes is accepted",
        arguments: [
            "postgresql://127.0.0.1:5432/gavelcast", "postgresql://u:p%40w@h1,h2:5433/d?connect_timeout=3",
            "postgresql:///d?host=/tmp", "host=h dbname=d", "postgresql://h/d?target_session_attrs=any",
        ])
    func accepted(url: String) {
        #expect(DatabaseURL.fault(url) == nil)
    }

    @Test(
        "a URL that cannot work is refused, and the fault repeats no part of the password",
        arguments: [
            "http://h/d", "postgresql://u:se/cret@h/d", "postgresql://u:se@cret@h/d", "postgresql://h:0/d",
            "postgresql://h:70000/d", "host=h1,h2,h3 port=1,2 dbname=d",
            "postgresql://u:secret@h/d?sslmode=maybe",
            "postgresql://u:secret@h/d?connect_timeout=soon",
            "postgresql://u:secret@h/d?sslrootcert=/no/file",
            "postgresql://u:secret@h/d?nonsense=1",
        ])
    func refused(url: String) throws {
        let fault = try #require(DatabaseURL.fault(url))
        #expect(!fault.contains("cret") && !fault.contains("\n"))
    }

    @Test("a message of libpq's is passed on without the password")
    func redaction() {
        let url = "postgresql://u:p%2Fw@h/d"
        #expect(DatabaseURL.redacted("bad p/w for u", url) == "bad *** for u")
        #expect(DatabaseURL.redacted("bad", "postgresql://h/d") == "bad")
    }
}
