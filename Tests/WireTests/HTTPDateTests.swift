import Foundation
import TestSupport
import Testing
import Wire

@Suite struct HTTPDateTests {
    @Test("the date is written as RFC 9110 says, in every year that matters")
    func writes() {
        #expect(HTTPDate.text(seconds: 784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(HTTPDate.text(seconds: 0) == "Thu, 01 Jan 1970 00:00:00 GMT")
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        var generator = SeededGenerator.announced("dates")
        for _ in 0..<2_000 {
            let seconds = Int64.random(in: 0..<7_000_000_000, using: &generator)
            let expected = formatter.string(from: Date(timeIntervalSince1970: TimeInterval(seconds)))
            #expect(HTTPDate.text(seconds: seconds) == expected)
        }
    }
}
